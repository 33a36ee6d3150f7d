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
