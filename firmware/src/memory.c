#include "machine.h"

#define MIB (1u << 20)
#define TYPE_RAM 1
#define TYPE_RESERVED 2

/* gcc calls these by their names, too. */
void *memcpy(void *to, const void *from, uint32_t size);
void *memset(void *at, int value, uint32_t size);

void *memcpy(void *to, const void *from, uint32_t size)
{
    void *end = to;
    uint32_t words = size / 4, rest = size % 4;
    __asm__ volatile("rep movsl" : "+D"(end), "+S"(from), "+c"(words) : : "memory");
    __asm__ volatile("rep movsb" : "+D"(end), "+S"(from), "+c"(rest) : : "memory");
    return to;
}

void *memset(void *at, int value, uint32_t size)
{
    void *end = at;
    uint32_t words = size / 4, rest = size % 4;
    uint32_t pattern = (uint8_t)value * 0x01010101u;
    __asm__ volatile("rep stosl" : "+D"(end), "+c"(words) : "a"(pattern) : "memory");
    __asm__ volatile("rep stosb" : "+D"(end), "+c"(rest) : "a"(pattern) : "memory");
    return at;
}

void copy(void *to, const void *from, uint32_t size)
{
    memcpy(to, from, size);
}

void clear(void *at, uint32_t size)
{
    memset(at, 0, size);
}

bool same(const void *one, const void *other, uint32_t size)
{
    const uint8_t *a = one, *b = other;
    while (size && *a == *b)
        a++, b++, size--;
    return !size;
}

uint32_t length(const char *text)
{
    uint32_t count = 0;
    while (text[count])
        count++;
    return count;
}

static void add(struct memory *memory, uint64_t base, uint64_t size, uint32_t type)
{
    if (memory->count < MAX_RANGES && size)
        memory->ranges[memory->count++] = (struct memory_range){base, size, type};
}

/* QEMU tells RAM as if a PC had no hole below 1 MiB, where its old devices and our table are. */
void memory_read(struct memory *memory)
{
    static struct memory_range told[MAX_RANGES - 2];
    uint32_t count = fwcfg_file("etc/e820", told, sizeof told) / sizeof told[0];
    add(memory, 0, TABLE_AT, TYPE_RAM);
    add(memory, TABLE_AT, MIB - TABLE_AT, TYPE_RESERVED);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t base = told[i].base, end = base + told[i].size;
        if (end <= MIB)
            continue;
        if (base < MIB)
            base = MIB;
        add(memory, base, end - base, told[i].type);
        if (told[i].type == TYPE_RAM && base == MIB && end <= UINT32_MAX)
            memory->low_end = (uint32_t)end;
    }
    if (!memory->low_end)
        fail("memory", "QEMU tells of none from 1 MiB on");
}
