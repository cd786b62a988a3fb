// Exceptions: a fault that the kernel asked for is noted and skipped, any other is reported.
//
// The gates switch to a stack of their own, so that a report can be made even when rsp is what
// is wrong.  Nothing here nests: an exception within an exception is a double fault, reported
// from the top of the same stack.

        .set    PROBE_LENGTH, 3                 // bytes of the instructions of probe_read, _write

        .section .text.vectors, "ax"
        .global exception_vectors

        // The processor pushes ss, rsp, rflags, cs, rip, and after some exceptions an error code
        // (SDM 6.3.1, table 6-1: 8, 10 to 14, 17, 21, 29, 30).  All others get a 0 in its place.
        .balign 16
exception_vectors:
        .set    number, 0
        .rept   32
        .balign 16
        .if     !(number == 8 || (number >= 10 && number <= 14) || number == 17 || number == 21 || number == 29 || number == 30)
        push    $0
        .endif
        push    $number
        jmp     exception
        .set    number, number + 1
        .endr

        // 0 rax, 8 vector, 16 error code, 24 rip, 32 cs, 40 rflags, 48 rsp, 56 ss
exception:
        push    %rax
        cmpq    $14, 8(%rsp)                    // a page fault,
        je      1f
        cmpq    $13, 8(%rsp)                    // or what an address that is not canonical meets:
        jne     unexpected
1:      cmpq    $0, fault_expected
        je      unexpected                      // has anybody asked for it?
        testb   $0x10, 16(%rsp)                 // bit 4: a fetch, and nobody asks for those
        jnz     unexpected

        movq    $0, fault_expected              // it has come: the next one is a surprise
        mov     8(%rsp), %rax
        shl     $32, %rax
        or      16(%rsp), %rax
        mov     %rax, fault_syndrome            // tell the prober why: vector << 32 | error code
        mov     %cr2, %rax
        mov     %rax, fault_address             // and where, if it was a page fault
        addq    $PROBE_LENGTH, 24(%rsp)         // go on after the load or store
        pop     %rax                            // as if nothing had happened
        add     $16, %rsp
        iretq

        // Anything else ends the kernel: exception_report prints what is known and exits.
unexpected:
        mov     8(%rsp), %rdi
        mov     16(%rsp), %rsi
        mov     %cr2, %rdx
        mov     24(%rsp), %rcx
        mov     48(%rsp), %r8
        call    exception_report                // (vector, error code, address, pc, sp)
2:      hlt                                     // it does not return
        jmp     2b
