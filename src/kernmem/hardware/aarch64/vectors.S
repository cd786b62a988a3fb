// Exceptions: a fault that the kernel asked for is noted and skipped, any other is reported.
//
// The handlers trust nothing.  The expected fault is dealt with in two registers and no stack;
// the report runs on a stack of its own, so that it can be made even when sp is what is wrong.

        .section .text.vectors, "ax"
        .global exception_vectors

        // Sixteen entries of 128 bytes, aligned to 2 KiB (DDI D1.3.1): synchronous, IRQ, FIQ and
        // SError; from EL1 on SP_EL0, from EL1 on its own stack, from EL0, from 32-bit EL0.
        .macro  entry handler, number
        .balign 128
        msr     tpidr_el1, x0                   // two registers to work with;
        msr     tpidr_el0, x1                   // this kernel has no threads to miss these
        mov     x1, #\number                    // which of the sixteen
        b       \handler
        .endm

        .balign 2048
exception_vectors:
        entry   unexpected, 0
        entry   unexpected, 1
        entry   unexpected, 2
        entry   unexpected, 3
        entry   synchronous, 4                  // the kernel's own: a fault, or a bad instruction
        entry   unexpected, 5
        entry   unexpected, 6
        entry   unexpected, 7
        entry   unexpected, 8
        entry   unexpected, 9
        entry   unexpected, 10
        entry   unexpected, 11
        entry   unexpected, 12
        entry   unexpected, 13
        entry   unexpected, 14
        entry   unexpected, 15

        // A data abort from EL1 while fault_expected is set: the kernel is probing an address.
synchronous:
        mrs     x0, esr_el1                     // the syndrome: why we are here
        lsr     x0, x0, #26                     // its top six bits are the class
        cmp     x0, #0x25                       // data abort, without a change of level
        b.ne    unexpected
        adrp    x0, fault_expected
        ldr     x0, [x0, :lo12:fault_expected]
        cbz     x0, unexpected                  // nobody asked for it

        adrp    x0, fault_expected
        str     xzr, [x0, :lo12:fault_expected] // it has come: the next one is a surprise
        mrs     x1, esr_el1
        adrp    x0, fault_syndrome
        str     x1, [x0, :lo12:fault_syndrome]  // tell the prober why
        mrs     x1, far_el1
        adrp    x0, fault_address
        str     x1, [x0, :lo12:fault_address]   // and where
        mrs     x1, elr_el1
        add     x1, x1, #4                      // go on after the load or store; all are 4 bytes
        msr     elr_el1, x1
        mrs     x0, tpidr_el1                   // as if nothing had happened
        mrs     x1, tpidr_el0
        eret

        // Anything else ends the kernel: exception_report prints what is known and exits.
unexpected:
        ldr     x0, =__exception_stack_top
        mov     x2, sp                          // what the stack was, for the report
        mov     sp, x0
        mov     x0, x1                          // the number of the vector
        mrs     x1, esr_el1                     // the syndrome
        mov     x5, x2
        mrs     x2, far_el1                     // the address, if the syndrome says so
        mrs     x3, elr_el1                     // the instruction
        mov     x4, x30                         // who called the function that it is in
        bl      exception_report                // (vector, syndrome, address, pc, caller, sp)
1:      wfe                                     // it does not return
        b       1b
