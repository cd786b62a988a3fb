# From the firmware to C: one hart, in supervisor mode, a stack in place.
#
# OpenSBI enters at _start in supervisor mode; without firmware the hart is in machine mode, and
# goes down first.  a0 is the number of the hart, a1 the address of the device tree (the boot
# protocol of Linux and U-Boot).  "Priv" is the RISC-V privileged architecture, "Unpriv" the other.
#
# Two entries, since no register tells the mode: reading a machine register in supervisor mode
# is an illegal instruction, and stvec is ours to catch it with.

        .section .text.boot, "ax"
        .global _start
        .global park

        .option norvc
_start:
        mv      s1, a1                          # the device tree, until it can be passed on
        csrw    sie, zero                       # no interrupts
        csrci   sstatus, 1 << 1                 # SIE: not even those that insist
        la      t0, at_supervisor
        csrw    stvec, t0                       # where the next line goes in supervisor mode
        csrr    t1, mhartid                     # in machine mode it only names the hart
        bnez    t1, park                        # the first boots the kernel; others sleep

        # Machine mode: give supervisor mode all memory and its own traps, and go there.
        la      t0, park
        csrw    mtvec, t0                       # a trap up here ends it all
        li      t0, -1
        csrw    pmpaddr0, t0                    # (Priv, "Physical Memory Protection")
        li      t0, 0x1f
        csrw    pmpcfg0, t0                     # NAPOT of everything: read, write, execute
        li      t0, 0xb1ff
        csrw    medeleg, t0                     # every exception but calls from above user mode
        csrw    mideleg, zero
        csrw    mie, zero
        li      t0, 0b11 << 11
        csrc    mstatus, t0
        li      t0, 0b01 << 11
        csrs    mstatus, t0                     # MPP: mret goes to supervisor mode
        la      t0, at_supervisor
        csrw    mepc, t0
        mret

        .balign 4
at_supervisor:
        csrw    satp, zero                      # no translation
        fence.i                                 # fetch what was loaded (Unpriv, "Zifencei")
        la      t0, trap_vector
        csrw    stvec, t0                       # traps have somewhere to go
        la      sp, __stack_top                 # grows down from the end of the window
        mv      a0, s1
        call    kernmem_start                   # (device tree); it does not return

        .balign 4
park:   wfi                                     # wait for an interrupt, and for the next one
        j       park
