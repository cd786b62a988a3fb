/* A processor's MMU, played by the process that the kernel runs in.
 *
 * RAM is a memory file, mapped at its own physical address: a physical address is a pointer.  The
 * kernel segment's virtual addresses are reserved without access.  The first touch of a page
 * there is a SIGSEGV; its handler walks the kernel's own page tables, maps the frame that they
 * name, and the access is repeated.  So this process's mappings are the TLB: invalidating a page
 * unmaps it, and a translation that the kernel forgets to invalidate stays, as in silicon.
 *
 * A fault that the tables mean, a panic, an exit or the end of the time leaves the kernel by
 * siglongjmp, back into kernmem_host_call.
 */

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "format.h"
#include "host_runtime.h"

#define TEXT_ROOM (16ull << 20)
#define RUN_PAGES 4096 /* how far one fault looks for neighbours to map along */

static struct host_configuration machine;
static uint64_t ttbr0;             /* the root of the tables, and the ASID; 0: MMU off */
static uint64_t low, high;         /* what is mapped lies between these; equal: nothing */

static sigjmp_buf leave, skip;     /* out of the kernel; past a probing access */
static volatile sig_atomic_t inside, probing;
static pid_t caller;               /* the thread that is in the kernel */
static struct host_result *outcome;
static timer_t timer;
static uint8_t signal_stack[65536];

static const int FAULTS[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
#define FAULT_KINDS (sizeof FAULTS / sizeof FAULTS[0])
static struct sigaction before[FAULT_KINDS]; /* what Python does with them */

static char *text;                 /* console output that Python has not taken yet */
static uint64_t text_length;
static char *message;              /* where kernmem_put writes instead while there is a panic */
static uint64_t message_length;

/* The board's variables, when the kernel has a board that probes (hardware/probing.py). */
extern uint64_t fault_expected[1] __attribute__((weak));
extern uint64_t fault_syndrome[1] __attribute__((weak));
extern uint64_t fault_address[1] __attribute__((weak));

static _Noreturn void end_call(enum host_end end)
{
    outcome->end = end;
    siglongjmp(leave, 1);
}

/* The MMU ------------------------------------------------------------------------------------- */

/* Translate by the kernel's tables (VMSAv8-64; DDI 0487 D8.3).  Returns the syndrome of a fault
 * without its class (fault status, and bit 6 for a write), or 0 and the frame of the page. */
static uint64_t walk(uint64_t address, int writes, uint64_t *frame, int *writable)
{
    uint64_t table = ttbr0 & 0xfffffffffffe;
    uint64_t top = machine.page_bits + machine.index_bits * machine.levels;
    uint64_t wnr = writes ? 0x40 : 0;

    if (ttbr0 == 0 || address >> top != 0)
        return wnr | 0x04; /* translation fault, level 0 */
    for (uint64_t level = 4 - machine.levels;; level++) { /* the manual's: 3 is the lowest */
        uint64_t shift = machine.page_bits + machine.index_bits * (3 - level);
        uint64_t index = address >> shift & ((1ull << machine.index_bits) - 1);
        uint64_t entry;

        if (table < machine.ram.start || table >= machine.ram.end)
            return wnr | 0x14 | level; /* external abort on the walk: no RAM there */
        entry = ((const uint64_t *)table)[index];
        if ((entry & 1) == 0 || (level == 3 && (entry & 2) == 0))
            return wnr | 0x04 | level; /* translation fault */
        if (level == 3 || (entry & 2) == 0) {
            uint64_t offset = address & ((1ull << shift) - 1);

            *writable = (entry & 0x80) == 0; /* AP[2]: read-only */
            if (writes && !*writable)
                return wnr | 0x0c | level; /* permission fault */
            *frame = (entry & 0xffffffffffff & -(1ull << shift)) + offset;
            *frame &= -(1ull << machine.page_bits);
            return 0;
        }
        table = entry & 0xffffffffffff & -(1ull << machine.page_bits);
    }
}

static int map_run(uint64_t start, uint64_t length, uint64_t frame, int writable)
{
    void *place = mmap((void *)start, length, writable ? PROT_READ | PROT_WRITE : PROT_READ,
                       MAP_SHARED | MAP_FIXED, (int)machine.descriptor,
                       (off_t)(frame - machine.ram.start));

    if (place == MAP_FAILED)
        return 0;
    low = low == high || start < low ? start : low;
    high = start + length > high ? start + length : high;
    return 1;
}

/* Whether `address` continues a run: mapped to `frame`, with the same rights, and RAM. */
static int continues(uint64_t address, uint64_t frame, int writable)
{
    uint64_t found;
    int rights;

    return address >= machine.segment.start && address < machine.segment.end &&
           frame >= machine.ram.start && frame < machine.ram.end &&
           walk(address, 0, &found, &rights) == 0 && found == frame && rights == writable;
}

/* Map the page of `address`, and its neighbours as far as their frames are neighbours too: a TLB
 * may hold any translation that is in the tables.  Returns the syndrome of a fault, or 0; sets
 * *mapped if the access may be repeated. */
static uint64_t fill(uint64_t address, int writes, int *mapped)
{
    uint64_t length = 1ull << machine.page_bits, start = address & -length, end = start + length;
    uint64_t frame, syndrome;
    int writable;

    *mapped = 0;
    syndrome = walk(address, writes, &frame, &writable);
    if (syndrome != 0)
        return syndrome | 0x96000000; /* a data abort without a change of level; IL */
    if (address < machine.segment.start || address >= machine.segment.end ||
        frame < machine.ram.start || frame >= machine.ram.end)
        return 0; /* a device, or linear memory outside of RAM: nothing to map */
    for (int pages = 0; pages < RUN_PAGES && continues(end, frame + (end - start), writable);
         pages++)
        end += length;
    for (int pages = 0; pages < RUN_PAGES && continues(start - length, frame - length, writable);
         pages++) {
        start -= length;
        frame -= length;
    }
    *mapped = map_run(start, end - start, frame, writable);
    return 0;
}

static int reserve(uint64_t start, uint64_t end, int how)
{
    return mmap((void *)start, end - start, PROT_NONE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | how, -1, 0) == (void *)start;
}

void kernmem_host_invalidate_page(uint64_t address)
{
    uint64_t length = 1ull << machine.page_bits, start = address & -length;

    if (start >= low && start < high)
        reserve(start, start + length, MAP_FIXED);
}

void kernmem_host_invalidate_all(void)
{
    if (low != high)
        reserve(low, high, MAP_FIXED);
    low = high = 0;
}

void kernmem_host_write_ttbr0(uint64_t value)
{
    ttbr0 = value;
    kernmem_host_invalidate_all(); /* the process's mappings have no ASID */
}

uint64_t kernmem_host_ttbr0(void)
{
    return ttbr0;
}

/* Faults -------------------------------------------------------------------------------------- */

static int is_write(const ucontext_t *context)
{
#if defined(__x86_64__)
    return context->uc_mcontext.gregs[REG_ERR] >> 1 & 1; /* the page fault error code's W/R */
#elif defined(__aarch64__)
    const uint8_t *record = context->uc_mcontext.__reserved;

    for (uint32_t head[2]; memcpy(head, record, 8), head[0] != 0; record += head[1])
        if (head[0] == 0x45535201) { /* ESR_MAGIC; the register follows the head */
            uint64_t esr;

            memcpy(&esr, record + 8, 8);
            return esr >> 6 & 1;
        }
    return 0;
#else
#error "the host machine knows x86-64 and AArch64"
#endif
}

static void give_back(void)
{
    for (unsigned kind = 0; kind < FAULT_KINDS; kind++)
        sigaction(FAULTS[kind], &before[kind], 0);
}

static void on_fault(int number, siginfo_t *information, void *context)
{
    uint64_t address = (uint64_t)information->si_addr, syndrome;
    int writes, mapped;

    if (!inside || (pid_t)syscall(SYS_gettid) != caller) {
        give_back(); /* not the kernel's: the instruction repeats, and meets who it is for */
        return;
    }
    if (number != SIGSEGV && number != SIGBUS) {
        outcome->value = (uint64_t)number;
        end_call(SIGNALLED);
    }
    writes = is_write(context);
    syndrome = fill(address, writes, &mapped);
    if (mapped)
        return;
    if (probing) {
        if (fault_syndrome != 0)
            fault_syndrome[0] = syndrome;
        if (fault_address != 0)
            fault_address[0] = address;
        siglongjmp(skip, 1);
    }
    outcome->address = address;
    outcome->syndrome = syndrome;
    outcome->writes = (uint64_t)writes;
    end_call(FAULTED);
}

static void on_deadline(int number)
{
    (void)number;
    if (inside && (pid_t)syscall(SYS_gettid) == caller)
        end_call(TIMED_OUT);
}

void kernmem_host_probe_read(uint64_t address)
{
    probing = 1;
    if (sigsetjmp(skip, 0) == 0)
        (void)*(volatile const uint64_t *)address;
    probing = 0;
    if (fault_expected != 0)
        fault_expected[0] = 0;
}

void kernmem_host_probe_write(uint64_t address, uint64_t value)
{
    probing = 1;
    if (sigsetjmp(skip, 0) == 0)
        *(volatile uint64_t *)address = value;
    probing = 0;
    if (fault_expected != 0)
        fault_expected[0] = 0;
}

/* Devices, text and the end --------------------------------------------------------------------*/

uint32_t kernmem_host_read_register(uint64_t address)
{
    if (address >> 12 != machine.console_register >> 12) {
        outcome->address = address;
        end_call(NO_DEVICE);
    }
    return 0; /* the console never makes the kernel wait */
}

void kernmem_host_write_register(uint64_t address, uint32_t value)
{
    if (address == machine.console_register)
        kernmem_put((uint8_t)value);
    else
        (void)kernmem_host_read_register(address);
}

void kernmem_put(uint8_t character)
{
    if (message != 0) {
        if (message_length < sizeof outcome->message - 1)
            message[message_length++] = (char)character;
    } else if (text_length < TEXT_ROOM) {
        text[text_length++] = (char)character;
    }
}

void kernmem_print(const char *format, ...)
{
    va_list values;

    va_start(values, format);
    kernmem_format(format, values);
    va_end(values);
}

_Noreturn void kernmem_panic(const char *format, ...)
{
    va_list values;

    message = outcome->message;
    message_length = 0;
    va_start(values, format);
    kernmem_format(format, values);
    va_end(values);
    message[message_length] = '\0';
    end_call(PANICKED);
}

_Noreturn void kernmem_host_exit(uint32_t status)
{
    outcome->value = status;
    end_call(EXITED);
}

uint64_t kernmem_host_take_text(char *to, uint64_t room)
{
    uint64_t length = text_length < room ? text_length : room;

    memcpy(to, text, length);
    memmove(text, text + length, text_length - length);
    text_length -= length;
    return length;
}

uint64_t kernmem_host_copy(uint64_t to, uint64_t from, uint64_t length)
{
    memcpy((void *)to, (const void *)from, length);
    return length;
}

/* Calls --------------------------------------------------------------------------------------- */

#define DEADLINE_SIGNAL (SIGRTMIN + 7)

/* Call `function` with eight words.  Signals are this runtime's only while it runs. */
void kernmem_host_call(uint64_t (*function)(uint64_t, ...), const uint64_t *arguments,
                       uint64_t nanoseconds, struct host_result *result)
{
    struct sigaction fault = {.sa_sigaction = on_fault,
                              .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    struct sigaction deadline = {.sa_handler = on_deadline, .sa_flags = SA_ONSTACK | SA_NODEFER};
    struct sigaction deadline_before;
    stack_t own = {.ss_sp = signal_stack, .ss_size = sizeof signal_stack}, stack_before;
    struct itimerspec end = {.it_value = {.tv_sec = (time_t)(nanoseconds / 1000000000),
                                          .tv_nsec = (long)(nanoseconds % 1000000000)}};
    struct itimerspec never = {0};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = DEADLINE_SIGNAL};

    caller = (pid_t)syscall(SYS_gettid);
    event._sigev_un._tid = caller;
    outcome = result;
    message = 0;
    probing = 0;
    sigaltstack(&own, &stack_before);
    for (unsigned kind = 0; kind < FAULT_KINDS; kind++)
        sigaction(FAULTS[kind], &fault, &before[kind]);
    sigaction(DEADLINE_SIGNAL, &deadline, &deadline_before);
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) == 0)
        timer_settime(timer, 0, &end, 0);

    if (sigsetjmp(leave, 0) == 0) {
        uint64_t (*typed)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                          uint64_t) = (void *)function;

        inside = 1;
        result->value = typed(arguments[0], arguments[1], arguments[2], arguments[3],
                              arguments[4], arguments[5], arguments[6], arguments[7]);
        result->end = RETURNED;
    }
    inside = 0;
    timer_settime(timer, 0, &never, 0);
    timer_delete(timer);
    message = 0;
    sigaction(DEADLINE_SIGNAL, &deadline_before, 0);
    give_back();
    sigaltstack(&stack_before, 0);
}

/* Take the addresses; returns 0, or which window is taken: 1 RAM, 2 the segment, 3 text. */
int kernmem_host_open(const struct host_configuration *given)
{
    uint64_t length = given->ram.end - given->ram.start;

    machine = *given;
    ttbr0 = low = high = text_length = 0;
    if (mmap((void *)machine.ram.start, length, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_FIXED_NOREPLACE, (int)machine.descriptor,
             0) != (void *)machine.ram.start)
        return 1;
    if (!reserve(machine.segment.start, machine.segment.end, MAP_FIXED_NOREPLACE)) {
        munmap((void *)machine.ram.start, length);
        return 2;
    }
    text = mmap(0, TEXT_ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                -1, 0);
    if (text == MAP_FAILED) {
        kernmem_host_close();
        return 3;
    }
    return 0;
}

void kernmem_host_close(void)
{
    munmap((void *)machine.ram.start, machine.ram.end - machine.ram.start);
    munmap((void *)machine.segment.start, machine.segment.end - machine.segment.start);
    if (text != MAP_FAILED)
        munmap(text, TEXT_ROOM);
    text = 0;
    low = high = 0;
}
