/* Disks on the virtio-scsi controller, by TARGET:LUN. They are mounted once
 * under DISKS_DIR, in hyperstart's own mount namespace, and shared by the
 * containers; who uses which is counted in the main process (disk_use,
 * disk_unuse), the slow work is done in children, one at a time for a disk. */
#ifndef HYPER_DISK_H
#define HYPER_DISK_H

#include <stdbool.h>

#include "request.h"

#define DISKS_DIR "/run/hyper/disks"

void disk_use(struct disk_address at);
/* True when that was the last use: the disk is to be released. */
bool disk_unuse(struct disk_address at);

/* In a child: find the disk and mount it on DISKS_DIR/TARGET-LUN unless it is. */
int disk_mount(const struct disk_spec *disk, bool read_only, struct failure *failure);
/* In the main process, before the child that releases the disk is forked, so that no
 * new container's child comes in between: a descriptor that holds the disk's lock, or -1. */
int disk_lock(struct disk_address at);
/* In that child: unmount it, and have the kernel forget the device. */
void disk_unmount(struct disk_address at);
void disk_forget(struct disk_address at);
void disk_directory(struct disk_address at, char *path, size_t size); /* relative to DISKS_DIR */

#endif
