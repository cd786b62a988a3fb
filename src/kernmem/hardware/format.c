/* Formatted text, as Python's f-strings give it: %#llx of 0 is "0x0", not C's "0". */

#include <stdarg.h>
#include <stdint.h>

#include "format.h"

static void put_text(const char *text)
{
    while (*text != '\0')
        kernmem_put((uint8_t)*text++);
}

/* The last digit of a number, which is left without it.  By parts of 16 bits: a 32-bit processor
 * has no wider division, and an image no library that makes one up. */
static unsigned take_digit(unsigned long long *number, unsigned base)
{
    unsigned long long quotient = 0;
    uint32_t rest = 0;

    for (int shift = 48; shift >= 0; shift -= 16) {
        rest = rest << 16 | (uint32_t)(*number >> shift & 0xffff);
        quotient |= (unsigned long long)(rest / base) << shift;
        rest %= base;
    }
    *number = quotient;
    return rest;
}

/* An unsigned number, at least `width` characters wide, padded with `pad`. */
static void put_number(unsigned long long number, unsigned base, int prefix, unsigned width,
                       char pad)
{
    char digits[24]; /* 2^64 has 20 decimal digits */
    unsigned length = 0;

    do {
        digits[length++] = "0123456789abcdef"[take_digit(&number, base)];
    } while (number != 0);
    if (prefix && pad == '0')
        put_text("0x");
    for (unsigned used = length + (prefix ? 2 : 0); used < width; used++)
        kernmem_put((uint8_t)pad);
    if (prefix && pad != '0')
        put_text("0x");
    while (length > 0)
        kernmem_put((uint8_t)digits[--length]);
}

void kernmem_format(const char *format, va_list values)
{
    while (*format != '\0') {
        char pad = ' ';
        int prefix = 0;
        unsigned width = 0;

        if (*format != '%') {
            kernmem_put((uint8_t)*format++);
            continue;
        }
        format++;
        for (; *format == '#' || *format == '0'; format++) {
            if (*format == '#')
                prefix = 1;
            else
                pad = '0';
        }
        for (; *format >= '0' && *format <= '9'; format++)
            width = width * 10 + (unsigned)(*format - '0');
        while (*format == 'l')
            format++;
        switch (*format) {
        case 's': put_text(va_arg(values, const char *)); break;
        case 'u': put_number(va_arg(values, unsigned long long), 10, 0, width, pad); break;
        case 'x': put_number(va_arg(values, unsigned long long), 16, prefix, width, pad); break;
        case '%': kernmem_put('%'); break;
        default: put_text("<format?>"); return;
        }
        format++;
    }
}
