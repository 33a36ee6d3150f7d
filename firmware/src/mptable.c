/* Intel's MultiProcessor Specification 1.4, chapter 4: how CPUs and interrupts are told without
 * ACPI. It is where Linux looks for it, in the last KiB of the memory below 640 KiB. */
#include "machine.h"

#define POINTER_AT 0x9fc00u
#define LOCAL_APIC 0xfee00000u
#define IO_APIC 0xfec00000u
#define ISA 1
#define PCI 0
#define SLOTS 32

enum type { PROCESSOR, BUS, IOAPIC, INTERRUPT, LOCAL_INTERRUPT };
enum kind { VECTORED, NON_MASKABLE, SYSTEM_MANAGEMENT, EXTERNAL };

struct pointer {
    char signature[4];
    uint32_t table;
    uint8_t length, revision, checksum, features[5];
} __attribute__((packed));

struct header {
    char signature[4];
    uint16_t length;
    uint8_t revision, checksum;
    char maker[8], product[12];
    uint32_t oem_table;
    uint16_t oem_size, entries;
    uint32_t local_apic;
    uint16_t extended_length;
    uint8_t extended_checksum, reserved;
} __attribute__((packed));

struct processor {
    uint8_t type, apic, version, flags;
    uint32_t signature, features, reserved[2];
} __attribute__((packed));

struct bus {
    uint8_t type, id;
    char name[6];
} __attribute__((packed));

struct ioapic {
    uint8_t type, id, version, flags;
    uint32_t address;
} __attribute__((packed));

struct interrupt {
    uint8_t type, kind;
    uint16_t flags;
    uint8_t bus, source, apic, pin;
} __attribute__((packed));

static uint8_t *next;

static void put(const void *entry, uint32_t size)
{
    struct header *header = (struct header *)TABLE_AT;
    if ((uint32_t)next + size > TABLE_END)
        fail("mp table", "it does not fit");
    copy(next, entry, size);
    next += size;
    header->entries++;
}

static void put_processors(unsigned cpus)
{
    uint32_t signature, features, unused_b, unused_c;
    __asm__("cpuid" : "=a"(signature), "=b"(unused_b), "=c"(unused_c), "=d"(features) : "a"(1));
    for (unsigned i = 0; i < cpus; i++) {
        uint8_t flags = i ? 1 : 3; /* enabled; the first is the one that we run on */
        struct processor entry = {PROCESSOR, (uint8_t)i, 0x14, flags, signature, features, {0, 0}};
        put(&entry, sizeof entry);
    }
}

static void put_interrupt(enum type type, enum kind kind, unsigned bus, unsigned source,
                          unsigned apic, unsigned pin)
{
    uint16_t flags = bus == PCI && type == INTERRUPT; /* active high, as QEMU's wires are */
    struct interrupt entry = {(uint8_t)type, (uint8_t)kind, flags,       (uint8_t)bus,
                              (uint8_t)source, (uint8_t)apic, (uint8_t)pin};
    put(&entry, sizeof entry);
}

static void put_interrupts(unsigned apic)
{
    for (unsigned slot = BUS; slot < SLOTS; slot++)
        for (unsigned pin = 0; pin < 4; pin++)
            put_interrupt(INTERRUPT, VECTORED, PCI, slot << 2 | pin, apic,
                          pci_interrupt(slot, pin));
    /* The timer comes in by pin 2, and 2 is where the second controller of a PC comes in. */
    for (unsigned line = 0; line < 16; line++)
        if (line != 2 && line != 10 && line != 11)
            put_interrupt(INTERRUPT, VECTORED, ISA, line, apic, line ? line : 2);
    put_interrupt(LOCAL_INTERRUPT, EXTERNAL, ISA, 0, 0xff, 0);
    put_interrupt(LOCAL_INTERRUPT, NON_MASKABLE, ISA, 0, 0xff, 1);
}

static uint8_t checksum(const void *at, uint32_t size)
{
    uint8_t sum = 0;
    for (const uint8_t *byte = at; size; size--)
        sum += *byte++;
    return (uint8_t)-sum;
}

void mptable_write(unsigned cpus)
{
    struct header *header = (struct header *)TABLE_AT;
    struct pointer *pointer = (struct pointer *)POINTER_AT;
    *header = (struct header){.signature = {'P', 'C', 'M', 'P'},
                              .revision = 4,
                              .maker = {'H', 'Y', 'P', 'E', 'R', ' ', ' ', ' '},
                              .product = {'C', 'O', 'N', 'T', 'A', 'I', 'N', 'E', 'R', ' ', ' ', ' '},
                              .local_apic = LOCAL_APIC};
    next = (uint8_t *)(header + 1);
    put_processors(cpus);
    put(&(struct bus){BUS, PCI, {'P', 'C', 'I', ' ', ' ', ' '}}, sizeof(struct bus));
    put(&(struct bus){BUS, ISA, {'I', 'S', 'A', ' ', ' ', ' '}}, sizeof(struct bus));
    put(&(struct ioapic){IOAPIC, (uint8_t)cpus, 0x11, 1, IO_APIC}, sizeof(struct ioapic));
    put_interrupts(cpus);
    header->length = (uint16_t)(next - (uint8_t *)header);
    header->checksum = checksum(header, header->length);
    *pointer = (struct pointer){.signature = {'_', 'M', 'P', '_'},
                                .table = TABLE_AT,
                                .length = 1,
                                .revision = 4};
    pointer->checksum = checksum(pointer, sizeof *pointer);
}
