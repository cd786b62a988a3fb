/* What a kernel image brings besides the generated C: text on the console, and an end. */

#ifndef KERNMEM_FREESTANDING_H
#define KERNMEM_FREESTANDING_H

#include <stdint.h>

/* The two hooks of the generated C, which declares them itself in kernmem_base.h. */
_Noreturn void kernmem_panic(const char *format, ...);
void kernmem_print(const char *format, ...);

/* Leave the machine with an exit status, as the board does it. */
void kernmem_exit(uint32_t status);

/* The same, and wait for ever if it cannot be left. */
_Noreturn void kernmem_stop(uint32_t status);

/* Where boot.S goes, on a stack, with exceptions going to the vectors: `argument` is what the
 * firmware has passed, the address of a device tree or the like. */
_Noreturn void kernmem_start(uintptr_t argument);

/* Wait for ever; of boot.S. */
_Noreturn void park(void);

/* Around what an exception handler prints: the first line, false if there is a report already; and
 * the last, which ends the kernel.  `caller` may be 0, for not known. */
_Bool report_begins(const char *exception);
_Noreturn void report_ends(uint64_t pc, uint64_t caller, uint64_t sp);

#endif
