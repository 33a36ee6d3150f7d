#include "disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loop.h"
#include "memory.h"
#include "path.h"

#define WAIT_MS 10000
#define UNMOUNT_MS 5000

struct disk_count {
    struct disk_count *next;
    struct disk_address at;
    unsigned uses;
};
static struct disk_count *counts;

static struct disk_count **find_count(struct disk_address at)
{
    struct disk_count **link = &counts;
    while (*link && ((*link)->at.target != at.target || (*link)->at.lun != at.lun))
        link = &(*link)->next;
    return link;
}

void disk_use(struct disk_address at)
{
    struct disk_count **link = find_count(at);
    if (!*link) {
        *link = allocate(sizeof **link);
        (*link)->at = at;
    }
    (*link)->uses++;
}

bool disk_unuse(struct disk_address at)
{
    struct disk_count **link = find_count(at), *count = *link;
    if (!count || --count->uses)
        return false;
    *link = count->next;
    free(count);
    return true;
}

void disk_directory(struct disk_address at, char *path, size_t size)
{
    snprintf(path, size, "%d-%d", at.target, at.lun);
}

/* Disks of Xen, of User Mode Linux and of AHCI come by themselves; virtio-scsi is told to look. */
#define XEN_EXTENDED (1u << 28)

/* The lowest number of a SCSI host of a driver, -1 if there is none. */
static int first_host(const char *driver)
{
    DIR *directory = opendir("/sys/class/scsi_host");
    int found = -1;
    struct dirent *entry;
    while (directory && (entry = readdir(directory))) {
        char path[300], name[64];
        snprintf(path, sizeof path, "/sys/class/scsi_host/%s/proc_name", entry->d_name);
        if (!strncmp(entry->d_name, "host", 4) && read_file(path, name, sizeof name) > 0 &&
            !strncmp(name, driver, strlen(driver))) {
            int number = atoi(entry->d_name + 4);
            found = found < 0 || number < found ? number : found;
        }
    }
    if (directory)
        closedir(directory);
    return found;
}

static int virtio_host(void)
{
    return first_host("virtio_scsi");
}

static DIR *open_blocks(int host, struct disk_address at)
{
    char path[128];
    if (host >= 0) {
        snprintf(path, sizeof path, "/sys/bus/scsi/devices/%d:0:%d:%d/block", host, at.target,
                 at.lun);
        return opendir(path);
    }
    snprintf(path, sizeof path, "/sys/bus/xen/devices/vbd-%u/block",
             XEN_EXTENDED | (unsigned)at.lun << 8);
    DIR *directory = opendir(path);
    if (directory)
        return directory;
    snprintf(path, sizeof path, "/sys/devices/platform/uml-blkdev.%d/block", at.lun);
    directory = opendir(path);
    /* A port of AHCI is a host of its own; they are numbered in their order. */
    int first = directory ? -1 : first_host("ahci");
    if (first < 0)
        return directory;
    snprintf(path, sizeof path, "/sys/bus/scsi/devices/%d:0:0:0/block", first + at.lun);
    return opendir(path);
}

/* Writes the name (sda, xvda, ubdb, …) of the block device; false while it is not there. */
static bool block_name(int host, struct disk_address at, char *name, size_t size)
{
    DIR *directory = open_blocks(host, at);
    bool found = false;
    struct dirent *entry;
    while (directory && !found && (entry = readdir(directory)))
        if (entry->d_name[0] != '.') {
            snprintf(name, size, "%.32s", entry->d_name);
            found = true;
        }
    if (directory)
        closedir(directory);
    return found;
}

