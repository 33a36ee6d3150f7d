/* BPF programs that decide what the processes of a cgroup may do with devices: bpf(2),
 * BPF_PROG_TYPE_CGROUP_DEVICE. */
#ifndef HYPER_DEVICE_PROGRAM_H
#define HYPER_DEVICE_PROGRAM_H

#include "request.h"

/* A descriptor of the program, or -1 and errno; it is the caller's. */
int device_program_load(const struct device_rules *rules);
/* Likewise in the main process, where it stays ours: the last few are kept, since the kernel takes as long to verify one
 * as for a quarter of all else that a container needs. */
int device_program_kept(const struct device_rules *rules);
/* Have it decide for a cgroup (its directory) in the place of former ones; -1 and errno. */
int device_program_attach(int program, int group);

#endif
