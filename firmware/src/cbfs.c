#include "cbfs.h"

#include <stdbool.h>
#include <stddef.h>

#include "bytes.h"

#define HEADER_MAGIC 0x4f524243u /* ORBC */
#define HEADER_SIZE 32
#define FILE_HEADER_SIZE 24
#define COMPRESSION 0x42435a4cu /* the tag of an attribute */
#define ATTRIBUTE_SIZE 8

const char *cbfs_open(struct cbfs *cbfs, const uint8_t *end, uint32_t most)
{
    /* The last four bytes say where the header is, counted from the end. */
    uint32_t back = -little32(end - 4);
    if (back < HEADER_SIZE + 4 || back > most)
        return "no master header";
    const uint8_t *header = end - back;
    if (big32(header) != HEADER_MAGIC)
        return "no master header";
    cbfs->size = big32(header + 8);
    cbfs->align = big32(header + 16);
    cbfs->first = big32(header + 20);
    if (cbfs->size < back || cbfs->size > most || cbfs->first > cbfs->size - back)
        return "the master header is damaged: sizes that can't be";
    if (cbfs->align < 4 || cbfs->align > 65536 || (cbfs->align & (cbfs->align - 1)))
        return "the master header is damaged: an alignment that can't be";
    cbfs->start = end - cbfs->size;
    return NULL;
}

static bool has_magic(const uint8_t *at)
{
    return big32(at) == 0x4c415243u && big32(at + 4) == 0x48495645u; /* LARCHIVE */
}

/* Whether a file's header holds the name, which ends before the data or the attributes. */
static bool is_named(const uint8_t *header, uint32_t size, const char *name)
{
    for (uint32_t i = FILE_HEADER_SIZE; i < size; i++) {
        if (header[i] != (uint8_t)name[i - FILE_HEADER_SIZE])
            return false;
        if (!header[i])
            return true;
    }
    return false;
}

static bool is_compressed(const uint8_t *header, uint32_t attributes, uint32_t size)
{
    while (attributes && size - attributes >= ATTRIBUTE_SIZE) {
        uint32_t tag = big32(header + attributes), length = big32(header + attributes + 4);
        if (length < ATTRIBUTE_SIZE || length > size - attributes)
            return false;
        if (tag == COMPRESSION && length >= ATTRIBUTE_SIZE + 4)
            return big32(header + attributes + ATTRIBUTE_SIZE) != 0;
        attributes += length;
    }
    return false;
}

const char *cbfs_find(const struct cbfs *cbfs, const char *name, struct cbfs_file *file)
{
    uint32_t at = cbfs->first;
    file->data = NULL;
    file->size = 0;
    while (at <= cbfs->size && cbfs->size - at >= FILE_HEADER_SIZE && has_magic(cbfs->start + at)) {
        const uint8_t *header = cbfs->start + at;
        uint32_t size = big32(header + 8), data = big32(header + 20), left = cbfs->size - at;
        uint32_t attributes = big32(header + 16);
        if (data < FILE_HEADER_SIZE || data > left || size > left - data || attributes > data)
            return "a file reaches beyond the end";
        if (is_named(header, attributes ? attributes : data, name)) {
            if (is_compressed(header, attributes, data))
                return "a file is compressed";
            file->data = header + data;
            file->size = size;
            return NULL;
        }
        uint32_t step = (data + size + cbfs->align - 1) & ~(cbfs->align - 1);
        if (step > left)
            break;
        at += step;
    }
    return NULL;
}
