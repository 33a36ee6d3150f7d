/* PCI cards that come and go while the VM runs, without ACPI and without a driver for it. */
#ifndef HYPER_PCI_H
#define HYPER_PCI_H

#include <stdbool.h>
#include <stddef.h>

#include "failure.h"

/* Look for cards that were plugged in. */
void pci_rescan(void);

/* The same for memory, whose card needs more than that. */
void pci_rescan_memory(void);

/* The PCI address ("0000:00:05.0") of what a device of sysfs belongs to; false for none. */
bool pci_address(const char *device, char *address, size_t size);

/* Take a card from the kernel, and let the host have it back. */
int pci_eject(const char *address, struct failure *failure);

#endif
