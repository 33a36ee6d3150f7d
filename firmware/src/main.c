/* The firmware of HyperContainer: starts Linux from a CBFS in the second flash of QEMU's machine
 * `pc`, which ends where the first, with this program, begins. */
#include <stddef.h>

#include "cbfs.h"
#include "kernel.h"
#include "machine.h"

#define FLASH_MAX (16u << 20) /* of both together: QEMU's limit for the machine */
#define COMMAND_LINE_MAX 2048 /* Linux' COMMAND_LINE_SIZE on x86 */
#define PAGE 4096u
#define LOW_ENOUGH 0x37ffffffu /* where any kernel finds its initrd */
#define MAX_CPUS 64

extern const uint8_t rom_start[], size_of_rom[];
void firmware_main(void);

static char command_line[COMMAND_LINE_MAX];
static struct start start;

static struct cbfs_file find(const struct cbfs *cbfs, const char *name)
{
    struct cbfs_file file;
    const char *trouble = cbfs_find(cbfs, name, &file);
    if (trouble)
        fail("cbfs", trouble);
    return file;
}

/* What the CBFS says, and what depends on this VM, which QEMU is told. */
static void read_command_line(const struct cbfs *cbfs)
{
    struct cbfs_file file = find(cbfs, "cmdline");
    if (file.size > COMMAND_LINE_MAX - 2)
        fail("cbfs", "the command line is too long");
    copy(command_line, file.data, file.size);
    uint32_t used = length(command_line);
    while (used && (command_line[used - 1] == '\n' || command_line[used - 1] == ' '))
        used--;
    command_line[used++] = ' ';
    uint32_t left = COMMAND_LINE_MAX - used;
    uint32_t more = fwcfg_file("opt/org.hypercontainer/append", command_line + used, left);
    if (more == left)
        fail("command line", "too long with what the VM adds");
    command_line[used + more] = '\0';
}

static void load_initrd(const struct cbfs *cbfs)
{
    struct cbfs_file file = find(cbfs, "initrd");
    if (!file.data)
        fail("cbfs", "no initrd");
    uint32_t top = start.memory.low_end < LOW_ENOUGH ? start.memory.low_end : LOW_ENOUGH;
    if (file.size > top - FIRST_FREE)
        fail("initrd", "the memory is too small for it");
    start.initrd = (top - file.size) & ~(PAGE - 1);
    start.initrd_size = file.size;
    copy((void *)start.initrd, file.data, file.size);
}

void firmware_main(void)
{
    struct cbfs cbfs;
    console_init();
    const char *trouble = cbfs_open(&cbfs, rom_start, FLASH_MAX - (uint32_t)size_of_rom);
    if (trouble)
        fail("cbfs", trouble);
    start.kernel = find(&cbfs, "vmlinuz");
    if (!start.kernel.data)
        fail("cbfs", "no kernel");
    memory_read(&start.memory);
    unsigned cpus = fwcfg_number(FWCFG_CPUS), most = fwcfg_number(FWCFG_MOST_CPUS);
    if (most > cpus)
        cpus = most;
    if (cpus < 1 || cpus > MAX_CPUS)
        fail("cpus", "more than 64");
    pci_route_interrupts();
    mptable_write(cpus);
    load_initrd(&cbfs);
    read_command_line(&cbfs);
    start.command_line = command_line;
    if (pvh_is(&start.kernel))
        pvh_start(&start);
    if (bzimage_is(&start.kernel))
        bzimage_start(&start);
    fail("kernel", "neither an ELF file of x86-64 nor a bzImage");
}
