/* Records every call of malloc and its kin, as a library that LD_PRELOAD puts before the C library.
 *
 * Each process image writes a file of its own in the directory $KERNMEM_RECORD, through a mapping
 * of it: what was recorded is there however the process ends.  A forked child records nothing
 * until it executes another program.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *buffer, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);
void __libc_free(void *buffer);

enum { END, BEGIN, ALLOCATED, FREED, REALLOCATED };

struct event { /* record.py has the same; a file begins with BEGIN, and the process's name */
    uint64_t what;
    uint64_t address; /* of the new buffer, or of the freed one */
    uint64_t before;  /* REALLOCATED: where it was */
    uint64_t bytes;   /* asked for */
};

enum { CHUNK = 1 << 17 }; /* events that are mapped at a time */

static int *recording; /* in a page that a fork wipes; null: nothing is recorded */
static atomic_flag lock = ATOMIC_FLAG_INIT;
static int file;
static struct event *chunk;
static uint64_t chunks, used;

static void acquire(void)
{
    while (atomic_flag_test_and_set_explicit(&lock, memory_order_acquire))
        sched_yield();
}

static void release(void)
{
    atomic_flag_clear_explicit(&lock, memory_order_release);
}

/* Map the next piece of the file; 0 if the disk is full. */
static int next_chunk(void)
{
    const size_t bytes = CHUNK * sizeof *chunk;

    if (chunk != NULL)
        munmap(chunk, bytes);
    chunk = NULL;
    if (posix_fallocate(file, (off_t)(chunks * bytes), (off_t)bytes) != 0)
        return 0;
    chunk = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, (off_t)(chunks * bytes));
    if (chunk == MAP_FAILED)
        return 0;
    chunks++;
    used = 0;
    return 1;
}

/* Note an event; the lock is held. */
static void note(uint64_t what, const void *address, uint64_t before, uint64_t bytes)
{
    if (used == CHUNK && !next_chunk()) {
        *recording = 0;
        return;
    }
    chunk[used].address = (uint64_t)address;
    chunk[used].before = before;
    chunk[used].bytes = bytes;
    chunk[used].what = what;
    used++;
}

static int is_recording(void)
{
    return recording != NULL && *recording;
}

__attribute__((constructor)) static void begin(void)
{
    const char *directory = getenv("KERNMEM_RECORD");
    char path[4096], name[16] = "";
    struct timespec time;
    int *flag;

    if (directory == NULL)
        return;
    clock_gettime(CLOCK_MONOTONIC, &time); /* a process that executes anew keeps its number */
    snprintf(path, sizeof path, "%s/%ld.%ld%09ld", directory, (long)getpid(), (long)time.tv_sec,
             time.tv_nsec);
    file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    flag = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (file < 0 || flag == MAP_FAILED || madvise(flag, 4096, MADV_WIPEONFORK) != 0 ||
        !next_chunk())
        return;
    prctl(PR_GET_NAME, name);
    memcpy(&chunk->address, name, sizeof name);
    chunk->what = BEGIN;
    used = 1;
    *flag = 1;
    recording = flag;
}

/* An allocation is noted after it is made, and a free before: then no other thread can have been
 * given, and have noted, the same address in between. */
static void *allocated(void *buffer, size_t bytes)
{
    if (buffer != NULL && is_recording()) {
        acquire();
        note(ALLOCATED, buffer, 0, bytes);
        release();
    }
    return buffer;
}

void *malloc(size_t bytes)
{
    return allocated(__libc_malloc(bytes), bytes);
}

void *calloc(size_t count, size_t bytes)
{
    return allocated(__libc_calloc(count, bytes), count * bytes);
}

void free(void *buffer)
{
    if (buffer != NULL && is_recording()) {
        acquire();
        note(FREED, buffer, 0, 0);
        release();
    }
    __libc_free(buffer);
}

/* The lock is held throughout: the old buffer is free before the new one can be noted. */
void *realloc(void *buffer, size_t bytes)
{
    void *moved;

    if (buffer == NULL)
        return malloc(bytes);
    if (!is_recording())
        return __libc_realloc(buffer, bytes);
    acquire();
    moved = __libc_realloc(buffer, bytes);
    if (moved != NULL)
        note(REALLOCATED, moved, (uint64_t)buffer, bytes);
    else if (bytes == 0)
        note(FREED, buffer, 0, 0);
    release();
    return moved;
}

void *memalign(size_t alignment, size_t bytes)
{
    return allocated(__libc_memalign(alignment, bytes), bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    return memalign(alignment, bytes);
}

int posix_memalign(void **result, size_t alignment, size_t bytes)
{
    void *buffer;

    if (alignment % sizeof(void *) != 0 || (alignment & (alignment - 1)) != 0 || alignment == 0)
        return EINVAL;
    buffer = memalign(alignment, bytes);
    if (buffer == NULL)
        return ENOMEM;
    *result = buffer;
    return 0;
}

void *valloc(size_t bytes)
{
    return memalign((size_t)getpagesize(), bytes);
}

void *pvalloc(size_t bytes)
{
    size_t page = (size_t)getpagesize();

    return memalign(page, (bytes + page - 1) / page * page);
}
