/* What is mounted and made in a container's root, before pivot_root. All
 * functions run in the container's first process; `root` is a descriptor of
 * its root directory. */
#ifndef HYPER_MOUNTS_H
#define HYPER_MOUNTS_H

#include "request.h"

#define SHARE_DIR "/run/hyper/share"
#define CONTAINERS_DIR "/run/hyper/containers"

/* rootfs.c: mounts the root file system and returns its descriptor, or -1. The
 * disks are mounted already. */
int rootfs_mount(const struct container_spec *spec, struct failure *failure);
int rootfs_finish(const struct container_spec *spec, int root, struct failure *failure);
/* rootfs.c: mount the disks of a container in hyperstart's own mount namespace. */
int rootfs_mount_disks(const struct container_spec *spec, struct failure *failure);

/* mounts.c */
int mounts_apply(const struct container_spec *spec, int root, struct failure *failure);
int files_apply(const struct container_spec *spec, int root, struct failure *failure);
int restrict_paths(const struct container_spec *spec, int root, struct failure *failure);
int sysctl_apply(const struct pairs *sysctl, struct failure *failure);
/* copy.c: what is below one directory into another, with owners, modes, times, xattrs. */
int copy_tree(int from, int to, const char *what, struct failure *failure);
/* The same with the owner, mode and attributes of `from` itself, if `to` is empty. */
int copy_into_empty(int from, int to, const char *what, struct failure *failure);
int bind_on(int root, const char *source, const char *target, struct failure *failure);

/* devices.c */
int devices_apply(const struct container_spec *spec, int root, struct failure *failure);

#endif
