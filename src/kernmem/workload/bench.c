/* One allocator, one trace, one job, in a process of its own.
 *
 *     bench TRACE ALLOCATOR JOB ARENA [ARGUMENT] [OUTPUT]
 *
 * ALLOCATOR is a shared object as allocator.h says, or "malloc": whatever this process has under
 * that name, which LD_PRELOAD may have chosen.  ARENA is in bytes, and of no meaning for malloc.
 * What is measured goes to stdout as "name value" lines; tables of it to OUTPUT.
 */

#define _GNU_SOURCE
#include "allocator.h"
#include "replay.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE = 4096, PASSES = 3, SAMPLES = 256 };

/* The same in every process, so that what depends on addresses does not change between them. */
static void *const ARENA_ADDRESS = (void *)0x200000000000;

static struct replay replay;
static int (*init)(void *arena, size_t bytes); /* null: the allocator has no arena */
static void *arena;
static uint64_t arena_bytes;

static _Noreturn void fail(const char *what, const char *which)
{
    fprintf(stderr, "%s%s\n", what, which);
    exit(2);
}

static void tell(const char *name, uint64_t value)
{
    printf("%s %llu\n", name, (unsigned long long)value);
}

/* Pages that are there at once, and not counted to the allocator. */
static void *reserve(uint64_t bytes)
{
    void *place = mmap(NULL, bytes + 1, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    if (place == MAP_FAILED)
        fail("no memory for ", "the trace's objects");
    return place;
}

/* What trace_file() of bench.py writes: two counts, then the columns, each from a multiple of 8. */
static void open_trace(const char *path)
{
    int file = open(path, O_RDONLY);
    struct stat status;
    const uint64_t *words;
    const uint8_t *place;

    if (file < 0 || fstat(file, &status) != 0)
        fail("cannot read ", path);
    words = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file, 0);
    if (words == MAP_FAILED)
        fail("cannot map ", path);
    replay.records = words[0];
    replay.names = words[1];
    place = (const uint8_t *)(words + 2);
    replay.op = place;
    place += (replay.records + 7) / 8 * 8;
    replay.id = (const uint32_t *)place;
    place += (replay.records * 4 + 7) / 8 * 8;
    replay.size = (const uint64_t *)place;
    replay.objects = reserve(replay.names * sizeof *replay.objects);
    replay.offsets = reserve(replay.records * sizeof *replay.offsets);
}

static void free_by_malloc(void *buffer, uint64_t length)
{
    (void)length;
    free(buffer);
}

static void open_allocator(const char *path)
{
    void *library;

    if (strcmp(path, "malloc") == 0) {
        replay.allocate = malloc;
        replay.free = free_by_malloc;
        return;
    }
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        fail("", dlerror());
    *(void **)&init = dlsym(library, "allocator_init");
    *(void **)&replay.allocate = dlsym(library, "allocator_allocate");
    *(void **)&replay.free = dlsym(library, "allocator_free");
    if (init == NULL || replay.allocate == NULL || replay.free == NULL)
        fail("it must export allocator_init, allocator_allocate and allocator_free: ", path);
}

static void map_arena(uint64_t bytes)
{
    if (init == NULL)
        return;
    if (arena != NULL)
        munmap(arena, arena_bytes);
    arena = mmap(ARENA_ADDRESS, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena == MAP_FAILED)
        fail("no memory for ", "the arena");
    arena_bytes = bytes;
    replay.heap_start = (uint64_t)arena;
}

/* An empty heap.  What malloc has live is freed; it keeps what it has learned. */
static int start_anew(uint64_t bytes)
{
    for (uint64_t id = 0; init == NULL && id < replay.names; id++)
        free(replay.objects[id].buffer);
    memset(replay.objects, 0, replay.names * sizeof *replay.objects);
    return init == NULL ? 0 : init(arena, bytes);
}

/* Whether the trace completes in so many bytes of the arena. */
static int fits(uint64_t bytes)
{
    if (start_anew(bytes) != 0)
        return 0;
    for (uint64_t record = 0; record < replay.records; record++) {
        struct object *object = &replay.objects[replay.id[record]];

        if (replay.op[record] != ALLOCATE)
            replay.free(object->buffer, object->size);
        if (replay.op[record] == FREE)
            continue;
        object->size = replay.size[record];
        object->buffer = replay.allocate(object->size);
        if (object->buffer == NULL)
            return 0;
    }
    return 1;
}

/* The largest buffer that the allocator could give now. */
static uint64_t largest_buffer(uint64_t most)
{
    uint64_t given = 0, refused = most + 1;

    while (refused - given > 1) {
        uint64_t size = given + (refused - given) / 2;
        void *buffer = replay.allocate(size);

        if (buffer == NULL) {
            refused = size;
        } else {
            replay.free(buffer, size);
            given = size;
        }
    }
    return given;
}

/* The smallest arena in which the trace completes, to GRAIN bytes, by bisection up from LEAST;
 * an allocator may well fail in some arena that is larger. */
static void fit(uint64_t least, uint64_t grain)
{
    uint64_t fails = least / grain - 1, holds = fails + 1;
    uint64_t most = (64 * least + (16 << 20)) / grain;

    map_arena(most * grain);
    while (!fits(holds * grain)) {
        fails = holds;
        holds += holds / 4 + 64;
        if (holds > most)
            fail("the trace does not complete in an arena of 64 times its live bytes", "");
    }
    while (holds - fails > 1) {
        uint64_t middle = fails + (holds - fails) / 2;

        if (fits(middle * grain))
            holds = middle;
        else
            fails = middle;
    }
    fits(holds * grain);
    tell("arena_bytes", holds * grain);
    tell("largest_buffer", largest_buffer(holds * grain));
}

