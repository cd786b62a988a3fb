/* Called by Unicorn at the start of every block of instructions, or, where their lengths differ,
 * of every instruction: counts them, keeps the time. */

#include <stdint.h>
#include <time.h>

struct counter {
    uint64_t instructions;          /* executed so far */
    uint64_t blocks;                /* calls of a function here */
    uint64_t address, size;         /* of the block that began last, in bytes */
    int64_t deadline;               /* CLOCK_MONOTONIC, in nanoseconds */
    uint64_t expired;               /* set when the deadline has passed */
    int (*stop)(void *engine);      /* uc_emu_stop */
};

void count_block(void *engine, uint64_t address, uint32_t size, struct counter *counter);
void count_instruction(void *engine, uint64_t address, uint32_t size, struct counter *counter);

static void keep_time(void *engine, struct counter *counter)
{
    if (++counter->blocks % 0x10000 == 0) {
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec * 1000000000LL + now.tv_nsec > counter->deadline) {
            counter->expired = 1;
            counter->stop(engine);
        }
    }
}

/* Every instruction has 4 bytes. */
void count_block(void *engine, uint64_t address, uint32_t size, struct counter *counter)
{
    counter->address = address;
    counter->size = size;
    counter->instructions += size / 4;
    keep_time(engine, counter);
}

void count_instruction(void *engine, uint64_t address, uint32_t size, struct counter *counter)
{
    counter->address = address;
    counter->size = size;
    counter->instructions++;
    keep_time(engine, counter);
}
