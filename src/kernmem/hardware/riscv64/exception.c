/* What is printed about a trap that nobody expected. */

#include <stdint.h>

#include "freestanding.h"

_Noreturn void exception_report(uint64_t cause, uint64_t value, uint64_t pc, uint64_t caller,
                                uint64_t sp);

/* Priv, "Supervisor Cause Register". */
static const char *cause_name(uint64_t cause)
{
    switch (cause) {
    case 0: return "instruction address misaligned";
    case 1: return "instruction access fault";
    case 2: return "illegal instruction";
    case 3: return "breakpoint";
    case 4: return "load address misaligned";
    case 5: return "load access fault";
    case 6: return "store address misaligned";
    case 7: return "store access fault";
    case 8: return "environment call from user mode";
    case 9: return "environment call from supervisor mode";
    case 12: return "instruction page fault";
    case 13: return "load page fault";
    case 15: return "store page fault";
    default: return cause >> 63 ? "interrupt" : "cause not known";
    }
}

/* Print all that the processor says, and leave the machine with a failure.  `caller` is the
 * return address register: exact if the function at `pc` calls no other. */
_Noreturn void exception_report(uint64_t cause, uint64_t value, uint64_t pc, uint64_t caller,
                                uint64_t sp)
{
    if (report_begins(cause_name(cause)))
        kernmem_print("  scause %#llx, stval %#llx\n", (unsigned long long)cause,
                      (unsigned long long)value);
    report_ends(pc, caller, sp);
}
