/* What is printed about an exception that nobody expected. */

#include <stdint.h>

#include "freestanding.h"

_Noreturn void exception_report(uint64_t vector, uint64_t error, uint64_t address, uint64_t pc,
                                uint64_t sp);

/* The vectors of processor exceptions (SDM 6.3.1, table 6-1). */
static const char *vector_name(uint64_t vector)
{
    switch (vector) {
    case 0: return "divide error";
    case 2: return "non-maskable interrupt";
    case 3: return "breakpoint";
    case 6: return "undefined instruction";
    case 7: return "floating point is off";
    case 8: return "double fault";
    case 10: return "invalid task state";
    case 11: return "segment not present";
    case 12: return "stack fault";
    case 13: return "general protection";
    case 14: return "page fault";
    case 17: return "alignment check";
    case 18: return "machine check";
    default: return "exception not known";
    }
}

/* Bits of a page fault's error code (SDM 4.7). */
static const char *reason(uint64_t error)
{
    if (error & 8)
        return "reserved bit set";
    return error & 1 ? "permission" : "not present";
}

/* Print all that the processor says, and leave the machine with a failure. */
_Noreturn void exception_report(uint64_t vector, uint64_t error, uint64_t address, uint64_t pc,
                                uint64_t sp)
{
    if (report_begins(vector_name(vector))) {
        if (vector == 14)
            kernmem_print("  %s, %s of %#llx\n", reason(error),
                          error & 16 ? "execute" : error & 2 ? "write" : "read",
                          (unsigned long long)address);
        kernmem_print("  vector %llu, error code %#llx, CR2 %#llx\n", (unsigned long long)vector,
                      (unsigned long long)error, (unsigned long long)address);
    }
    report_ends(pc, 0, sp);
}
