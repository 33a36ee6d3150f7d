/* The start of the VM's user space: mounts, modules, cgroups, ports. */
#ifndef HYPER_BOOT_H
#define HYPER_BOOT_H

#include <stdbool.h>

void boot_mounts(void);
void boot_limits(void);
void boot_modules(void); /* /modules/NN-NAME.ko, in the order of their names */
void boot_cgroups(void);
/* Bounds the containers by the memory that there is; again when that has changed. */
void boot_reserve_memory(void);
/* The channels to the host: of virtio-serial, or what the command line names (ports.h). Waits for
 * them; ends the VM if they don't come. `lines`: they are serial lines. */
void boot_open_ports(int *control, int *streams, bool *lines);

#endif