static void write_all(const char *path, const void *data, uint64_t bytes)
{
    FILE *file = fopen(path, "wb");

    if (file == NULL || fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0)
        fail("cannot write ", path);
}

/* All buffers filled, and verified; where they were goes to the output. */
static void check(const char *output)
{
    replay.check = 1;
    start_anew(arena_bytes);
    if (kernmem_replay_measure(&replay) != 0)
        fail("no address space for ", "the check of buffers");
    if (replay.failed != 0)
        fail("the trace does not complete in the arena", "");
    if (replay.overlapping != 0) {
        tell("overlapping", replay.overlapping);
        tell("bad_id", replay.bad_id);
    }
    if (replay.bad_address != 0) {
        tell("bad_id", replay.bad_id);
        tell("bad_address", replay.bad_address);
        tell("found", replay.found);
        tell("written", replay.written);
    }
    write_all(output, replay.offsets, replay.records * sizeof *replay.offsets);
}

/* Nanoseconds of all calls, the least of some passes; and of each call, to the output. */
static void measure_time(const char *output)
{
    uint64_t bytes = 2 * replay.records * sizeof(uint32_t), least = UINT64_MAX;
    uint32_t *each = reserve(bytes);

    memset(each, 0xff, bytes);
    if (arena != NULL)
        memset(arena, 0, arena_bytes);
    start_anew(arena_bytes);
    kernmem_replay_plainly(&replay); /* the first time costs page faults */
    for (int pass = 0; pass < PASSES; pass++) {
        start_anew(arena_bytes);
        kernmem_replay_time(&replay);
        if (replay.nanoseconds < least)
            least = replay.nanoseconds;
        start_anew(arena_bytes);
        kernmem_replay_each(&replay, each);
    }
    tell("nanoseconds", least);
    tell("clock", kernmem_replay_clock());
    write_all(output, each, bytes);
}

/* Bytes of anonymous pages that this process has. */
static uint64_t resident(void)
{
    char text[4096];
    const char *line;
    ssize_t length;
    int file = open("/proc/self/smaps_rollup", O_RDONLY);

    length = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (length <= 0)
        fail("cannot read ", "/proc/self/smaps_rollup");
    close(file);
    text[length] = 0;
    line = strstr(text, "Anonymous:");
    return line == NULL ? 0 : strtoull(line + 10, NULL, 10) * 1024;
}

/* The most pages that the process has beyond those it had before the first call, when each page
 * of each buffer is written: looked at where most is live, and at SAMPLES other moments. */
static void measure_space(uint64_t record_of_peak)
{
    uint64_t before = resident(), most = 0, every = replay.records / SAMPLES + 1;

    for (uint64_t record = 0; record < replay.records; record++) {
        struct object *object = &replay.objects[replay.id[record]];

        if (replay.op[record] != ALLOCATE)
            replay.free(object->buffer, object->size);
        if (replay.op[record] != FREE) {
            object->size = replay.size[record];
            object->buffer = replay.allocate(object->size);
            if (object->buffer == NULL)
                fail("out of memory", "");
            for (uint64_t place = 0; place < object->size; place += PAGE)
                object->buffer[place] = 1;
            object->buffer[object->size - 1] = 1;
        }
        if (record == record_of_peak || record % every == 0) {
            uint64_t now = resident();

            if (now > most)
                most = now;
        }
    }
    tell("resident_bytes", most - before);
}

static void transfer(int in, void *place, uint64_t bytes)
{
    for (uint8_t *at = place; bytes > 0;) {
        ssize_t done = in ? read(0, at, bytes) : write(1, at, bytes);

        if (done <= 0)
            exit(0); /* the attacker has left */
        at += done;
        bytes -= (uint64_t)done;
    }
}

/* Serve an attacker, who looks at addresses: attack.py has the other end of the two pipes.
 * A request is two words and what they say: 0 COUNT SIZE, and COUNT addresses are the answer;
 * 1 COUNT, then COUNT pairs of address and length to be freed. */
static void serve(void)
{
    uint64_t words[2], size, address, pair[2];

    start_anew(arena_bytes);
    for (;;) {
        transfer(1, words, sizeof words);
        if (words[0] == 0)
            transfer(1, &size, sizeof size);
        for (uint64_t i = 0; i < words[1]; i++) {
            if (words[0] == 0) {
                address = (uint64_t)replay.allocate(size);
                transfer(0, &address, sizeof address);
            } else {
                transfer(1, pair, sizeof pair);
                replay.free((void *)pair[0], pair[1]);
            }
        }
    }
}

int main(int count, char **words)
{
    const char *job;
    uint64_t argument;

    if (count != 7)
        fail("usage: bench TRACE ALLOCATOR JOB ARENA ARGUMENT OUTPUT", "");
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0); /* huge pages would blur what is resident */
    open_trace(words[1]);
    open_allocator(words[2]);
    job = words[3];
    argument = strtoull(words[5], NULL, 10);
    if (strcmp(job, "fit") == 0) {
        fit(argument, 16);
        return 0;
    }
    map_arena(strtoull(words[4], NULL, 10));
    if (strcmp(job, "check") == 0)
        check(words[6]);
    else if (strcmp(job, "time") == 0)
        measure_time(words[6]);
    else if (strcmp(job, "space") == 0)
        measure_space(argument);
    else if (strcmp(job, "serve") == 0)
        serve();
    else if (strcmp(job, "plain") == 0 && start_anew(arena_bytes) == 0)
        kernmem_replay_plainly(&replay);
    else
        fail("no such job: ", job);
    return 0;
}
