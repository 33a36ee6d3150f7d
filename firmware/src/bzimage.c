/* Linux' 32-bit boot protocol: Documentation/x86/boot.rst, "The Real-Mode Kernel Header" and
 * "32-bit Boot Protocol"; the page of parameters is described in zero-page.rst. */
#include "bytes.h"
#include "kernel.h"

#define SECTOR 512u
#define HEADER_START 0x1f1
#define HEADER_MAGIC 0x202
#define VERSION 0x206
#define NEEDED_VERSION 0x20a /* 2.10 tells how much memory the kernel needs */
#define HEADER_MAX 0x302 /* its length is a byte */
#define E820_COUNT 0x1e8
#define E820_TABLE 0x2d0

static uint8_t parameters[4096];

bool bzimage_is(const struct cbfs_file *kernel)
{
    return kernel->size > HEADER_MAX && same(kernel->data + HEADER_MAGIC, "HdrS", 4);
}

static void put32(unsigned offset, uint32_t value)
{
    copy(parameters + offset, &value, sizeof value);
}

static void fill_parameters(const struct start *start)
{
    const uint8_t *image = start->kernel.data;
    uint32_t end = HEADER_MAGIC + image[HEADER_MAGIC - 1];
    copy(parameters + HEADER_START, image + HEADER_START, end - HEADER_START);
    parameters[0x210] = 0xff; /* type_of_loader: one without a number */
    put32(0x218, start->initrd);
    put32(0x21c, start->initrd_size);
    put32(0x228, (uint32_t)start->command_line);
    parameters[E820_COUNT] = (uint8_t)start->memory.count;
    copy(parameters + E820_TABLE, start->memory.ranges,
         start->memory.count * sizeof start->memory.ranges[0]);
}

static bool is_free(const struct start *start, uint32_t address, uint32_t size)
{
    return address >= FIRST_FREE && address <= start->initrd && size <= start->initrd - address;
}

void bzimage_start(const struct start *start)
{
    const uint8_t *image = start->kernel.data;
    if (little16(image + VERSION) < NEEDED_VERSION)
        fail("kernel", "its boot protocol is older than 2.10");
    uint32_t setup = ((image[HEADER_START] ? image[HEADER_START] : 4) + 1) * SECTOR;
    if (setup >= start->kernel.size)
        fail("kernel", "its header is damaged");
    uint32_t size = start->kernel.size - setup;
    uint32_t runs_at = little32(image + 0x258); /* pref_address */
    uint32_t needed = little32(image + 0x260);  /* init_size */
    /* One that can be moved unpacks itself from where it runs; else it is where it was linked. */
    bool movable = image[0x234];
    uint32_t address = movable ? runs_at : little32(image + 0x214); /* code32_start */
    if (!is_free(start, address, size) || !is_free(start, runs_at, needed))
        fail("kernel", "the memory is too small for it and its initrd");
    copy((void *)address, image + setup, size);
    fill_parameters(start);
    enter_kernel(address, 0, (uint32_t)parameters);
}