/* The node is there a moment before the disk behind it. */
static bool can_be_opened(const char *device)
{
    int fd = open(device, O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static int find_device(struct disk_address at, char *device, size_t size, struct failure *failure)
{
    char scan[64], name[64], request[64];
    int64_t end = monotonic_ms() + WAIT_MS;
    for (int attempt = 0;; attempt++) {
        int host = virtio_host();
        if (block_name(host, at, name, sizeof name)) {
            snprintf(device, size, "/dev/%s", name);
            if (can_be_opened(device))
                return 0;
        } else if (host >= 0 && attempt % 20 == 0) {
            snprintf(scan, sizeof scan, "/sys/class/scsi_host/host%d/scan", host);
            snprintf(request, sizeof request, "0 %d %d", at.target, at.lun);
            write_file(scan, request);
            if (attempt == 0)
                continue;
        }
        if (monotonic_ms() > end)
            break;
        usleep(attempt < 20 ? 500 : 5000);
    }
    return fail(failure, FAIL_SETUP, "disk %d:%d did not appear within %d s", at.target, at.lun,
                WAIT_MS / 1000);
}

static bool is_mount_point(const char *path)
{
    struct stat here, parent;
    char above[160];
    snprintf(above, sizeof above, "%s/..", path);
    return !stat(path, &here) && !stat(above, &parent) && here.st_dev != parent.st_dev;
}

/* One process at a time works on a disk. */
static int lock_disk(const char *path, int operation)
{
    char lock[160];
    snprintf(lock, sizeof lock, "%s.lock", path);
    int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && flock(fd, operation) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

int disk_lock(struct disk_address at)
{
    char path[128];
    snprintf(path, sizeof path, DISKS_DIR "/%d-%d", at.target, at.lun);
    return lock_disk(path, LOCK_EX | LOCK_NB);
}

static int mount_locked(const struct disk_spec *disk, const char *path, bool read_only,
                        struct failure *failure)
{
    char device[80];
    if (is_mount_point(path))
        return 0;
    if (find_device(disk->at, device, sizeof device, failure) < 0)
        return -1;
    unsigned long flags = read_only ? MS_RDONLY : 0;
    int result = mount(device, path, disk->fstype, flags, disk->data);
    if (result < 0 && (errno == EACCES || errno == EROFS) && !read_only)
        result = mount(device, path, disk->fstype, MS_RDONLY, disk->data);
    if (result < 0)
        return fail_errno(failure, "mount of disk %d:%d as %s", disk->at.target, disk->at.lun,
                          disk->fstype);
    return 0;
}

int disk_mount(const struct disk_spec *disk, bool read_only, struct failure *failure)
{
    char name[32], path[80];
    disk_directory(disk->at, name, sizeof name);
    snprintf(path, sizeof path, DISKS_DIR "/%s", name);
    if (make_directories(DISKS_DIR, 0700) < 0)
        return fail_errno(failure, "mkdir " DISKS_DIR);
    int lock = lock_disk(path, LOCK_EX);
    if (lock < 0)
        return fail_errno(failure, "lock of %s", path);
    /* Not before: whoever had the lock may have removed it. */
    int result = make_directories(path, 0700);
    if (result < 0)
        fail_errno(failure, "mkdir %s", path);
    else
        result = mount_locked(disk, path, read_only, failure);
    close(lock);
    return result;
}

/* The last container's mount namespace is taken down a little after its last process. */
static void unmount_patiently(const char *path)
{
    int64_t end = monotonic_ms() + UNMOUNT_MS;
    while (umount2(path, UMOUNT_NOFOLLOW) < 0) {
        if (errno != EBUSY)
            return;
        if (monotonic_ms() > end) {
            umount2(path, UMOUNT_NOFOLLOW | MNT_DETACH);
            return;
        }
        usleep(2000);
    }
}

void disk_unmount(struct disk_address at)
{
    char path[128];
    snprintf(path, sizeof path, DISKS_DIR "/%d-%d", at.target, at.lun);
    if (is_mount_point(path))
        unmount_patiently(path);
    rmdir(path);
}

void disk_forget(struct disk_address at)
{
    char path[128], name[64];
    int host = virtio_host();
    if (!block_name(host, at, name, sizeof name))
        return;
    snprintf(path, sizeof path, "/sys/block/%s/device/delete", name);
    write_file(path, "1"); /* fails for what is no SCSI disk, or was unplugged already */
}
