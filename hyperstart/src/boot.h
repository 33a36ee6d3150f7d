/* The start of the VM's user space: mounts, modules, cgroups, ports. */
#ifndef HYPER_BOOT_H
#define HYPER_BOOT_H

#define CONTROL_PORT "sh.hyper.channel.0"
#define STREAM_PORT "sh.hyper.channel.1"

void boot_mounts(void);
void boot_limits(void);
void boot_modules(void); /* /modules/NN-NAME.ko, in the order of their names */
void boot_cgroups(void);
int boot_open_port(const char *name); /* waits for it; ends the VM if it does not come */

#endif
