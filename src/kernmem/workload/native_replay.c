/* The replay of a trace without Python around each call, for the host machine. */

#define _POSIX_C_SOURCE 200809L
#include <stdint.h>
#include <time.h>

enum { ALLOCATE, FREE, REALLOCATE };

struct object {
    uint8_t *buffer; /* null: not live */
    uint64_t size;
};

/* native_replay.py has the same structure. */
struct replay {
    void *(*kmalloc)(uint64_t length);
    void (*kfree)(void *buffer);
    uint64_t heap_start;
    const volatile uint64_t *heap_end; /* the registry's */

    uint64_t records;
    const uint8_t *op;     /* a column of the trace, as are the next two */
    const uint32_t *id;    /* renumbered: each below the number of objects */
    const uint64_t *size;
    struct object *objects; /* by id, none live at first */
    int64_t *offsets;       /* out, by record: of the buffer from heap_start; -1: none */
    uint64_t check;         /* whether buffers are marked and verified */

    uint64_t calls, failed, live_bytes, peak_live_bytes, peak_heap_bytes;
    uint64_t nanoseconds;
    uint64_t bad_address, found, written; /* of the mark that was overwritten; 0: none was */
    uint64_t bad_id;
};

static uint8_t first_mark(uint64_t id) { return (uint8_t)(id * 167); }
static uint8_t last_mark(uint64_t id) { return (uint8_t)(id * 89 + 1); }

static int is(struct replay *replay, uint64_t id, const uint8_t *place, uint8_t mark)
{
    if (*place == mark)
        return 1;
    replay->bad_id = id;
    replay->bad_address = (uint64_t)place;
    replay->found = *place;
    replay->written = mark;
    return 0;
}

/* Whether the marks of an object are as they were written; a buffer of one byte has the first. */
static int is_intact(struct replay *replay, uint64_t id)
{
    const struct object *object = &replay->objects[id];

    return is(replay, id, object->buffer, first_mark(id)) &&
           (object->size == 1 ||
            is(replay, id, object->buffer + object->size - 1, last_mark(id)));
}

static void allocate(struct replay *replay, uint64_t record)
{
    uint64_t id = replay->id[record], size = replay->size[record], heap_bytes;
    struct object *object = &replay->objects[id];

    object->buffer = replay->kmalloc(size);
    object->size = size;
    replay->calls++;
    if (object->buffer == 0) {
        replay->failed++;
        return;
    }
    replay->offsets[record] = (int64_t)((uint64_t)object->buffer - replay->heap_start);
    replay->live_bytes += size;
    if (replay->live_bytes > replay->peak_live_bytes)
        replay->peak_live_bytes = replay->live_bytes;
    heap_bytes = *replay->heap_end - replay->heap_start;
    if (heap_bytes > replay->peak_heap_bytes)
        replay->peak_heap_bytes = heap_bytes;
    if (replay->check) {
        object->buffer[size - 1] = last_mark(id);
        object->buffer[0] = first_mark(id);
    }
}

/* Replay, and measure everything but time.  Ends at the first buffer that was overwritten. */
uint64_t kernmem_replay_measure(struct replay *replay)
{
    for (uint64_t record = 0; record < replay->records; record++) {
        struct object *object = &replay->objects[replay->id[record]];

        replay->offsets[record] = -1;
        if (replay->op[record] != ALLOCATE && object->buffer != 0) {
            if (replay->check && !is_intact(replay, replay->id[record]))
                break;
            replay->kfree(object->buffer);
            replay->calls++;
            replay->live_bytes -= object->size;
            object->buffer = 0;
        }
        if (replay->op[record] != FREE)
            allocate(replay, record);
    }
    return 0;
}

static uint64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* Replay, and measure the time alone.  The first and last byte of each buffer are written, as
 * by a program that has a use for it. */
uint64_t kernmem_replay_time(struct replay *replay)
{
    const uint8_t *op = replay->op;
    const uint32_t *id = replay->id;
    const uint64_t *size = replay->size;
    struct object *objects = replay->objects;
    uint64_t records = replay->records, start = now();

    for (uint64_t record = 0; record < records; record++) {
        struct object *object = &objects[id[record]];

        if (op[record] != ALLOCATE && object->buffer != 0)
            replay->kfree(object->buffer);
        if (op[record] != FREE) {
            uint8_t *buffer = replay->kmalloc(size[record]);

            object->buffer = buffer;
            if (buffer != 0) {
                buffer[0] = 1;
                buffer[size[record] - 1] = 1;
            }
        }
    }
    replay->nanoseconds = now() - start;
    return 0;
}
