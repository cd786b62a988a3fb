/* What kernel code calls on the host instead of instructions (hardware/aarch64), and what the
 * Python side of the host machine calls. */

#ifndef KERNMEM_HOST_RUNTIME_H
#define KERNMEM_HOST_RUNTIME_H

#include <stdint.h>

/* For the kernel. */
void kernmem_host_write_ttbr0(uint64_t value);
void kernmem_host_invalidate_page(uint64_t address);
void kernmem_host_invalidate_all(void);
uint32_t kernmem_host_read_register(uint64_t address);
void kernmem_host_write_register(uint64_t address, uint32_t value);
void kernmem_host_probe_read(uint64_t address);
void kernmem_host_probe_write(uint64_t address, uint64_t value);
_Noreturn void kernmem_host_exit(uint32_t status);
_Noreturn void kernmem_panic(const char *format, ...);
void kernmem_print(const char *format, ...);
void kernmem_put(uint8_t character);

/* For Python; host.py has the same structures. */

struct host_window {
    uint64_t start, end;
};

struct host_configuration {
    struct host_window ram;     /* physical addresses, and pointers of this process */
    struct host_window segment; /* virtual addresses that go through the page tables */
    uint64_t page_bits, index_bits, levels;
    uint64_t console_register;  /* a store of a character to it goes to the console */
    int64_t descriptor;         /* of the RAM's memory file */
};

enum host_end { RETURNED, PANICKED, FAULTED, EXITED, TIMED_OUT, SIGNALLED, NO_DEVICE };

struct host_result {
    uint64_t end;        /* enum host_end */
    uint64_t value;      /* RETURNED: the result; EXITED: the status; SIGNALLED: its number */
    uint64_t address;    /* FAULTED, NO_DEVICE: of the access */
    uint64_t syndrome;   /* FAULTED: as ESR_EL1 would have it; 0: the tables do not forbid it */
    uint64_t writes;     /* FAULTED: whether the access was a store */
    char message[1024];  /* PANICKED: the text */
};

int kernmem_host_open(const struct host_configuration *given);
void kernmem_host_close(void);
void kernmem_host_call(uint64_t (*function)(uint64_t, ...), const uint64_t *arguments,
                       uint64_t nanoseconds, struct host_result *result);
uint64_t kernmem_host_take_text(char *to, uint64_t room);
uint64_t kernmem_host_ttbr0(void);
uint64_t kernmem_host_copy(uint64_t to, uint64_t from, uint64_t length);

#endif
