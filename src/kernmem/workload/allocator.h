/* What an allocator must export to be measured: a shared object with these three functions.
 *
 * The allocator keeps its state where it likes, metadata for the arena's buffers in the arena:
 * what is measured is the smallest arena in which a trace completes.  Calls come one at a time.
 */

#ifndef KERNMEM_ALLOCATOR_H
#define KERNMEM_ALLOCATOR_H

#include <stddef.h>

#define KERNMEM_EXPORT __attribute__((visibility("default")))

/* Begin anew with an empty heap over an arena, which is aligned to a page; what it was given
 * before is forgotten.  0: done; anything else: the arena is too short. */
KERNMEM_EXPORT int allocator_init(void *arena, size_t bytes);

/* A buffer; null if there is no room. */
KERNMEM_EXPORT void *allocator_allocate(size_t bytes);

/* Give back a buffer, with the length that was asked for. */
KERNMEM_EXPORT void allocator_free(void *pointer, size_t bytes);

#endif
