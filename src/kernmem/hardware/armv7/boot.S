// From the firmware to C: one core, in supervisor mode, caches clean, a stack in place.
//
// The firmware enters at _start in ARM state with the MMU and the caches off, in Hyp or supervisor
// mode; r2 is the address of the device tree, or 0 (the boot protocol of Linux).  Nothing is stored
// before the caches have been invalidated.

        .syntax unified
        .arm
        .arch_extension virt
        .section .text.boot, "ax"
        .global _start
        .global park

        .equ    HYP_MODE, 0x1a
        .equ    SUPERVISOR_MODE, 0x13

_start:
        mov     r10, r2                         // the device tree, until it can be passed on

        // The first core boots the kernel; every other sleeps for ever.
        mrc     p15, 0, r0, c0, c0, 5           // MPIDR: who am I?
        tst     r0, #0xff                       // affinity 0: the number within the cluster
        bne     park

        // Which mode did the firmware leave us in?
        mrs     r0, cpsr
        and     r0, r0, #0x1f
        cmp     r0, #HYP_MODE
        bne     at_supervisor

        // Hyp mode: give supervisor mode everything, trap nothing, go there (DDI 0406, B1.7).
        mov     r0, #0
        mcr     p15, 4, r0, c1, c1, 0           // HCR: VM = 0, no second stage
        mcr     p15, 4, r0, c1, c1, 3           // HSTR
        ldr     r1, =0x33ff
        mcr     p15, 4, r1, c1, c1, 2           // HCPTR: its bits that are RES1
        mrc     p15, 0, r0, c0, c0, 0
        mcr     p15, 4, r0, c0, c0, 0           // VPIDR: what is read as MIDR
        mrc     p15, 0, r0, c0, c0, 5
        mcr     p15, 4, r0, c0, c0, 5           // VMPIDR
        mov     r0, #(0x1c0 | SUPERVISOR_MODE)  // A, I, F: no interrupts
        msr     spsr_cxsf, r0                   // what "eret" makes the processor state
        adr     r0, at_supervisor
        msr     elr_hyp, r0                     // where "eret" goes
        eret

at_supervisor:
        cpsid   aif, #SUPERVISOR_MODE           // no interrupts, its own stack
        ldr     r0, =SCTLR_OFF
        mcr     p15, 0, r0, c1, c0, 0           // SCTLR: MMU and caches off
        isb                                     // from here on the new value counts

        // ACTLR.SMP: take part in coherency, which must be on before the caches and the MMU are
        // (DDI 0438, "Auxiliary Control Register").  Firmware that has done it may have forbidden it.
        mrc     p15, 0, r0, c1, c0, 1
        tst     r0, #(1 << 6)
        orreq   r0, r0, #(1 << 6)
        mcreq   p15, 0, r0, c1, c0, 1

        // Caches hold anything after power-on.  A stale line would hide what is stored now the
        // moment the caches go on, and the first to read one would be the page table walk.  So:
        // invalidate (not clean, which would write the stale lines out) before the first store.
        bl      invalidate_data_caches
        mov     r0, #0
        mcr     p15, 0, r0, c7, c5, 0           // ICIALLU: every instruction fetched before
        mcr     p15, 0, r0, c7, c5, 6           // BPIALL: and every branch predicted
        dsb                                     // all done
        isb                                     // and the next fetch knows it

        ldr     r0, =exception_vectors
        mcr     p15, 0, r0, c12, c0, 0          // VBAR: exceptions have somewhere to go
        ldr     sp, =__stack_top                // grows down from the end of the window
        mov     r0, r10
        bl      kernmem_start                   // (device tree); it does not return

park:   wfe                                     // wait for an event, and for the next one
        b       park

// Invalidate every line of every data cache, level by level (DDI 0406, B2.2.7, "DCISW").
//
// CLIDR says which levels there are, CCSIDR how large the selected one is.  A line is named by
// way << (32 - bits of way) | set << log2(line) | level << 1.
//
//      r0 CLIDR      r1 level << 1     r2 its type       r3 CCSIDR         r4 log2(line bytes)
//      r5 last way   r6 shift of way   r7 last set       r8 way, counted down
//      r9 the name of a line           r11 set, counted down               r12 scratch
invalidate_data_caches:
        mrc     p15, 1, r0, c0, c0, 1           // CLIDR: three bits a level, what cache it has
        mov     r1, #0
next_level:
        add     r2, r1, r1, lsr #1              // 3 * level
        lsr     r2, r0, r2
        ands    r2, r2, #7                      // 0: no cache, 1: instructions only
        beq     invalidated                     // the first level without a cache ends the list
        cmp     r2, #2
        blo     skip_level                      // no data here
        mcr     p15, 2, r1, c0, c0, 0           // CSSELR: select this level's data cache
        isb                                     // before its description is read
        mrc     p15, 1, r3, c0, c0, 0           // CCSIDR
        and     r4, r3, #7                      // log2(line bytes) - 4
        add     r4, r4, #4
        ubfx    r5, r3, #3, #10                 // ways - 1
        clz     r6, r5                          // the way stands at the top of 32 bits
        ubfx    r7, r3, #13, #15                // sets - 1
        mov     r8, r5
next_way:
        lsl     r12, r8, r6
        orr     r12, r12, r1                    // way and level
        mov     r11, r7
next_set:
        lsl     r9, r11, r4
        orr     r9, r9, r12                     // way, level and set
        mcr     p15, 0, r9, c7, c6, 2           // DCISW: invalidate that line
        subs    r11, r11, #1
        bhs     next_set                        // until the set number wraps below 0
        subs    r8, r8, #1
        bhs     next_way
skip_level:
        add     r1, r1, #2
        cmp     r1, #(7 << 1)                   // at most seven levels
        blo     next_level
invalidated:
        dsb                                     // wait until all of it has happened
        isb
        bx      lr

        .ltorg

        // The bits that read as one on a Cortex-A15, and CP15BEN; all others 0: MMU (0), alignment
        // check (1), data cache (2), branch prediction (11), instruction cache (12), TEX remap
        // (28) and access flag (29) are off, exceptions are taken in ARM state (30).
        .equ    SCTLR_OFF, 0x00c50078
