        .section .text.vectors, "ax"
        .global trap_vector

        # Every trap of supervisor mode comes here (stvec.MODE 0, direct).  The kernel has no
        # threads and takes no interrupts, so one register may wait in sscratch, and one in memory.
        .option norvc
        .balign 4
trap_vector:
        csrw    sscratch, t0
        la      t0, saved_register
        sd      t1, 0(t0)
        csrr    t0, scause                      # (Priv, "Supervisor Cause Register")
        li      t1, 13
        beq     t0, t1, memory_fault            # load page fault
        li      t1, 15
        beq     t0, t1, memory_fault            # store page fault
        li      t1, 5
        beq     t0, t1, memory_fault            # load access fault: nothing is there
        li      t1, 7
        bne     t0, t1, unexpected              # store access fault

        # A load or store faulted.  While fault_expected is set, the kernel is probing an address.
memory_fault:
        la      t0, fault_expected
        ld      t1, 0(t0)
        beqz    t1, unexpected                  # nobody asked for it
        sd      zero, 0(t0)                     # it has come: the next one is a surprise
        csrr    t1, scause
        la      t0, fault_syndrome
        sd      t1, 0(t0)                       # tell the prober why
        csrr    t1, stval
        la      t0, fault_address
        sd      t1, 0(t0)                       # and where
        csrr    t0, sepc
        lhu     t1, 0(t0)                       # the instruction: two bytes long,
        addi    t0, t0, 2
        andi    t1, t1, 3                       # or four, if its low two bits are set
        addi    t1, t1, -3                      # (Unpriv, "Instruction-Length Encoding")
        bnez    t1, 1f
        addi    t0, t0, 2
1:      csrw    sepc, t0                        # go on after it
        la      t0, saved_register
        ld      t1, 0(t0)
        csrr    t0, sscratch                    # as if nothing had happened
        sret

        # Anything else ends the kernel: exception_report prints what is known and exits.
unexpected:
        mv      a4, sp                          # what the stack was, for the report
        la      sp, __exception_stack_top
        csrr    a0, scause
        csrr    a1, stval
        csrr    a2, sepc
        mv      a3, ra                          # who called the function that it is in
        call    exception_report                # (cause, value, pc, caller, sp)
1:      wfi                                     # it does not return
        j       1b

        .section .bss
        .balign 8
saved_register:
        .dword  0
