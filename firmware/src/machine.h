/* What the firmware knows of QEMU's machine `pc`. */
#ifndef FIRMWARE_MACHINE_H
#define FIRMWARE_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

/* entry.S */
_Noreturn void enter_kernel(uint32_t entry, uint32_t ebx, uint32_t esi);
_Noreturn void end_machine(void);

/* console.c: the first serial port. */
void console_init(void);
/* Say why, as "firmware: WHAT: TROUBLE", and end the machine. */
_Noreturn void fail(const char *what, const char *trouble);

/* fwcfg.c: QEMU's configuration (docs/specs/fw_cfg.rst). */
#define FWCFG_CPUS 0x05
#define FWCFG_MOST_CPUS 0x0f /* that there can be, later */
uint16_t fwcfg_number(uint16_t key);
/* Up to `size` bytes of a named file; how many, 0 when there is none. */
uint32_t fwcfg_file(const char *name, void *to, uint32_t size);

/* pci.c: which interrupt each card has. */
void pci_route_interrupts(void);
uint8_t pci_interrupt(unsigned slot, unsigned pin); /* pin 0 is INTA */

/* mptable.c: the table of CPUs and interrupts, which Linux needs without ACPI. */
#define TABLE_AT 0x9f000u
#define TABLE_END 0x9fc00u
/* Of all CPUs that there can be: the kernel takes no others, when they come. */
void mptable_write(unsigned cpus);

/* memory.c: the map of memory, in the form of both of Linux' protocols. */
struct memory_range {
    uint64_t base, size;
    uint32_t type; /* 1: RAM, 2: reserved */
} __attribute__((packed));
#define MAX_RANGES 32
struct memory {
    struct memory_range ranges[MAX_RANGES];
    unsigned count;
    uint32_t low_end; /* of RAM from 1 MiB on, below 4 GiB */
};
void memory_read(struct memory *memory);

void copy(void *to, const void *from, uint32_t size);
void clear(void *at, uint32_t size);
bool same(const void *one, const void *other, uint32_t size);
uint32_t length(const char *text);

#endif
