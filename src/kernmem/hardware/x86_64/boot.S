// From the loader to C: 64-bit mode, the first GiBs linear, exceptions and stack in place.
//
// A loader that knows PVH (QEMU's -kernel, Xen, cloud-hypervisor) finds the note and enters at
// _start in 32-bit protected mode, with paging off, flat segments, interrupts off, and in EBX the
// address of the start info.  64-bit code cannot run without paging (SDM 10.8.5), so what is
// "before the MMU is on" to the kernel runs on the tables below, in which every address is
// itself.  References: "SDM" is the Intel 64 and IA-32 manual, volume 3A.

        .section .note.pvh, "a", @note          // Xen's elfnote.h: XEN_ELFNOTE_PHYS32_ENTRY
        .long   4, 4, 18                        // lengths of name and value, the kind of note
        .asciz  "Xen"
        .long   _start

        .set    CODE, 0x08                      // selectors: offsets into the GDT
        .set    DATA, 0x10
        .set    TASK, 0x18
        .set    GATES, 32                       // exceptions; interrupts stay off

        .section .text.boot, "ax"
        .global _start
        .global park

        .code32
_start:
        cli
        cld
        mov     %ebx, %ebp                      // the address of the start info, to be passed on
        mov     $boot_tables, %edi              // what is not written below must be zero
        mov     $(boot_tables_end - boot_tables) / 4, %ecx
        xor     %eax, %eax
        rep stosl

        // Page tables (SDM 4.5): one entry to a table of LINEAR_GIB, each to 512 blocks of 2 MiB.
        // (Not every processor has blocks of 1 GiB.)
        movl    $(boot_pointers + 0x3), boot_pml4       // present, writable
        mov     $(boot_directories + 0x3), %eax
        xor     %ecx, %ecx
1:      mov     %eax, boot_pointers(, %ecx, 8)
        add     $0x1000, %eax
        inc     %ecx
        cmp     $LINEAR_GIB, %ecx
        jne     1b
        mov     $0x83, %eax                     // present, writable, PS: a block
        xor     %edx, %edx                      // the upper half
        xor     %ecx, %ecx
2:      mov     %eax, boot_directories(, %ecx, 8)
        mov     %edx, boot_directories + 4(, %ecx, 8)
        add     $0x200000, %eax
        adc     $0, %edx
        inc     %ecx
        cmp     $(LINEAR_GIB * 512), %ecx
        jne     2b

        mov     $boot_pml4, %esi                // the root
        mov     $(1 << 5), %edi                 // PAE
#if PAGING_LEVELS == 5
        // One level more, which can be chosen only while paging is off (SDM 4.1.1).  Where the
        // processor has none, the kernel starts with 4 levels, and says so when it enables its own.
        xor     %eax, %eax
        cpuid
        cmp     $7, %eax
        jb      3f
        mov     $7, %eax
        xor     %ecx, %ecx
        cpuid
        test    $(1 << 16), %ecx                // CPUID.(7, 0):ECX.LA57
        jz      3f
        movl    $(boot_pml4 + 0x3), boot_pml5
        mov     $boot_pml5, %esi
        or      $(1 << 12), %edi                // LA57
3:
#endif

        // Into IA-32e mode, in the order of SDM 10.8.5.
        mov     %cr4, %eax
        or      %edi, %eax
        mov     %eax, %cr4
        mov     %esi, %cr3
        mov     $0xc0000080, %ecx               // IA32_EFER
        rdmsr
        or      $(1 << 8), %eax                 // LME
        wrmsr
        mov     %cr0, %eax
        or      $(1 << 31 | 1), %eax            // PG, PE: compatibility mode from here on
        mov     %eax, %cr0
        lgdt    gdt_pointer
        ljmp    $CODE, $in_64_bits              // and 64-bit mode from there on

        .code64
in_64_bits:
        mov     $DATA, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        xor     %eax, %eax
        mov     %eax, %fs                       // not used: any use faults
        mov     %eax, %gs
        mov     $__stack_top, %esp              // grows down from the end of the window

        // The task state segment tells where the stack for exceptions is (SDM 8.7); its
        // descriptor holds its address in pieces (SDM 8.2.3).
        mov     $task_state, %eax
        mov     %ax, gdt + TASK + 2
        shr     $16, %eax
        mov     %al, gdt + TASK + 4
        mov     %ah, gdt + TASK + 7
        mov     $TASK, %eax
        ltr     %ax

        // A gate for each exception (SDM 6.14.1): an interrupt gate, on stack 1 of the task
        // state.  The entries of vectors.S are 16 bytes apart.
        mov     $exception_vectors, %eax
        mov     $gates, %edi
        mov     $GATES, %ecx
4:      mov     %ax, (%rdi)                     // bits 15:0 of the address
        movw    $CODE, 2(%rdi)
        movw    $0x8e01, 4(%rdi)                // present, privilege 0, interrupt gate; IST 1
        mov     %eax, %edx
        shr     $16, %edx
        mov     %dx, 6(%rdi)                    // bits 31:16; the rest is 0
        add     $16, %eax
        add     $16, %edi
        dec     %ecx
        jnz     4b
        lidt    gates_pointer
        mov     %ebp, %edi
        call    kernmem_start                   // (start info); it does not return

park:   hlt                                     // with interrupts off, for ever
        jmp     park

        .section .data.boot, "aw"
        .balign 8
gdt:    .quad   0
        .quad   0x00af9a000000ffff              // code: 64-bit, privilege 0
        .quad   0x00cf92000000ffff              // data
        .quad   0x0000890000000067, 0           // task state of 104 bytes, its address to come
gdt_end:
gdt_pointer:
        .word   gdt_end - gdt - 1
        .quad   gdt
gates_pointer:
        .word   GATES * 16 - 1
        .quad   gates

        .balign 8
        .long   0                               // so that the stack's address is aligned
task_state:
        .fill   36, 1, 0
        .quad   __exception_stack_top           // IST 1
        .fill   58, 1, 0
        .word   104                             // no map of ports: it would lie past the end

        .section .noinit, "aw", @nobits         // in use when C clears its variables
        .balign 4096
boot_tables:
#if PAGING_LEVELS == 5
boot_pml5:
        .skip   4096
#endif
boot_pml4:
        .skip   4096
boot_pointers:
        .skip   4096
boot_directories:
        .skip   LINEAR_GIB * 4096
        .balign 16
gates:  .skip   GATES * 16
boot_tables_end:
