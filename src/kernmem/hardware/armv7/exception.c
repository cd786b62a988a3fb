/* What is printed about an exception that nobody expected. */

#include <stdint.h>

#include "freestanding.h"

_Noreturn void exception_report(uint32_t vector, uint32_t pc, uint32_t caller, uint32_t sp);

enum { SUPERVISOR_CALL = 2, PREFETCH_ABORT = 3, DATA_ABORT = 4 };

static const char *vector_name(uint32_t vector)
{
    switch (vector) {
    case 1: return "undefined instruction";
    case SUPERVISOR_CALL: return "supervisor call";
    case PREFETCH_ABORT: return "prefetch abort";
    case DATA_ABORT: return "data abort";
    case 6: return "interrupt";
    default: return "fast interrupt";
    }
}

/* The fault status with short descriptors: bits 10 and 3:0 (DDI 0406, B3.13.3). */
static const char *status_name(uint32_t status)
{
    switch ((status >> 6 & 0x10) | (status & 0xf)) {
    case 0x01: return "alignment fault";
    case 0x03: return "access flag fault, level 1";
    case 0x05: return "translation fault, level 1";
    case 0x06: return "access flag fault, level 2";
    case 0x07: return "translation fault, level 2";
    case 0x08: return "external abort";
    case 0x09: return "domain fault, level 1";
    case 0x0b: return "domain fault, level 2";
    case 0x0c: return "external abort on a walk, level 1";
    case 0x0d: return "permission fault, level 1";
    case 0x0e: return "external abort on a walk, level 2";
    case 0x0f: return "permission fault, level 2";
    case 0x10: return "TLB conflict";
    default: return "fault status not known";
    }
}

static void report_abort(uint32_t vector)
{
    uint32_t status, address;

    if (vector == DATA_ABORT) { /* DFSR and DFAR, else IFSR and IFAR */
        __asm__ volatile("mrc p15, 0, %0, c5, c0, 0" : "=r"(status));
        __asm__ volatile("mrc p15, 0, %0, c6, c0, 0" : "=r"(address));
    } else {
        __asm__ volatile("mrc p15, 0, %0, c5, c0, 1" : "=r"(status));
        __asm__ volatile("mrc p15, 0, %0, c6, c0, 2" : "=r"(address));
    }
    kernmem_print("  %s, %s of %#llx\n", status_name(status),
                  vector == PREFETCH_ABORT    ? "execute"
                  : status & UINT32_C(1) << 11 ? "write"
                                               : "read",
                  (unsigned long long)address);
    kernmem_print("  FSR %#llx, FAR %#llx\n", (unsigned long long)status,
                  (unsigned long long)address);
}

/* Print all that the processor says, and leave the machine with a failure.  `caller` is the link
 * register: exact if the function at `pc` calls no other. */
_Noreturn void exception_report(uint32_t vector, uint32_t pc, uint32_t caller, uint32_t sp)
{
    if (vector == SUPERVISOR_CALL && *(const uint32_t *)pc == 0xef123456) {
        /* Semihosting, and there is no debugger: go on with the next way out. */
        __asm__ volatile("mov lr, %0\n\tmovs pc, lr" ::"r"(pc + 4) : "lr");
        __builtin_unreachable();
    }
    if (report_begins(vector_name(vector)) &&
        (vector == PREFETCH_ABORT || vector == DATA_ABORT))
        report_abort(vector);
    report_ends(pc, caller, sp);
}
