# From the firmware to C: one hart, in supervisor mode, stack and zeroed variables in place.
#
# OpenSBI enters at _start in supervisor mode; without firmware the hart is in machine mode, and
# goes down first.  a0 is the number of the hart, a1 the address of the device tree (the boot
# protocol of Linux and U-Boot).  "Priv" is the RISC-V privileged architecture, "Unpriv" the other.
#
# Two entries, since no register tells the mode: reading a machine register in supervisor mode
# is an illegal instruction, and stvec is ours to catch it with.

        .section .text.boot, "ax"
        .global _start
        .global kernmem_ready
        .global kernmem_done
        .global park

        .option norvc
_start:
        mv      s1, a1                          # the device tree, until it can be stored
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

        la      t0, __bss_start                 # C promises that variables start as zero
        la      t1, __bss_end
1:      bgeu    t0, t1, 2f
        sd      zero, 0(t0)                     # both ends are aligned to 16
        addi    t0, t0, 8
        j       1b
2:      la      t0, boot_device_tree
        sd      s1, 0(t0)                       # not in .bss, which was cleared
kernmem_ready:                                  # a machine that only calls functions stops here
        call    kernel_main                     # if it returns, all went well
kernmem_done:                                   # and calls of its own return to here
        li      a0, 0
        call    kernmem_exit                    # leaves the machine, if it can be left

        .balign 4
park:   wfi                                     # wait for an interrupt, and for the next one
        j       park

        .section .data
        .balign 8
        .global boot_device_tree
boot_device_tree:                               # the physical address that the firmware gave
        .dword  0
