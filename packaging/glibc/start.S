/* Start of a program, for every release of the GNU C library.
 *
 * Since glibc 2.34 its own start file passes no initialiser to __libc_start_main, and leaves the
 * constructors of the program to the C library. Earlier ones call only the initialiser that they
 * are given. Later ones call it too, if there is one, and then do not run the constructors
 * themselves.
 *
 * On entry (System V ABI for x86-64): %rdx is a function to call at exit, (%rsp) the number of
 * arguments, and 8(%rsp) the first argument. */
        .text
        .globl  _start
        .type   _start, @function
_start:
        xorl    %ebp, %ebp                      /* the outermost frame */
        movq    %rdx, %r9                       /* 6: function to call at exit */
        movq    (%rsp), %rsi                    /* 2: number of arguments */
        leaq    8(%rsp), %rdx                   /* 3: arguments */
        movq    %rsp, %rax
        andq    $-16, %rsp
        pushq   %rax
        pushq   %rax                            /* 7: end of the stack */
        xorl    %r8d, %r8d                      /* 5: no finaliser; the loader runs .fini_array */
        leaq    run_constructors(%rip), %rcx    /* 4: initialiser */
        movq    main@GOTPCREL(%rip), %rdi       /* 1 */
        call    *__libc_start_main@GOTPCREL(%rip)
        hlt
        .size   _start, . - _start

/* Calls the functions of .init and .init_array with the arguments that it was called with. */
        .type   run_constructors, @function
run_constructors:
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        movq    %rdi, %r12
        movq    %rsi, %r13
        movq    %rdx, %r14
        call    _init
        leaq    __init_array_start(%rip), %rbx
        leaq    __init_array_end(%rip), %rbp
1:      cmpq    %rbp, %rbx
        jae     2f
        movq    %r12, %rdi
        movq    %r13, %rsi
        movq    %r14, %rdx
        call    *(%rbx)
        addq    $8, %rbx
        jmp     1b
2:      popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        ret
        .size   run_constructors, . - run_constructors

        .hidden __init_array_start
        .hidden __init_array_end
        .hidden _init

        .data
        .weak   data_start
        .globl  __data_start
data_start:
__data_start:
        .quad   0

        .section .note.GNU-stack, "", @progbits
