/* What is printed about an exception that nobody expected. */

#include <stdint.h>

#include "freestanding.h"

_Noreturn void exception_report(uint64_t vector, uint64_t syndrome, uint64_t address,
                                uint64_t pc, uint64_t caller, uint64_t sp);

/* The exception class, bits 31:26 of the syndrome (DDI 0487, ESR_EL1.EC). */
static const char *class_name(uint64_t syndrome)
{
    switch (syndrome >> 26) {
    case 0x00: return "unknown reason or undefined instruction";
    case 0x07: return "floating point is off";
    case 0x0e: return "illegal execution state";
    case 0x15: return "supervisor call";
    case 0x18: return "system register access is trapped";
    case 0x20: return "instruction abort from EL0";
    case 0x21: return "instruction abort";
    case 0x22: return "pc alignment";
    case 0x24: return "data abort from EL0";
    case 0x25: return "data abort";
    case 0x26: return "sp alignment";
    case 0x2f: return "asynchronous SError";
    case 0x3c: return "breakpoint";
    default: return "exception class not known";
    }
}

/* The fault status of an abort, bits 5:2 of the syndrome; bits 1:0 are the level. */
static const char *status_name(uint64_t syndrome)
{
    switch (syndrome >> 2 & 0xf) {
    case 0x0: return "address size fault";
    case 0x1: return "translation fault";
    case 0x2: return "access flag fault";
    case 0x3: return "permission fault";
    case 0x4: return "external abort";
    case 0x8: return "alignment fault";
    case 0xc: return "TLB conflict";
    default: return "fault status not known";
    }
}

/* "hlt #0xf000" asks a debugger to end the run; without one it is an undefined instruction. */
static int is_semihosting(uint64_t syndrome, uint64_t pc)
{
    return syndrome >> 26 == 0 && *(const uint32_t *)pc == 0xd45e0000;
}

static int is_abort(uint64_t syndrome)
{
    return syndrome >> 26 == 0x20 || syndrome >> 26 == 0x21 || syndrome >> 26 == 0x24 ||
           syndrome >> 26 == 0x25;
}

/* Print all that the processor says, and leave the machine with a failure.  `caller` is the link
 * register: exact if the function at `pc` calls no other. */
_Noreturn void exception_report(uint64_t vector, uint64_t syndrome, uint64_t address,
                                uint64_t pc, uint64_t caller, uint64_t sp)
{
    if (is_semihosting(syndrome, pc)) { /* there is no debugger: go on with the next way out */
        __asm__ volatile("msr elr_el1, %0\n\teret" ::"r"(pc + 4));
        __builtin_unreachable();
    }
    if (report_begins(class_name(syndrome))) {
        if (is_abort(syndrome)) {
            kernmem_print("  %s, level %llu, %s of %#llx\n", status_name(syndrome),
                          (unsigned long long)(syndrome & 3),
                          syndrome >> 26 < 0x24 ? "execute" : syndrome & 0x40 ? "write" : "read",
                          (unsigned long long)address);
        }
        kernmem_print("  vector %llu, ESR %#llx, FAR %#llx\n", (unsigned long long)vector,
                      (unsigned long long)syndrome, (unsigned long long)address);
    }
    report_ends(pc, caller, sp);
}
