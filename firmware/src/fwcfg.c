#include "bytes.h"
#include "io.h"
#include "machine.h"

#define SELECTOR 0x510
#define DATA 0x511
#define DIRECTORY 0x19
#define MAX_FILES 256

struct entry {
    uint8_t size[4], key[2], reserved[2];
    char name[56];
};

static void read_at_key(uint16_t key, void *to, uint32_t size)
{
    out16(SELECTOR, key);
    in8_many(DATA, to, size);
}

uint16_t fwcfg_number(uint16_t key)
{
    uint8_t bytes[2];
    read_at_key(key, bytes, sizeof bytes);
    return little16(bytes);
}

uint32_t fwcfg_file(const char *name, void *to, uint32_t size)
{
    uint8_t bytes[4];
    struct entry entry;
    read_at_key(DIRECTORY, bytes, sizeof bytes);
    uint32_t count = big32(bytes);
    for (uint32_t i = 0; i < count && i < MAX_FILES; i++) {
        in8_many(DATA, &entry, sizeof entry);
        if (!same(entry.name, name, length(name) + 1))
            continue;
        uint32_t there = big32(entry.size);
        if (there > size)
            there = size;
        read_at_key((uint16_t)(entry.key[0] << 8 | entry.key[1]), to, there);
        return there;
    }
    return 0;
}
