#define _GNU_SOURCE
#include "pci.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __x86_64__
#include <sys/io.h>
#endif

#include "path.h"

#define DEVICES "/sys/bus/pci/devices"
#define BUSES "/sys/class/pci_bus"

/* The hot-plug registers of QEMU's machine `pc` (its docs/specs/acpi_pci_hotplug). */
#define EJECT_PORT 0xae08
#define BUS_PORT 0xae10

/* A card's identity and its wire to the interrupt controller (6.2 of PCI's specification 3.0). */
#define INTERRUPT_LINE 0x3c
#define INTERRUPT_PIN 0x3d
/* virtio-mem (4.1.2.1 and 5 of virtio 1.2), the vendor's number above the device's. */
#define MEMORY_CARD 0x10581af4u
/* The bridge of the machine `pc` says where the four wires lead; its own slot is where they begin
 * (QEMU's hw/isa/piix3.c). */
#define BRIDGE DEVICES "/0000:00:01.0/config"
#define BRIDGE_SLOT 1
#define WIRES 0x60
#define UNCONNECTED 0x80

/* PCI's list of capabilities, and in the one of PCI Express (7.5.3 of its base specification 5.0)
 * what a port has for the slot behind it. */
#define CAPABILITIES 0x34
#define CAPABILITY_EXPRESS 0x10
#define MAX_CAPABILITIES 48
#define SLOT_CONTROL 0x18
#define INDICATOR_MASK 0x0300
#define INDICATOR_ON 0x0100
#define INDICATOR_OFF 0x0300
#define POWER_OFF 0x0400

/* Where the slot's control register is in a port's configuration space, -1 without one. */
static off_t slot_control(int config)
{
    uint8_t at, capability[2];
    if (pread(config, &at, 1, CAPABILITIES) != 1)
        return -1;
    for (int i = 0; i < MAX_CAPABILITIES && at; i++, at = capability[1]) {
        if (pread(config, capability, 2, at) != 2)
            return -1;
        if (capability[0] == CAPABILITY_EXPRESS)
            return at + SLOT_CONTROL;
    }
    return -1;
}

static int set_power(int config, bool on)
{
    uint16_t value; /* little endian, as the machines that this is for */
    off_t at = slot_control(config);
    if (at < 0 || pread(config, &value, sizeof value, at) != sizeof value)
        return -1;
    value = (uint16_t)((value & ~(INDICATOR_MASK | POWER_OFF)) |
                       (on ? INDICATOR_ON : INDICATOR_OFF | POWER_OFF));
    return pwrite(config, &value, sizeof value, at) == sizeof value ? 0 : -1;
}

/* A card in a slot without power can't be seen. */
static void power_slots(void)
{
    DIR *directory = opendir(BUSES);
    struct dirent *entry;
    while (directory && (entry = readdir(directory))) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, BUSES "/%s/device/config", entry->d_name);
        int config = open(path, O_RDWR | O_CLOEXEC); /* the root bus has none */
        if (config >= 0) {
            set_power(config, true);
            close(config);
        }
    }
    if (directory)
        closedir(directory);
}

void pci_rescan(void)
{
    power_slots();
    write_file("/sys/bus/pci/rescan", "1");
}

/* What the firmware does for the cards that it finds: tell the card the number of the interrupt that
 * its wire leads to. Returns whether it had none. */
static bool connect_interrupt(int config, unsigned slot)
{
    uint8_t pin, line, wires[4];
    int bridge = open(BRIDGE, O_RDONLY | O_CLOEXEC);
    bool known = bridge >= 0 && pread(bridge, wires, sizeof wires, WIRES) == sizeof wires;
    if (bridge >= 0)
        close(bridge);
    if (!known || pread(config, &pin, 1, INTERRUPT_PIN) != 1 || pin < 1 || pin > 4 ||
        pread(config, &line, 1, INTERRUPT_LINE) != 1 || (line && line != 0xff))
        return false;
    line = wires[(pin - 1u + slot - BRIDGE_SLOT) & 3];
    return !(line & UNCONNECTED) && pwrite(config, &line, 1, INTERRUPT_LINE) == 1;
}

/* A card without messages for interrupts, for which no driver came up, since the kernel takes the
 * number from the card when it first sees it. So it has to see it again. */
static bool reconnect(const char *address)
{
    char path[PATH_MAX];
    unsigned slot, id;
    snprintf(path, sizeof path, DEVICES "/%s/config", address);
    int config = open(path, O_RDWR | O_CLOEXEC);
    bool changed = config >= 0 && sscanf(address, "0000:00:%x.0", &slot) == 1 &&
                   pread(config, &id, sizeof id, 0) == sizeof id && id == MEMORY_CARD &&
                   connect_interrupt(config, slot);
    if (config >= 0)
        close(config);
    snprintf(path, sizeof path, DEVICES "/%s/remove", address);
    return changed && write_file(path, "1") == 0;
}

void pci_rescan_memory(void)
{
    pci_rescan();
    DIR *directory = opendir(DEVICES);
    struct dirent *entry;
    bool changed = false;
    while (directory && (entry = readdir(directory)))
        changed |= reconnect(entry->d_name);
    if (directory)
        closedir(directory);
    if (changed)
        pci_rescan();
}

bool pci_address(const char *device, char *address, size_t size)
{
    char path[PATH_MAX];
    unsigned domain, bus, slot, function;
    if (!realpath(device, path)) /* …/pci0000:00/0000:00:05.0/virtio3 */
        return false;
    char *end = strrchr(path, '/');
    *end = '\0';
    const char *name = strrchr(path, '/');
    if (!name || sscanf(name, "/%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4)
        return false;
    snprintf(address, size, "%s", name + 1);
    return true;
}

#ifdef __x86_64__
static int eject_from_root(const char *address, struct failure *failure)
{
    unsigned bus, slot;
    if (sscanf(address, "%*x:%x:%x", &bus, &slot) != 2 || bus != 0 || slot > 31)
        return fail(failure, FAIL_SETUP, "card %s can't be ejected", address);
    if (ioperm(EJECT_PORT, 4, 1) < 0 || ioperm(BUS_PORT, 4, 1) < 0)
        return fail_errno(failure, "hot-plug ports");
    outl(0, BUS_PORT);
    outl(1u << slot, EJECT_PORT);
    return 0;
}
#else
static int eject_from_root(const char *address, struct failure *failure)
{
    return fail(failure, FAIL_SETUP, "card %s is not in a slot, and can't be ejected", address);
}
#endif

/* The configuration space of the port that a card is behind, -1 for a card on the root bus. */
static int open_port(const char *address)
{
    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, DEVICES "/%s/../config", address);
    return open(path, O_RDWR | O_CLOEXEC);
}

int pci_eject(const char *address, struct failure *failure)
{
    char path[128];
    int port = open_port(address);
    snprintf(path, sizeof path, DEVICES "/%s/remove", address);
    int result = write_file(path, "1") < 0 ? fail_errno(failure, "removal of card %s", address) : 0;
    if (!result && port < 0)
        result = eject_from_root(address, failure);
    else if (!result && set_power(port, false) < 0)
        result = fail(failure, FAIL_SETUP, "the slot of card %s can't be switched off", address);
    if (port >= 0)
        close(port);
    return result;
}
