/* The entry of a PVH guest, which an uncompressed Linux has: it starts at once, without unpacking
 * itself. Documentation: Xen's docs/misc/pvh.pandoc and include/public/arch-x86/hvm/start_info.h;
 * files by the ELF-64 Object File Format. */
#include <stddef.h>

#include "bytes.h"
#include "kernel.h"

#define ELF_HEADER_SIZE 64
#define SEGMENT_SIZE 56
#define LOAD 1
#define NOTE 4
#define X86_64 62
#define PVH_ENTRY 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
#define START_MAGIC 0x336ec578u

struct segment {
    uint32_t type;
    uint64_t offset, address, in_file, in_memory;
};

struct module {
    uint64_t address, size, command_line, reserved;
};

struct start_info {
    uint32_t magic, version, flags, modules;
    uint64_t module_list, command_line, acpi, memory_map;
    uint32_t memory_ranges, reserved;
};

struct map_entry {
    uint64_t base, size;
    uint32_t type, reserved;
};

static struct start_info info;
static struct module module;
static struct map_entry map[MAX_RANGES];

bool pvh_is(const struct cbfs_file *kernel)
{
    const uint8_t *data = kernel->data;
    return kernel->size >= ELF_HEADER_SIZE && big32(data) == 0x7f454c46 && data[4] == 2 &&
           data[5] == 1 && little16(data + 18) == X86_64;
}

static struct segment read_segment(const struct cbfs_file *kernel, uint64_t table, unsigned index)
{
    uint64_t at = table + index * SEGMENT_SIZE;
    if (table > kernel->size || at + SEGMENT_SIZE > kernel->size)
        fail("kernel", "its ELF header is damaged");
    const uint8_t *bytes = kernel->data + at;
    struct segment segment = {little32(bytes), little64(bytes + 8), little64(bytes + 24),
                              little64(bytes + 32), little64(bytes + 40)};
    if (segment.offset > kernel->size || segment.in_file > kernel->size - segment.offset)
        fail("kernel", "a segment is not in its file");
    return segment;
}

/* Notes are a name's size, a description's size and a type, then both, each padded to four. */
static uint32_t entry_of(const uint8_t *notes, uint32_t size)
{
    while (size >= 12) {
        uint32_t name = little32(notes), value = little32(notes + 4), type = little32(notes + 8);
        if (name > size - 12 || value > size - 12)
            return 0;
        uint32_t at = 12 + ((name + 3) & ~3u), step = at + ((value + 3) & ~3u);
        if (step > size)
            return 0;
        if (type == PVH_ENTRY && name == 4 && value >= 4 && same(notes + 12, "Xen", 4))
            return little32(notes + at);
        notes += step;
        size -= step;
    }
    return 0;
}

static void load(const struct start *start, const struct segment *segment)
{
    if (segment->address < FIRST_FREE || segment->address > start->initrd ||
        segment->in_memory > start->initrd - segment->address ||
        segment->in_file > segment->in_memory)
        fail("kernel", "the memory is too small for it and its initrd");
    uint8_t *to = (uint8_t *)(uint32_t)segment->address;
    uint32_t in_file = (uint32_t)segment->in_file;
    copy(to, start->kernel.data + segment->offset, in_file);
    clear(to + in_file, (uint32_t)segment->in_memory - in_file);
}

static void describe(const struct start *start)
{
    for (unsigned i = 0; i < start->memory.count; i++) {
        const struct memory_range *range = &start->memory.ranges[i];
        map[i] = (struct map_entry){range->base, range->size, range->type, 0};
    }
    module.address = start->initrd;
    module.size = start->initrd_size;
    info = (struct start_info){.magic = START_MAGIC,
                               .version = 1,
                               .modules = 1,
                               .module_list = (uint32_t)&module,
                               .command_line = (uint32_t)start->command_line,
                               .memory_map = (uint32_t)map,
                               .memory_ranges = start->memory.count};
}

void pvh_start(const struct start *start)
{
    const uint8_t *header = start->kernel.data;
    uint64_t table = little64(header + 32);
    uint32_t entry = 0;
    if (little16(header + 54) != SEGMENT_SIZE)
        fail("kernel", "its ELF header is damaged");
    for (unsigned i = 0; i < little16(header + 56); i++) {
        struct segment segment = read_segment(&start->kernel, table, i);
        if (segment.type == LOAD)
            load(start, &segment);
        else if (segment.type == NOTE && !entry)
            entry = entry_of(start->kernel.data + segment.offset, (uint32_t)segment.in_file);
    }
    if (!entry)
        fail("kernel", "it has no PVH entry (CONFIG_PVH)");
    describe(start);
    enter_kernel(entry, (uint32_t)&info, 0);
}
