/* What reads a CBFS, with sound and damaged ones. */
#include <stdlib.h>

#include "cbfs.h"
#include "test.h"

#define SIZE 4096u
#define HEADER (SIZE - 36)

static uint8_t rom[SIZE];

static void put32(unsigned at, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++)
        rom[at + i] = (uint8_t)(value >> (24 - 8 * i));
}

/* Returns where the next file goes. */
static unsigned put_file(unsigned at, const char *name, const char *data, uint32_t attributes)
{
    unsigned offset = 64, size = (unsigned)strlen(data);
    memset(rom + at, 0, offset);
    memcpy(rom + at, "LARCHIVE", 8);
    put32(at + 8, size);
    put32(at + 12, 0x50);
    put32(at + 16, attributes);
    put32(at + 20, offset);
    memcpy(rom + at + 24, name, strlen(name));
    memcpy(rom + at + offset, data, size);
    return at + ((offset + size + 63) & ~63u);
}

static void make(void)
{
    memset(rom, 0xff, sizeof rom);
    memcpy(rom + HEADER, "ORBC1112", 8);
    put32(HEADER + 8, SIZE);
    put32(HEADER + 12, 0);
    put32(HEADER + 16, 64);
    put32(HEADER + 20, 0);
    memcpy(rom + SIZE - 4, "\xdc\xff\xff\xff", 4);
    unsigned at = put_file(0, "vmlinuz", "the kernel", 0);
    put_file(at, "initrd", "the initrd, which is longer", 0);
}

static const char *opened(struct cbfs *cbfs)
{
    return cbfs_open(cbfs, rom + SIZE, SIZE);
}

static const char *looked_for(const char *name, struct cbfs_file *file)
{
    struct cbfs cbfs;
    CHECK(!opened(&cbfs));
    return cbfs_find(&cbfs, name, file);
}

TEST(files_are_found_by_their_whole_names)
{
    struct cbfs_file file;
    make();
    CHECK(!looked_for("vmlinuz", &file));
    CHECK(file.size == 10 && !memcmp(file.data, "the kernel", 10));
    CHECK(!looked_for("initrd", &file));
    CHECK(file.size == 27 && !memcmp(file.data, "the initrd", 10));
    CHECK(!looked_for("cmdline", &file) && !file.data && !file.size);
    CHECK(!looked_for("vmlinu", &file) && !file.data);
    CHECK(!looked_for("vmlinuz2", &file) && !file.data);
}

TEST(a_damaged_master_header_is_told)
{
    static const uint32_t wrong[][2] = {
        {0, 0},           {8, 0},  {8, SIZE + 1},   {8, 32},         {8, 0xffffffff},
        {16, 0},          {16, 3}, {16, 48},        {16, 1u << 31},  {20, SIZE},
        {20, 0xffffffff},
    };
    struct cbfs cbfs;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        make();
        put32(HEADER + wrong[i][0], wrong[i][1]);
        CHECK(opened(&cbfs));
    }
    for (unsigned back = 0; back < 256; back++) {
        make();
        rom[SIZE - 4] = (uint8_t)back;
        CHECK(!opened(&cbfs) == (back == 0xdc));
    }
    make();
    memset(rom + SIZE - 4, 0, 4);
    CHECK(!strcmp(opened(&cbfs), "no master header"));
}

TEST(damaged_and_compressed_files_are_told)
{
    struct cbfs_file file;
    make();
    put32(8, SIZE);
    CHECK(looked_for("initrd", &file) && !file.data);
    make();
    put32(20, 8);
    CHECK(looked_for("initrd", &file));
    make();
    put32(16, 65);
    CHECK(looked_for("initrd", &file));
    make();
    put_file(0, "vmlinuz", "the kernel", 40);
    put32(40, 0x42435a4c);
    put32(44, 16);
    put32(48, 1);
    CHECK(looked_for("vmlinuz", &file) && !file.data);
    put32(48, 0);
    CHECK(!looked_for("vmlinuz", &file) && file.data);
}

/* The sanitizers would tell. */
TEST(no_byte_makes_it_read_outside)
{
    static const uint8_t values[] = {0, 1, 0x40, 0x7f, 0x80, 0xff};
    uint8_t *copy = malloc(SIZE);
    if (!copy)
        abort();
    for (unsigned at = 0; at < SIZE; at++) {
        if (at == 256)
            at = HEADER;
        for (size_t i = 0; i < sizeof values; i++) {
            struct cbfs cbfs;
            struct cbfs_file file;
            make();
            memcpy(copy, rom, SIZE);
            copy[at] = values[i];
            if (cbfs_open(&cbfs, copy + SIZE, SIZE) || cbfs_find(&cbfs, "initrd", &file))
                continue;
            CHECK(!file.data || (file.data >= copy && file.size <= SIZE &&
                                 file.data + file.size <= copy + SIZE));
        }
    }
    free(copy);
}
