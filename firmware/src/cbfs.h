/* coreboot's file system in flash, as `cbfstool` makes it (util/cbfstool/cbfs.h of coreboot 4.15).
 * Pure: no I/O. */
#ifndef FIRMWARE_CBFS_H
#define FIRMWARE_CBFS_H

#include <stdint.h>

struct cbfs {
    const uint8_t *start;
    uint32_t size, first, align;
};

struct cbfs_file {
    const uint8_t *data;
    uint32_t size;
};

/* Both return what is wrong, or NULL. `end` is where the flash ends, which is `most` at most. */
const char *cbfs_open(struct cbfs *cbfs, const uint8_t *end, uint32_t most);
/* A file that is not there has no data. */
const char *cbfs_find(const struct cbfs *cbfs, const char *name, struct cbfs_file *file);

#endif
