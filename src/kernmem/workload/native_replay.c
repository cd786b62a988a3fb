/* The replay of a trace without Python around each call. */

#define _GNU_SOURCE
#include "replay.h"

#include <sys/mman.h>
#include <time.h>

enum { SHADOW_BITS = 47 - 3 }; /* a bit for each byte that a process can have */

/* What a byte of an object's buffer holds; objects with close ids, and close bytes, differ. */
static uint8_t pattern(uint64_t id, uint64_t place)
{
    return (uint8_t)(id * 167 + place * 89 + (place >> 8) + 1);
}

static void fill(const struct object *object, uint64_t id)
{
    for (uint64_t place = 0; place < object->size; place++)
        object->buffer[place] = pattern(id, place);
}

/* Whether a buffer is as it was filled. */
static int is_intact(struct replay *replay, uint64_t id)
{
    const struct object *object = &replay->objects[id];

    for (uint64_t place = 0; place < object->size; place++) {
        if (object->buffer[place] == pattern(id, place))
            continue;
        replay->bad_id = id;
        replay->bad_address = (uint64_t)(object->buffer + place);
        replay->found = object->buffer[place];
        replay->written = pattern(id, place);
        return 0;
    }
    return 1;
}

/* Turn the bits of a buffer in the shadow, which are `claimed` all; 0 if one of them is not. */
static int turn(uint8_t *shadow, const struct object *object, int claimed)
{
    uint64_t first = (uint64_t)object->buffer, last = first + object->size - 1;

    for (uint64_t place = first / 8; place <= last / 8; place++) {
        unsigned mask = 0xff;

        if (place == first / 8)
            mask &= 0xffU << first % 8;
        if (place == last / 8)
            mask &= 0xffU >> (7 - last % 8);
        if ((shadow[place] & mask) != (claimed ? mask : 0))
            return 0;
        shadow[place] ^= (uint8_t)mask;
    }
    return 1;
}

static void allocate(struct replay *replay, uint64_t record)
{
    uint64_t id = replay->id[record], size = replay->size[record];
    struct object *object = &replay->objects[id];

    object->buffer = replay->allocate(size);
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
    if (replay->heap_end && *replay->heap_end - replay->heap_start > replay->peak_heap_bytes) {
        replay->peak_heap_bytes = *replay->heap_end - replay->heap_start;
        if (*replay->free_pages < replay->least_free_pages)
            replay->least_free_pages = *replay->free_pages;
    }
    if (replay->check && !turn(replay->shadow, object, 0)) {
        replay->bad_id = id;
        replay->overlapping = (uint64_t)object->buffer;
    } else if (replay->check) {
        fill(object, id);
    }
}

/* Replay, and measure everything but time.  Ends at the first wrong buffer. */
static void measure(struct replay *replay)
{
    for (uint64_t record = 0; record < replay->records && !replay->overlapping; record++) {
        struct object *object = &replay->objects[replay->id[record]];

        replay->offsets[record] = -1;
        if (replay->op[record] != ALLOCATE && object->buffer != 0) {
            if (replay->check && !is_intact(replay, replay->id[record]))
                return;
            if (replay->check)
                turn(replay->shadow, object, 1);
            replay->free(object->buffer, object->size);
            replay->calls++;
            replay->live_bytes -= object->size;
            object->buffer = 0;
        }
        if (replay->op[record] != FREE)
            allocate(replay, record);
    }
    for (uint64_t id = 0; replay->check && !replay->overlapping && id < replay->names; id++)
        if (replay->objects[id].buffer != 0 && !is_intact(replay, id))
            return;
}

/* The same; 1 if there is no address space for the check. */
uint64_t kernmem_replay_measure(struct replay *replay)
{
    if (replay->check) {
        replay->shadow = mmap(0, 1UL << SHADOW_BITS, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (replay->shadow == MAP_FAILED)
            return 1;
    }
    measure(replay);
    if (replay->check)
        munmap(replay->shadow, 1UL << SHADOW_BITS);
    return 0;
}

static uint64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* Replay as a program would: the first and last byte of each buffer are written. */
uint64_t kernmem_replay_plainly(struct replay *replay)
{
    const uint8_t *op = replay->op;
    const uint32_t *id = replay->id;
    const uint64_t *size = replay->size;
    struct object *objects = replay->objects;

    for (uint64_t record = 0; record < replay->records; record++) {
        struct object *object = &objects[id[record]];

        if (op[record] != ALLOCATE && object->buffer != 0) {
            replay->free(object->buffer, object->size);
            object->buffer = 0;
        }
        if (op[record] != FREE) {
            uint8_t *buffer = replay->allocate(size[record]);

            object->buffer = buffer;
            object->size = size[record];
            if (buffer != 0) {
                buffer[0] = 1;
                buffer[size[record] - 1] = 1;
            }
        }
    }
    return 0;
}

/* Replay, and measure the time of all calls alone. */
uint64_t kernmem_replay_time(struct replay *replay)
{
    uint64_t start = now();

    kernmem_replay_plainly(replay);
    replay->nanoseconds = now() - start;
    return 0;
}

/* Replay, and lower least[call] to the nanoseconds of each call, those of the clock included. */
uint64_t kernmem_replay_each(struct replay *replay, uint32_t *least)
{
    for (uint64_t record = 0; record < replay->records; record++) {
        struct object *object = &replay->objects[replay->id[record]];
        uint64_t start, spent;

        if (replay->op[record] != ALLOCATE && object->buffer != 0) {
            start = now();
            replay->free(object->buffer, object->size);
            spent = now() - start;
            object->buffer = 0;
            if (spent < *least)
                *least = (uint32_t)spent;
            least++;
        }
        if (replay->op[record] != FREE) {
            start = now();
            object->buffer = replay->allocate(replay->size[record]);
            spent = now() - start;
            object->size = replay->size[record];
            if (spent < *least)
                *least = (uint32_t)spent;
            least++;
            if (object->buffer != 0) {
                object->buffer[0] = 1;
                object->buffer[object->size - 1] = 1;
            }
        }
    }
    return 0;
}

/* The nanoseconds that the clock itself takes, at the least. */
uint64_t kernmem_replay_clock(void)
{
    uint64_t least = UINT64_MAX;

    for (int i = 0; i < 1000; i++) {
        uint64_t start = now(), spent = now() - start;

        if (spent < least)
            least = spent;
    }
    return least;
}
