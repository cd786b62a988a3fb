/* The little C that every kernel image needs, whatever its processor. */

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "format.h"
#include "freestanding.h"

/* The prober's and the exception handler's variables, for images whose board declares none. */
__attribute__((weak)) uint64_t fault_expected, fault_syndrome, fault_address;

/* What the firmware has passed to the kernel. */
uintptr_t boot_argument;

/* An image that is only there to be called into has nothing to do of its own. */
__attribute__((weak)) void kernel_main(void);
void kernel_main(void)
{
}

/* A machine that only calls functions stops at kernmem_ready, and its calls return to
 * kernmem_done. */
void kernmem_ready(void);
_Noreturn void kernmem_done(void);

__attribute__((noinline)) void kernmem_ready(void)
{
    kernel_main();
}

__attribute__((noinline)) _Noreturn void kernmem_done(void)
{
    kernmem_exit(0);
    park(); /* the board has no way out */
}

_Noreturn void kernmem_start(uintptr_t argument)
{
    extern uint64_t __bss_start[], __bss_end[];

    /* C promises that variables start as zero.  volatile: or a compiler calls memset, which is
     * slower here, as it goes byte by byte. */
    for (volatile uint64_t *word = __bss_start; word < __bss_end; word++)
        *word = 0;
    boot_argument = argument;
    kernmem_ready(); /* if it returns, all went well */
    kernmem_done();
}

_Noreturn void kernmem_stop(uint32_t status)
{
    kernmem_exit(status);
    for (;;) { /* the board has no way out */
    }
}

void kernmem_print(const char *format, ...)
{
    va_list values;

    va_start(values, format);
    kernmem_format(format, values);
    va_end(values);
}

_Noreturn void kernmem_panic(const char *format, ...)
{
    va_list values;

    kernmem_print("panic: ");
    va_start(values, format);
    kernmem_format(format, values);
    va_end(values);
    kernmem_put('\n');
    kernmem_stop(1);
}

/* What the exception handlers of all processors print first and last. */

static unsigned reports; /* an exception while one is reported ends it all */

_Bool report_begins(const char *exception)
{
    if (reports++ > 0)
        return 0;
    kernmem_print("exception: %s\n", exception);
    return 1;
}

_Noreturn void report_ends(uint64_t pc, uint64_t caller, uint64_t sp)
{
    if (reports == 1) {
        kernmem_print("  pc %#llx", (unsigned long long)pc);
        if (caller != 0)
            kernmem_print(", called from %#llx", (unsigned long long)caller);
        kernmem_print(", sp %#llx\n", (unsigned long long)sp);
    }
    kernmem_stop(1);
}

/* Compilers call these even from freestanding code, for what it copies and clears. */
void *memset(void *start, int byte, size_t length);
void *memcpy(void *restrict start, const void *restrict source, size_t length);

void *memset(void *start, int byte, size_t length)
{
    for (uint8_t *to = start; length > 0; length--)
        *to++ = (uint8_t)byte;
    return start;
}

void *memcpy(void *restrict start, const void *restrict source, size_t length)
{
    const uint8_t *from = source;

    for (uint8_t *to = start; length > 0; length--)
        *to++ = *from++;
    return start;
}
