// Exceptions: a fault that the kernel asked for is noted and skipped, any other is reported.
//
// The handlers trust nothing.  The expected fault is dealt with in two registers and no stack;
// the report runs on a stack of its own, so that it can be made even when sp is what is wrong.

        .syntax unified
        .arm
        .section .text.vectors, "ax"
        .global exception_vectors

        // Eight instructions, aligned to 32 bytes (DDI 0406, B1.8.1).
        .balign 32
exception_vectors:
        b       .                               // not used: reset does not come here
        b       undefined
        b       supervisor_call
        b       prefetch_abort
        b       data_abort
        b       .                               // not used
        b       interrupt
        b       fast_interrupt

        // While fault_expected is set, the kernel is probing an address.  sp is abort mode's own:
        // here it is a register to work with.  The three variables are 8 bytes; of them the upper
        // halves are zero, and stay so.
data_abort:
        ldr     sp, =saved_registers
        stm     sp, {r0, r1}
        ldr     r0, =fault_expected
        ldr     r1, [r0]
        cmp     r1, #0
        beq     data_abort_unexpected           // nobody asked for it
        mov     r1, #0
        str     r1, [r0]                        // it has come: the next one is a surprise
        mrc     p15, 0, r1, c5, c0, 0           // DFSR
        ldr     r0, =fault_syndrome
        str     r1, [r0]                        // tell the prober why
        mrc     p15, 0, r1, c6, c0, 0           // DFAR
        ldr     r0, =fault_address
        str     r1, [r0]                        // and where
        ldm     sp, {r0, r1}                    // as if nothing had happened
        subs    pc, lr, #4                      // lr is 8 past the load or store: go on after it

        // Anything else ends the kernel: exception_report prints what is known and exits.
        .macro  report, vector, distance
        mov     r0, #\vector
        sub     r1, lr, #\distance              // the instruction (DDI 0406, B1.8.3)
        b       unexpected
        .endm

undefined:              report 1, 4
supervisor_call:        report 2, 4
prefetch_abort:         report 3, 4
data_abort_unexpected:  report 4, 8
interrupt:              report 6, 4
fast_interrupt:         report 7, 4

unexpected:
        cps     #0x13                           // supervisor mode, for its registers
        mov     r2, lr                          // who called the function that it is in
        mov     r3, sp                          // what the stack was, for the report
        ldr     sp, =__exception_stack_top
        bl      exception_report                // (vector, pc, caller, sp)
1:      wfe                                     // it does not return
        b       1b

        .ltorg

        .section .bss
        .balign 8
saved_registers:
        .skip   8
