#define _GNU_SOURCE
#include "mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "disk.h"
#include "path.h"
#include "users.h"

#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif

/* Change the flags or the propagation of what is mounted on `target` now. */
static int change_mount(int root, const char *target, unsigned long flags)
{
    int fd = path_open(root, target, O_PATH);
    if (fd < 0)
        return -1;
    int result = mount(NULL, path_of_fd(fd), NULL, flags, NULL);
    int saved = errno;
    close(fd);
    errno = saved;
    return result;
}

/* The directory of a disk that is taken, made if it can be; else all of the disk. */
static int open_disk_source(const struct mount_spec *mount)
{
    char path[80];
    snprintf(path, sizeof path, DISKS_DIR "/%d-%d", mount->disk->at.target, mount->disk->at.lun);
    int disk = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (disk < 0 || !mount->disk_path)
        return disk;
    int fd = path_make_directory(disk, mount->disk_path);
    if (fd < 0 && errno == EROFS)
        return disk;
    int saved = errno;
    close(disk);
    errno = saved;
    return fd;
}

/* An O_PATH descriptor of what a bind mount takes. */
static int open_source(const struct mount_spec *mount)
{
    if (mount->disk)
        return open_disk_source(mount);
    if (mount->share) {
        int share = open(SHARE_DIR, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (share < 0)
            return -1;
        /* As a directory first: only so is a file system of its own mounted there, by virtiofs. */
        int fd = path_open(share, mount->share, O_PATH | O_DIRECTORY);
        if (fd < 0 && errno == ENOTDIR)
            fd = path_open(share, mount->share, O_PATH);
        int saved = errno;
        close(share);
        errno = saved;
        return fd;
    }
    errno = EINVAL;
    return -1;
}

static int open_target(int root, const char *target, bool directory)
{
    return directory ? path_make_directory(root, target) : path_make_file(root, target);
}

/* An empty volume starts with what the image has at its place. */
static int fill_volume(const struct mount_spec *mount_spec, int root, int source,
                       struct failure *failure)
{
    int below = path_open(root, mount_spec->target, O_RDONLY | O_DIRECTORY);
    if (below < 0)
        return 0;
    int above = openat(source, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = above < 0 ? fail_errno(failure, "volume of %s", mount_spec->target)
                           : copy_into_empty(below, above, mount_spec->target, failure);
    close(below);
    if (above >= 0)
        close(above);
    return result;
}

static int mount_bind(const struct mount_spec *mount_spec, int root, struct failure *failure)
{
    const char *target = mount_spec->target;
    struct stat st;
    int source = open_source(mount_spec);
    if (source < 0 || fstat(source, &st) < 0)
        return fail_errno(failure, "mount on %s: source", target);
    if (mount_spec->copy_up && S_ISDIR(st.st_mode) &&
        fill_volume(mount_spec, root, source, failure) < 0) {
        close(source);
        return -1;
    }
    int fd = open_target(root, target, S_ISDIR(st.st_mode));
    if (fd < 0) {
        close(source);
        return fail_errno(failure, "mount on %s: mount point", target);
    }
    unsigned long recursive = mount_spec->flags & MS_REC;
    int result = mount(path_of_fd(source), path_of_fd(fd), NULL, MS_BIND | recursive, NULL);
    if (result < 0)
        fail_errno(failure, "bind mount on %s", target);
    close(source);
    close(fd);
    unsigned long flags = mount_spec->flags & ~(unsigned long)(MS_BIND | MS_REC);
    if (!result && flags && change_mount(root, target, flags | MS_BIND | MS_REMOUNT) < 0)
        return fail_errno(failure, "remount of %s", target);
    return result;
}

/* The options of a tmpfs, with the mode of the directory `covered` (-1: a new one) if they
 * give none. */
static void tmpfs_data(int covered, const char *given, char data[4096])
{
    struct stat st;
    *data = '\0';
    if (covered >= 0 && !fstat(covered, &st))
        snprintf(data, 4096, "mode=%04o%s", st.st_mode & 07777, given && *given ? "," : "");
    if (given)
        snprintf(data + strlen(data), 4096 - strlen(data), "%s", given);
}

/* `below` is the directory under a new tmpfs. */
static int fill_tmpfs(const struct mount_spec *mount_spec, int root, int below,
                      struct failure *failure)
{
    int above = path_open(root, mount_spec->target, O_RDONLY | O_DIRECTORY);
    if (above < 0)
        return fail_errno(failure, "mount on %s", mount_spec->target);
    int result = copy_tree(below, above, mount_spec->target, failure);
    close(above);
    unsigned long flags = mount_spec->flags & ~(unsigned long)(MS_REC | MS_SILENT);
    if (!result && flags & MS_RDONLY &&
        change_mount(root, mount_spec->target, flags | MS_BIND | MS_REMOUNT) < 0)
        return fail_errno(failure, "remount of %s", mount_spec->target);
    return result;
}

/* /dev gets its nodes and further mounts before it is read-only. */
static bool is_dev(const struct mount_spec *mount_spec)
{
    return !strcmp(mount_spec->target, "/dev") || !strcmp(mount_spec->target, "/dev/");
}

static int mount_file_system(const struct mount_spec *mount_spec, int root,
                             struct failure *failure)
{
    const char *target = mount_spec->target;
    const char *fstype = mount_spec->fstype;
    const char *data = mount_spec->data;
    unsigned long flags = mount_spec->flags & ~(unsigned long)MS_REC;
    char with_mode[4096];
    int fd = path_open(root, target, O_PATH | O_DIRECTORY);
    if (!strcmp(fstype, "tmpfs")) {
        tmpfs_data(fd, data, with_mode);
        data = with_mode;
    }
    if (!strcmp(fstype, "cgroup") || !strcmp(fstype, "cgroup2")) {
        fstype = "cgroup2"; /* options of version 1 would be refused */
        data = NULL;
    }
    if (fd < 0)
        fd = open_target(root, target, true);
    if (fd < 0)
        return fail_errno(failure, "mount on %s: mount point", target);
    const char *source = mount_spec->source ? mount_spec->source : fstype;
    if (mount_spec->copy_up || is_dev(mount_spec))
        flags &= ~(unsigned long)MS_RDONLY;
    int result = mount(source, path_of_fd(fd), fstype, flags, data);
    if (result < 0)
        fail_errno(failure, "mount of %s on %s", fstype, target);
    else if (mount_spec->copy_up)
        result = fill_tmpfs(mount_spec, root, fd, failure);
    close(fd);
    return result;
}

/* struct mount_attr of linux/mount.h. */
static int set_attributes(const struct mount_spec *mount, int root, struct failure *failure)
{
    struct {
        uint64_t set, clear, propagation, userns;
    } attributes = {.set = mount->set_attributes, .clear = mount->clear_attributes};
    if (!attributes.set && !attributes.clear)
        return 0;
    int fd = path_open(root, mount->target, O_PATH);
    if (fd < 0 || syscall(442 /* mount_setattr */, fd, "", AT_EMPTY_PATH | AT_RECURSIVE,
                          &attributes, sizeof attributes) < 0)
        return fail_errno(failure, "recursive options of %s", mount->target);
    close(fd);
    return 0;
}

int mounts_apply(const struct container_spec *spec, int root, struct failure *failure)
{
    for (size_t i = 0; i < spec->mounts_count; i++) {
        const struct mount_spec *mount = &spec->mounts[i];
        bool bind = mount->share || mount->disk;
        int result = bind ? mount_bind(mount, root, failure)
                          : mount_file_system(mount, root, failure);
        if (result < 0)
            return -1;
        if (mount->propagation && change_mount(root, mount->target, mount->propagation) < 0)
            return fail_errno(failure, "propagation of %s", mount->target);
        if (set_attributes(mount, root, failure) < 0)
            return -1;
    }
    return 0;
}

int bind_on(int root, const char *source, const char *target, struct failure *failure)
{
    struct stat st;
    if (stat(source, &st) < 0)
        return fail_errno(failure, "mount on %s: source", target);
    int fd = open_target(root, target, S_ISDIR(st.st_mode));
    if (fd < 0)
        return fail_errno(failure, "mount on %s: mount point", target);
    int result = mount(source, path_of_fd(fd), NULL, MS_BIND, NULL);
    if (result < 0)
        fail_errno(failure, "bind mount on %s", target);
    close(fd);
    return result;
}

/* The ids of USER[:GROUP] in the container's own passwd and group files. */
static int find_owner(int root, const char *user, struct identity *identity,
                      struct failure *failure)
{
    char *texts[2];
    static const char *const paths[2] = {"/etc/passwd", "/etc/group"};
    for (int i = 0; i < 2; i++) {
        int fd = path_open(root, paths[i], O_PATH);
        texts[i] = users_read_file(fd < 0 ? "" : path_of_fd(fd));
        if (fd >= 0)
            close(fd);
    }
    int result = users_resolve(identity, user, NULL, 0, texts[0], texts[1], failure);
    free(texts[0]);
    free(texts[1]);
    return result;
}

static int write_injected(const struct file_spec *file, const char *path, int root,
                          struct failure *failure)
{
    static SELDOM struct identity owner;
    memset(&owner, 0, sizeof owner);
    if (file->user && find_owner(root, file->user, &owner, failure) < 0)
        return -1;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    size_t done = 0;
    ssize_t got = fd < 0 ? -1 : 0;
    while (got >= 0 && done < file->size) {
        got = write(fd, file->content + done, file->size - done);
        done += got > 0 ? (size_t)got : 0;
    }
    if (got < 0 || fchown(fd, owner.uid, owner.gid) < 0 || fchmod(fd, file->mode) < 0)
        fail_errno(failure, "write of %s", file->path);
    if (fd >= 0)
        close(fd);
    return failure->code ? -1 : 0;
}

int files_apply(const struct container_spec *spec, int root, struct failure *failure)
{
    char path[256];
    for (size_t i = 0; i < spec->files_count; i++) {
        const struct file_spec *file = &spec->files[i];
        snprintf(path, sizeof path, CONTAINERS_DIR "/%s/files", spec->id);
        if (make_directories(path, 0711) < 0)
            return fail_errno(failure, "mkdir %s", path);
        snprintf(path, sizeof path, CONTAINERS_DIR "/%s/files/%zu", spec->id, i);
        if (write_injected(file, path, root, failure) < 0 ||
            bind_on(root, path, file->path, failure) < 0)
            return -1;
    }
    return 0;
}

static bool is_absent(int number)
{
    return number == ENOENT || number == ENOTDIR;
}

/* A file is covered by /dev/null, a directory by an empty read-only tmpfs. */
static int mask_path(int root, const char *path, struct failure *failure)
{
    struct stat st;
    int fd = path_open(root, path, O_PATH);
    if (fd < 0)
        return is_absent(errno) ? 0 : fail_errno(failure, "masked path %s", path);
    int result = -1;
    if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
        result = mount("tmpfs", path_of_fd(fd), "tmpfs", MS_RDONLY, "size=0k,nr_inodes=2");
    else
        result = mount("/dev/null", path_of_fd(fd), NULL, MS_BIND, NULL);
    if (result < 0)
        fail_errno(failure, "masked path %s", path);
    close(fd);
    return result;
}

static int make_readonly(int root, const char *path, struct failure *failure)
{
    struct statvfs st;
    int fd = path_open(root, path, O_PATH);
    if (fd < 0)
        return is_absent(errno) ? 0 : fail_errno(failure, "read-only path %s", path);
    unsigned long flags = MS_BIND | MS_REMOUNT | MS_RDONLY;
    if (fstatvfs(fd, &st) == 0)
        flags |= st.f_flag & (MS_NOSUID | MS_NODEV | MS_NOEXEC);
    int result = mount(path_of_fd(fd), path_of_fd(fd), NULL, MS_BIND | MS_REC, NULL);
    if (!result)
        result = change_mount(root, path, flags);
    if (result < 0)
        fail_errno(failure, "read-only path %s", path);
    close(fd);
    return result;
}

int restrict_paths(const struct container_spec *spec, int root, struct failure *failure)
{
    for (size_t i = 0; i < spec->mounts_count; i++) {
        const struct mount_spec *mount = &spec->mounts[i];
        unsigned long flags = mount->flags & ~(unsigned long)(MS_REC | MS_SILENT);
        if (is_dev(mount) && !mount->share && !mount->disk && flags & MS_RDONLY &&
            change_mount(root, mount->target, flags | MS_BIND | MS_REMOUNT) < 0)
            return fail_errno(failure, "remount of %s", mount->target);
    }
    for (size_t i = 0; i < spec->readonly_count; i++)
        if (make_readonly(root, spec->readonly_paths[i], failure) < 0)
            return -1;
    for (size_t i = 0; i < spec->masked_count; i++)
        if (mask_path(root, spec->masked[i], failure) < 0)
            return -1;
    return 0;
}

/* `net.ipv4.ip_forward` or, when a component has a dot, `net/ipv4/…`. The
 * namespaces of the calling process count. */
int sysctl_apply(const struct pairs *sysctl, struct failure *failure)
{
    char path[PATH_MAX];
    for (size_t i = 0; i < sysctl->count; i++) {
        const char *name = sysctl->items[i].name;
        snprintf(path, sizeof path, "/proc/sys/%s", name);
        if (!strchr(name, '/'))
            for (char *c = path + strlen("/proc/sys/"); *c; c++)
                if (*c == '.')
                    *c = '/';
        if (!path_stays_below(path) || write_file(path, sysctl->items[i].value) < 0)
            return fail_errno(failure, "sysctl %s", name);
    }
    return 0;
}
