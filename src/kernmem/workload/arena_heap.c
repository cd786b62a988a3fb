/* The kernel heap as an allocator to be measured.  kernmem_body.h is generated: all of its C. */

#include "kernmem_body.h"

#include "allocator.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

int allocator_init(void *arena, size_t bytes)
{
    init_arena_heap((virtual_address_t)arena, bytes);
    return 0;
}

void *allocator_allocate(size_t bytes)
{
    return kmalloc(bytes);
}

void allocator_free(void *pointer, size_t bytes)
{
    (void)bytes; /* the heap knows */
    kfree(pointer);
}

void kernmem_print(const char *format, ...)
{
    va_list values;

    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
}

_Noreturn void kernmem_panic(const char *format, ...)
{
    va_list values;

    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
    abort();
}
