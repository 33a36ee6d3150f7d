#include "io.h"
#include "machine.h"

#define ADDRESS 0xcf8
#define DATA 0xcfc
#define BRIDGE 1 /* the slot of the PIIX3, which maps the four wires of PCI to interrupts */
#define WIRES 0x60
#define INTERRUPT_LINE 0x3c
#define INTERRUPT_PIN 0x3d
#define HEADER_TYPE 0x0e
#define LEVEL_TRIGGERED 0x4d0

static const uint8_t interrupts[4] = {10, 10, 11, 11};

static uint8_t read8(unsigned function, unsigned offset)
{
    out32(ADDRESS, 0x80000000u | function << 8 | (offset & 0xfc));
    return in8((uint16_t)(DATA + (offset & 3)));
}

static void write8(unsigned function, unsigned offset, uint8_t value)
{
    out32(ADDRESS, 0x80000000u | function << 8 | (offset & 0xfc));
    out8((uint16_t)(DATA + (offset & 3)), value);
}

/* QEMU's hw/isa/piix3.c turns a slot's pins by its number, from the bridge's own on. */
uint8_t pci_interrupt(unsigned slot, unsigned pin)
{
    return interrupts[(pin + slot - BRIDGE) & 3];
}

void pci_route_interrupts(void)
{
    for (unsigned wire = 0; wire < 4; wire++)
        write8(BRIDGE << 3, WIRES + wire, interrupts[wire]);
    out8(LEVEL_TRIGGERED, 0);
    out8(LEVEL_TRIGGERED + 1, 1 << (10 - 8) | 1 << (11 - 8));
    for (unsigned function = 0; function < 256; function++) {
        if (read8(function, 0) == 0xff && read8(function, 1) == 0xff) {
            if (!(function & 7))
                function |= 7; /* an empty slot */
            continue;
        }
        unsigned pin = read8(function, INTERRUPT_PIN);
        if (pin >= 1 && pin <= 4)
            write8(function, INTERRUPT_LINE, pci_interrupt(function >> 3, pin - 1));
        if (!(function & 7) && !(read8(function, HEADER_TYPE) & 0x80))
            function |= 7;
    }
}
