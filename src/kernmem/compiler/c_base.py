"""``kernmem_base.h``: what all generated C stands on."""

from __future__ import annotations

from kernmem.compiler.text import Text
from kernmem.language import Target

HOOKS = """
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

_Static_assert(sizeof(void *) == {pointer}, "this C was generated for {pointer}-byte pointers");

/* An address that the MMU translates, and one on the bus. */
typedef uintptr_t virtual_address_t;
typedef uintptr_t physical_address_t;

/*
 * Two functions that the kernel which takes this code must have. Their formats are those of
 * printf, with nothing but %llu, %llx (with a width at times), %s and %%.
 */
__attribute__((format(printf, 1, 2))) _Noreturn void kernmem_panic(const char *format, ...);
__attribute__((format(printf, 1, 2))) void kernmem_print(const char *format, ...);

/*
 * Memory that is freed comes back as something else, and references are made from addresses. So
 * every struct here, and every integer reached through an address, may alias any other: compilers
 * need no -fno-strict-aliasing.
 */
typedef uint16_t __attribute__((may_alias)) kernmem_u16_t;
typedef uint32_t __attribute__((may_alias)) kernmem_u32_t;
typedef uint64_t __attribute__((may_alias)) kernmem_u64_t;
typedef size_t __attribute__((may_alias)) kernmem_usize_t;

/* Clear memory; both are multiples of 8. Volatile, so that it does not become a call of memset. */
static inline void kernmem_zero(virtual_address_t address, size_t length)
{{
    volatile kernmem_u64_t *words = (volatile kernmem_u64_t *)address;

    for (size_t i = 0; i < length / 8; i++)
        words[i] = 0;
}}
"""

PLAIN = """
/* The index of the highest set bit of a value that is not 0. */
static inline uint32_t kernmem_highest_bit(uint64_t value)
{
    return 63u - (uint32_t)__builtin_clzll(value);
}

/* The index of the lowest set bit of a value that is not 0. */
static inline uint32_t kernmem_lowest_bit(uint64_t value)
{
    return (uint32_t)__builtin_ctzll(value);
}
"""

CHECKED = r"""
/* Arithmetic that panics where the model raises IntegerOverflow, with the same words. */
typedef unsigned long long kernmem_wide_t;

static _Noreturn inline void kernmem_overflow(const char *operation, kernmem_wide_t left,
        kernmem_wide_t right, kernmem_wide_t maximum, const char *kind, const char *where)
{
    kernmem_panic("%s: %s: 0x%llx %s 0x%llx leaves 0 to 0x%llx", where, kind, left, operation,
        right, maximum);
}

static _Noreturn inline void kernmem_zero_divisor(const char *operation, kernmem_wide_t left,
        const char *kind, const char *where)
{
    kernmem_panic("%s: %s: 0x%llx %s 0 divides by zero", where, kind, left, operation);
}

static inline uint64_t kernmem_fit(uint64_t value, uint64_t maximum, const char *kind,
        const char *where)
{
    if (value > maximum)
        kernmem_panic("%s: 0x%llx does not fit %s, which ends at 0x%llx", where,
            (kernmem_wide_t)value, kind, (kernmem_wide_t)maximum);
    return value;
}

static inline size_t kernmem_index(uint64_t index, size_t length, const char *where)
{
    if (index >= length)
        kernmem_panic("%s: index %llu is past the end of an array of %llu", where,
            (kernmem_wide_t)index, (kernmem_wide_t)length);
    return (size_t)index;
}

static inline uint32_t kernmem_highest_bit(uint64_t value, uint64_t maximum, const char *kind,
        const char *where)
{
    if (value == 0)
        kernmem_overflow("highest_bit", 0, 0, maximum, kind, where);
    return 63u - (uint32_t)__builtin_clzll(value);
}

static inline uint32_t kernmem_lowest_bit(uint64_t value, uint64_t maximum, const char *kind,
        const char *where)
{
    if (value == 0)
        kernmem_overflow("lowest_bit", 0, 0, maximum, kind, where);
    return (uint32_t)__builtin_ctzll(value);
}

#define KERNMEM_OVERFLOWING(name, sign, builtin, kind, type, maximum) \
    static inline type kernmem_##name##_##kind(type left, type right, const char *where) \
    { \
        type result; \
        if (builtin(left, right, &result)) \
            kernmem_overflow(sign, left, right, maximum, #kind, where); \
        return result; \
    }

#define KERNMEM_DIVIDING(name, sign, c_sign, kind, type) \
    static inline type kernmem_##name##_##kind(type left, type right, const char *where) \
    { \
        if (right == 0) \
            kernmem_zero_divisor(sign, left, #kind, where); \
        return (type)(left c_sign right); \
    }

#define KERNMEM_SHIFTING(kind, type, bits, maximum) \
    static inline type kernmem_shift_left_##kind(type value, uint64_t count, const char *where) \
    { \
        if (count >= bits || (type)((type)(value << count) >> count) != value) \
            kernmem_overflow("<<", value, count, maximum, #kind, where); \
        return (type)(value << count); \
    } \
    static inline type kernmem_shift_right_##kind(type value, uint64_t count, const char *where) \
    { \
        if (count >= bits) \
            kernmem_overflow(">>", value, count, maximum, #kind, where); \
        return (type)(value >> count); \
    }

#define KERNMEM_CHECKED(kind, type, bits, maximum) \
    KERNMEM_OVERFLOWING(add, "+", __builtin_add_overflow, kind, type, maximum) \
    KERNMEM_OVERFLOWING(subtract, "-", __builtin_sub_overflow, kind, type, maximum) \
    KERNMEM_OVERFLOWING(multiply, "*", __builtin_mul_overflow, kind, type, maximum) \
    KERNMEM_DIVIDING(divide, "//", /, kind, type) \
    KERNMEM_DIVIDING(modulo, "%", %, kind, type) \
    KERNMEM_SHIFTING(kind, type, bits, maximum)

KERNMEM_CHECKED(u8, uint8_t, 8, UINT8_MAX)
KERNMEM_CHECKED(u16, uint16_t, 16, UINT16_MAX)
KERNMEM_CHECKED(u32, uint32_t, 32, UINT32_MAX)
KERNMEM_CHECKED(u64, uint64_t, 64, UINT64_MAX)
KERNMEM_CHECKED(usize, size_t, (8 * sizeof(size_t)), SIZE_MAX)

static inline uintptr_t kernmem_add_address(uintptr_t left, size_t right, const char *kind,
        const char *where)
{
    uintptr_t result;

    if (__builtin_add_overflow(left, right, &result))
        kernmem_overflow("+", left, right, UINTPTR_MAX, kind, where);
    return result;
}

static inline uintptr_t kernmem_subtract_address(uintptr_t left, uintptr_t right, const char *kind,
        const char *where)
{
    uintptr_t result;

    if (__builtin_sub_overflow(left, right, &result))
        kernmem_overflow("-", left, right, UINTPTR_MAX, kind, where);
    return result;
}
"""


def write_base(text: Text, target: Target, *, checked: bool) -> None:
    """The types, the hooks and the helpers."""
    text.lines.extend(HOOKS.format(pointer=target.pointer_bytes).strip("\n").split("\n"))
    text.blank()
    text.lines.extend((CHECKED if checked else PLAIN).strip("\n").split("\n"))
    text.blank()
