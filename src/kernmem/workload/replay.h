/* A trace as the loops in C take it, and what they measure. */

#ifndef KERNMEM_REPLAY_H
#define KERNMEM_REPLAY_H

#include <stdint.h>

enum { ALLOCATE, FREE, REALLOCATE };

struct object {
    uint8_t *buffer; /* null: not live */
    uint64_t size;
};

/* native_replay.py has the same structure. */
struct replay {
    void *(*allocate)(uint64_t length);
    void (*free)(void *buffer, uint64_t length); /* a kfree has no use for the second */
    uint64_t heap_start;
    const volatile uint64_t *heap_end;   /* the registry's; null: there is none */
    const volatile uint64_t *free_pages; /* likewise */

    uint64_t records;
    const uint8_t *op;     /* a column of the trace, as are the next two */
    const uint32_t *id;    /* renumbered: each below the number of objects */
    const uint64_t *size;
    struct object *objects; /* by id, none live at first */
    uint64_t names;         /* how many objects there are */
    int64_t *offsets;       /* out, by record: of the buffer from heap_start; -1: none */
    uint64_t check;         /* whether buffers are filled and verified */

    uint64_t calls, failed, live_bytes, peak_live_bytes, peak_heap_bytes, least_free_pages;
    uint64_t nanoseconds;
    uint64_t bad_address, found, written; /* of the byte that was overwritten; 0: none was */
    uint64_t overlapping;                 /* a buffer that has bytes of another; 0: none has */
    uint64_t bad_id;                      /* of the object that either is about */
    uint8_t *shadow;                      /* a bit for each byte of the process: it is live */
};

uint64_t kernmem_replay_measure(struct replay *replay);
uint64_t kernmem_replay_plainly(struct replay *replay);
uint64_t kernmem_replay_time(struct replay *replay);
uint64_t kernmem_replay_each(struct replay *replay, uint32_t *least);
uint64_t kernmem_replay_clock(void);

#endif
