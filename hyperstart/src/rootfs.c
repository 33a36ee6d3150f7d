#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "disk.h"
#include "mounts.h"
#include "path.h"

int rootfs_mount_disks(const struct container_spec *spec, struct failure *failure)
{
    const struct rootfs_spec *rootfs = &spec->rootfs;
    for (size_t i = 0; i < rootfs->lower_count; i++)
        if (disk_mount(&rootfs->lower[i], true, failure) < 0)
            return -1;
    if (rootfs->upper && disk_mount(rootfs->upper, false, failure) < 0)
        return -1;
    for (size_t i = 0; i < spec->mounts_count; i++) {
        const struct mount_spec *mount = &spec->mounts[i];
        /* Others may write to it; a container that may not has a read-only bind of it. */
        if (mount->disk && disk_mount(mount->disk, false, failure) < 0)
            return -1;
    }
    return 0;
}

/* The directory above: "upper" and "work", made at the first use of an upper
 * disk; the root of the container gets the owner and mode of the top layer's. */
static int make_upper(const char *directory, const char *top_layer, struct failure *failure)
{
    char path[PATH_MAX];
    struct stat st;
    snprintf(path, sizeof path, "%s/work", directory);
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return fail_errno(failure, "mkdir of the overlay's work directory");
    snprintf(path, sizeof path, "%s/upper", directory);
    if (mkdir(path, 0755) < 0)
        return errno == EEXIST ? 0 : fail_errno(failure, "mkdir of the overlay's upper directory");
    if (!stat(top_layer, &st) &&
        (chown(path, st.st_uid, st.st_gid) < 0 || chmod(path, st.st_mode & 07777) < 0))
        return fail_errno(failure, "owner of the overlay's upper directory");
    return 0;
}

/* mount(2) takes one page of options: the layers are named relative to DISKS_DIR. */
static int mount_overlay(const struct container_spec *spec, const char *target,
                         struct failure *failure)
{
    const struct rootfs_spec *rootfs = &spec->rootfs;
    char options[4096], layer[64], top[64], upper[256];
    if (chdir(DISKS_DIR) < 0)
        return fail_errno(failure, "chdir " DISKS_DIR);
    size_t used = (size_t)snprintf(options, sizeof options, "lowerdir=");
    for (size_t i = 0; i < rootfs->lower_count; i++) {
        disk_directory(rootfs->lower[i].at, layer, sizeof layer);
        used += (size_t)snprintf(options + used, sizeof options - used, "%s%s", i ? ":" : "", layer);
        if (used >= sizeof options - 512)
            return fail(failure, FAIL_SETUP, "too many layers (%zu)", rootfs->lower_count);
    }
    if (rootfs->upper) {
        disk_directory(rootfs->upper->at, upper, sizeof upper);
    } else {
        snprintf(upper, sizeof upper, CONTAINERS_DIR "/%s/tmpfs", spec->id);
        if (mkdir(upper, 0700) < 0 || mount("tmpfs", upper, "tmpfs", 0, "mode=700") < 0)
            return fail_errno(failure, "tmpfs of the overlay");
    }
    disk_directory(rootfs->lower[0].at, top, sizeof top);
    if (make_upper(upper, top, failure) < 0)
        return -1;
    snprintf(options + used, sizeof options - used, ",upperdir=%s/upper,workdir=%s/work", upper,
             upper);
    if (mount("overlay", target, "overlay", 0, options) < 0)
        return fail_errno(failure, "mount of the overlay");
    return chdir("/");
}

static int mount_bind_root(const char *source, const char *target, const char *what,
                           struct failure *failure)
{
    if (mount(source, target, NULL, MS_BIND, NULL) < 0)
        return fail_errno(failure, "bind of root file system %s", what);
    return 0;
}

static int mount_share_root(const char *share_path, const char *target, struct failure *failure)
{
    int share = open(SHARE_DIR, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd = share < 0 ? -1 : path_open(share, share_path, O_PATH | O_DIRECTORY);
    if (fd < 0)
        return fail_errno(failure, "root file system %s of the share", share_path);
    int result = mount_bind_root(path_of_fd(fd), target, share_path, failure);
    close(fd);
    close(share);
    return result;
}

int rootfs_mount(const struct container_spec *spec, struct failure *failure)
{
    char target[256], source[64] = DISKS_DIR "/";
    snprintf(target, sizeof target, CONTAINERS_DIR "/%s/rootfs", spec->id);
    if (make_directories(target, 0711) < 0)
        return fail_errno(failure, "mkdir %s", target);
    int result = -1;
    switch (spec->rootfs.kind) {
    case ROOTFS_OVERLAY:
        result = mount_overlay(spec, target, failure);
        break;
    case ROOTFS_SHARE:
        result = mount_share_root(spec->rootfs.share_path, target, failure);
        break;
    case ROOTFS_DISK:
        disk_directory(spec->rootfs.upper->at, source + strlen(source),
                       sizeof source - strlen(source));
        result = mount_bind_root(source, target, source, failure);
        break;
    }
    if (result < 0)
        return -1;
    int root = open(target, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return root < 0 ? fail_errno(failure, "open of the root file system") : root;
}

/* Make `root` the root of this mount namespace, with nothing of the VM's left in it. */
int rootfs_finish(const struct container_spec *spec, int root, struct failure *failure)
{
    struct statvfs st;
    if (spec->readonly) {
        unsigned long flags = MS_BIND | MS_REMOUNT | MS_RDONLY;
        if (fstatvfs(root, &st) == 0)
            flags |= st.f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC);
        if (mount(NULL, path_of_fd(root), NULL, flags, NULL) < 0)
            return fail_errno(failure, "read-only remount of the root file system");
    }
    if (fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
        return fail_errno(failure, "pivot_root");
    if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return fail_errno(failure, "unmount of the VM's root");
    if (spec->propagation && mount(NULL, "/", NULL, spec->propagation, NULL) < 0)
        return fail_errno(failure, "propagation of the root file system");
    return 0;
}
