/* Calls of the heap, by number, from Python: a panic ends the call, not the process. */

#include "lone_heap.h"

#include "kernmem.h"

#include <stdarg.h>
#include <stdio.h>

jmp_buf lone_panicked;
char lone_text[LONE_TEXT_LENGTH];
static size_t written;

void kernmem_print(const char *format, ...)
{
    va_list values;

    va_start(values, format);
    written += (size_t)vsnprintf(lone_text + written, LONE_TEXT_LENGTH - written, format, values);
    va_end(values);
    if (written >= LONE_TEXT_LENGTH)
        written = LONE_TEXT_LENGTH - 1;
}

_Noreturn void kernmem_panic(const char *format, ...)
{
    va_list values;

    va_start(values, format);
    vsnprintf(lone_text, LONE_TEXT_LENGTH, format, values);
    va_end(values);
    longjmp(lone_panicked, 1);
}

void lone_forget_text(void)
{
    written = 0;
    lone_text[0] = 0;
}

static size_t run(int number, size_t argument)
{
    switch (number) {
    case 0: init_lone_heap(); return 0;
    case 1: let_segment_grow(argument); return 0;
    case 2: return add_to_segment();
    case 3: return (size_t)kmalloc(argument);
    case 4: kfree((void *)argument); return 0;
    case 5: return validate_kernel_heap();
    default: return kernel_heap_largest_gap();
    }
}

/* 0: done; 1: it panicked, and lone_text says why. */
int lone_call(int number, size_t argument, size_t *result)
{
    lone_forget_text();
    if (setjmp(lone_panicked))
        return 1;
    *result = run(number, argument);
    return 0;
}
