/* From the reset vector in real mode to flat 32-bit mode, as Linux' boot protocol asks for it:
 * code is selector 0x10 and data 0x18 (Documentation/x86/boot.rst, "32-bit Boot Protocol"). */
#define STACK 0x10000

    .section .text
    .code16
start16:
    cli
    cld
    addr32 lgdtl %cs:(gdt_pointer + 0x10000) /* less the segment's base, 0xffff0000 */
    /* Protected mode; and caches on, which a reset leaves off. */
    movl $0x11, %eax
    movl %eax, %cr0
    ljmpl $0x10, $start32

    .code32
start32:
    movl $0x18, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
    movl $STACK, %esp
    movl $variables, %edi
    movl $variables_end, %ecx
    subl %edi, %ecx
    xorl %eax, %eax
    rep stosb
    call firmware_main

    /* _Noreturn void enter_kernel(uint32_t entry, uint32_t ebx, uint32_t esi); */
    .globl enter_kernel
enter_kernel:
    movl 4(%esp), %eax
    movl 8(%esp), %ebx
    movl 12(%esp), %esi
    xorl %ebp, %ebp
    xorl %edi, %edi
    jmp *%eax

    /* _Noreturn void end_machine(void): a triple fault, which QEMU takes for a reset. */
    .globl end_machine
end_machine:
    lidt no_vectors
    int3

    .balign 8
gdt:
    .quad 0
    .quad 0
    .quad 0x00cf9b000000ffff /* 0x10: code, 4 GiB */
    .quad 0x00cf93000000ffff /* 0x18: data, 4 GiB */
gdt_pointer:
    .word . - gdt - 1
    .long gdt
no_vectors:
    .word 0
    .long 0

    .section .reset, "ax"
    .code16
    .globl reset
reset:
    jmp start16
    .balign 16, 0xff

    .section .note.GNU-stack, "", @progbits
