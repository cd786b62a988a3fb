// From power-on to C: one core, at EL1, caches clean, a stack in place.
//
// The firmware enters at _start with the MMU and the caches off, at EL3 or EL2 (a Raspberry Pi:
// EL2) or EL1.  Nothing is stored before the caches have been invalidated, and no register is
// worth keeping but x0, in which Linux's boot protocol passes the address of the device tree.
// References: "DDI" is the Arm Architecture Reference Manual, DDI 0487.

        .section .text.boot, "ax"
        .global _start
        .global park

_start:
        mov     x19, x0                         // the device tree, until it can be passed on

        // The first core boots the kernel; every other sleeps for ever.
        mrs     x0, mpidr_el1                   // who am I?
        tst     x0, #0xff                       // affinity 0: the number within the cluster
        b.ne    park

        // Which exception level did the firmware leave us at?  (DDI C5.2.1, CurrentEL)
        mrs     x0, CurrentEL                   // the level is in bits 3:2
        cmp     x0, #(2 << 2)
        b.lo    at_el1
        b.eq    at_el2

        // EL3, the secure monitor: go down to EL2.
        mov     x0, #0x5b1                      // RW: EL2 is AArch64; HCE, SMD; NS: not secure
        msr     scr_el3, x0
        mov     x0, #0x3c9                      // DAIF: no interrupts; M = 9: EL2, its own stack
        msr     spsr_el3, x0                    // what "eret" makes the processor state
        adr     x0, at_el2
        msr     elr_el3, x0                     // where "eret" goes
        eret

at_el2: // EL2, the hypervisor: give EL1 everything, trap nothing, go down to EL1.
        mov     x0, #(1 << 31)                  // RW: EL1 is AArch64; VM = 0: no second stage
        msr     hcr_el2, x0
        mov     x0, #3                          // EL1 may read the counter and its timer
        msr     cnthctl_el2, x0
        msr     cntvoff_el2, xzr                // virtual time is physical time
        mov     x0, #0x33ff                     // floating point is not trapped to EL2 (RES1 bits)
        msr     cptr_el2, x0
        msr     hstr_el2, xzr                   // nor is any system register
        mrs     x0, midr_el1                    // what EL1 reads as its own identity
        msr     vpidr_el2, x0
        mrs     x0, mpidr_el1
        msr     vmpidr_el2, x0
        ldr     x0, =SCTLR_EL1_OFF              // before EL1 runs one instruction by it
        msr     sctlr_el1, x0
        mov     x0, #0x3c5                      // DAIF: no interrupts; M = 5: EL1, its own stack
        msr     spsr_el2, x0
        adr     x0, at_el1
        msr     elr_el2, x0
        eret

at_el1: // The system control register has no reset value worth trusting: MMU and caches off.
        ldr     x0, =SCTLR_EL1_OFF
        msr     sctlr_el1, x0
        isb                                     // from here on the new value counts

        // Caches hold anything after power-on.  With caches off our stores go straight to
        // memory; a stale line would hide them the moment the MMU and the caches go on, and the
        // first to read one would be the page table walk.  So: invalidate (not clean, which
        // would write the stale lines out) before the first store.
        bl      invalidate_data_caches
        ic      iallu                           // and every instruction fetched before
        dsb     nsh                             // both are done
        isb                                     // and the next fetch knows it

        adrp    x0, exception_vectors
        add     x0, x0, :lo12:exception_vectors
        msr     vbar_el1, x0                    // exceptions have somewhere to go
        ldr     x0, =__stack_top
        mov     sp, x0                          // grows down from the end of the window
        mov     x0, x19
        bl      kernmem_start                   // (device tree); it does not return

park:   wfe                                     // wait for an event, and for the next one
        b       park

// Invalidate every line of every data cache, level by level (DDI D7.5.9.6, "DC ISW").
//
// CLIDR_EL1 says which levels there are, CCSIDR_EL1 how large the selected one is.  A line is
// named by  way << (32 - bits of way) | set << log2(line) | level << 1.
//
//      x0 CLIDR      x1 level << 1     x2 its type       x3 CCSIDR         x4 log2(line bytes)
//      x5 last way   x6 shift of way   x7 last set       x8 way, counted down
//      x9 the name of a line           x10 set, counted down               x11 scratch
invalidate_data_caches:
        mrs     x0, clidr_el1                   // three bits a level: what kind of cache it has
        mov     x1, #0
next_level:
        add     x2, x1, x1, lsr #1              // 3 * level
        lsr     x2, x0, x2
        and     x2, x2, #7                      // 0: no cache, 1: instructions only
        cbz     x2, invalidated                 // the first level without a cache ends the list
        cmp     x2, #2
        b.lo    skip_level                      // no data here
        msr     csselr_el1, x1                  // select this level's data cache
        isb                                     // before its description is read
        mrs     x3, ccsidr_el1
        and     x4, x3, #7                      // log2(line bytes) - 4
        add     x4, x4, #4
        ubfx    x5, x3, #3, #10                 // ways - 1
        clz     w6, w5                          // the way stands at the top of 32 bits
        ubfx    x7, x3, #13, #15                // sets - 1
        mov     x8, x5
next_way:
        lsl     x11, x8, x6
        orr     x11, x11, x1                    // way and level
        mov     x10, x7
next_set:
        lsl     x9, x10, x4
        orr     x9, x9, x11                     // way, level and set
        dc      isw, x9                         // invalidate that line
        subs    x10, x10, #1
        b.hs    next_set                        // until the set number wraps below 0
        subs    x8, x8, #1
        b.hs    next_way
skip_level:
        add     x1, x1, #2
        cmp     x1, #(7 << 1)                   // at most seven levels
        b.lo    next_level
invalidated:
        dsb     sy                              // wait until all of it has happened
        isb
        ret

        // Bits 29, 28, 23, 22, 20 and 11 are RES1 in Armv8.0; all others 0: MMU (0), alignment
        // check (1), data cache (2), stack alignment (3), instruction cache (12) are off.
        .equ    SCTLR_EL1_OFF, 0x30d00800
