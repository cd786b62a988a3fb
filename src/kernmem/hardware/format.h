/* Text for kernmem_print and kernmem_panic, one character at a time. */

#ifndef KERNMEM_FORMAT_H
#define KERNMEM_FORMAT_H

#include <stdarg.h>
#include <stdint.h>

/* printf's %llu, %llx and %s, with the flags # and 0 and a width: all that generated code uses. */
void kernmem_format(const char *format, va_list values);

/* Where each character goes: to the board's console, or to the host. */
void kernmem_put(uint8_t character);

#endif
