/* The loops of pagetables.py, and the plain radix walk that kernmem is measured against.
 *
 * The walk makes the same tables as kernmem does with 4 KiB pages: four levels of 512 entries of
 * VMSAv8-64.  It counts the entries of each table, gives empty tables back, and checks nothing. */

#define _POSIX_C_SOURCE 200809L
#include <stdint.h>
#include <string.h>
#include <time.h>

#define PAGE 4096ull
#define LEVELS 4
#define PAGE_ENTRY 0x713ull /* AF, inner shareable, KERNEL, page: what kernmem writes */

/* pagetables.py has the same structure. */
struct bench {
    uint64_t (*map)(uint64_t table, uint64_t virtual, uint64_t physical, uint64_t mapping);
    uint64_t (*unmap)(uint64_t table, uint64_t virtual);
    uint64_t (*map_range)(uint64_t table, uint64_t virtual, uint64_t physical, uint64_t length,
                          uint64_t mapping);
    uint64_t (*unmap_range)(uint64_t table, uint64_t virtual, uint64_t length);
    uint64_t (*map_linear)(uint64_t table, uint64_t start, uint64_t end, uint64_t mapping);
    uint64_t (*alloc)(void);
    void (*free)(uint64_t page);
    uint64_t table;
    uint64_t base;         /* of the virtual addresses; the physical ones are a page further */
    const uint32_t *order; /* of the pages */
    uint64_t pages;
    uint64_t end;          /* of the linear range, which begins at 0 */
    uint64_t map_ns, unmap_ns, failures;
};

static uint64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* The plain walk ------------------------------------------------------------------------------ */

static uint8_t arena[4096 * PAGE] __attribute__((aligned(4096)));
static uint16_t counts[4096]; /* valid entries, by table */
static uint64_t *free_tables; /* linked through their first words */

void kernmem_bench_plain_reset(void)
{
    memset(counts, 0, sizeof counts);
    free_tables = 0;
    for (uint64_t number = 4096; number-- > 0;) {
        uint64_t *table = (uint64_t *)(arena + number * PAGE);

        table[0] = (uint64_t)free_tables;
        free_tables = table;
    }
}

static uint64_t *plain_table(void)
{
    uint64_t *table = free_tables;

    free_tables = (uint64_t *)table[0];
    return memset(table, 0, PAGE);
}

static uint16_t *count_of(const uint64_t *table)
{
    return &counts[((uint64_t)table - (uint64_t)arena) / PAGE];
}

static uint64_t *entry_of(uint64_t *table, uint64_t virtual, int level)
{
    return table + (virtual >> (12 + 9 * level) & 511);
}

uint64_t kernmem_bench_plain_map(uint64_t root, uint64_t virtual, uint64_t physical,
                                 uint64_t mapping)
{
    uint64_t *table = (uint64_t *)root;

    (void)mapping;
    for (int level = LEVELS - 1; level > 0; level--) {
        uint64_t *entry = entry_of(table, virtual, level);

        if (*entry == 0) {
            *entry = (uint64_t)plain_table() | 3;
            ++*count_of(table);
        }
        table = (uint64_t *)(*entry & ~(PAGE - 1));
    }
    *(volatile uint64_t *)entry_of(table, virtual, 0) = physical | PAGE_ENTRY;
    ++*count_of(table);
    return 0;
}

uint64_t kernmem_bench_plain_unmap(uint64_t root, uint64_t virtual)
{
    uint64_t *path[LEVELS];
    int level = LEVELS - 1;

    path[level] = (uint64_t *)root;
    for (; level > 0; level--)
        path[level - 1] = (uint64_t *)(*entry_of(path[level], virtual, level) & ~(PAGE - 1));
    *(volatile uint64_t *)entry_of(path[0], virtual, 0) = 0;
    while (--*count_of(path[level]) == 0 && level < LEVELS - 1) {
        path[level][0] = (uint64_t)free_tables;
        free_tables = path[level++];
        *entry_of(path[level], virtual, level) = 0;
    }
    return 0;
}

uint64_t kernmem_bench_plain_root(void) { return (uint64_t)plain_table(); }

/* The loops ----------------------------------------------------------------------------------- */

void kernmem_bench_pages(struct bench *bench)
{
    uint64_t start = now();

    for (uint64_t number = 0; number < bench->pages; number++) {
        uint64_t virtual = bench->base + bench->order[number] * PAGE;

        bench->failures += bench->map(bench->table, virtual, virtual + PAGE, 0) != 0;
    }
    bench->map_ns = now() - start;
    start = now();
    for (uint64_t number = 0; number < bench->pages; number++)
        bench->failures +=
            bench->unmap(bench->table, bench->base + bench->order[number] * PAGE) != 0;
    bench->unmap_ns = now() - start;
}

/* All the pages by one call; the physical address is a page further, so that no block fits. */
void kernmem_bench_range(struct bench *bench)
{
    uint64_t length = bench->pages * PAGE, start = now();

    bench->failures +=
        bench->map_range(bench->table, bench->base, bench->base + PAGE, length, 0) != 0;
    bench->map_ns = now() - start;
    start = now();
    bench->failures += bench->unmap_range(bench->table, bench->base, length) != 0;
    bench->unmap_ns = now() - start;
}

void kernmem_bench_linear(struct bench *bench)
{
    uint64_t start = now();

    bench->failures += bench->map_linear(bench->table, 0, bench->end, 0) != 0;
    bench->map_ns = now() - start;
    start = now();
    bench->failures += bench->unmap_range(bench->table, 0, bench->end) != 0;
    bench->unmap_ns = now() - start;
}

void kernmem_bench_pairs(struct bench *bench)
{
    uint64_t start = now();

    for (uint64_t number = 0; number < bench->pages; number++)
        bench->free(bench->alloc());
    bench->map_ns = now() - start;
}
