/* Starting Linux. */
#ifndef FIRMWARE_KERNEL_H
#define FIRMWARE_KERNEL_H

#include "cbfs.h"
#include "machine.h"

struct start {
    struct cbfs_file kernel;
    uint32_t initrd, initrd_size;
    const char *command_line;
    struct memory memory;
};

#define FIRST_FREE 0x100000u /* kernels go above it */

/* pvh.c: an ELF file with a PVH entry, as `vmlinux` is. */
bool pvh_is(const struct cbfs_file *kernel);
_Noreturn void pvh_start(const struct start *start);

/* bzimage.c: what distributions call `vmlinuz`. */
bool bzimage_is(const struct cbfs_file *kernel);
_Noreturn void bzimage_start(const struct start *start);

#endif
