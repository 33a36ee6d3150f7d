#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "mounts.h"
#include "path.h"

static const struct device_spec standard_devices[] = {
    {"/dev/null", S_IFCHR | 0666, 1, 3, 0, 0},   {"/dev/zero", S_IFCHR | 0666, 1, 5, 0, 0},
    {"/dev/full", S_IFCHR | 0666, 1, 7, 0, 0},   {"/dev/random", S_IFCHR | 0666, 1, 8, 0, 0},
    {"/dev/urandom", S_IFCHR | 0666, 1, 9, 0, 0}, {"/dev/tty", S_IFCHR | 0666, 5, 0, 0, 0},
};

static const char *const standard_links[][2] = {
    {"/proc/self/fd", "/dev/fd"},
    {"/proc/self/fd/0", "/dev/stdin"},
    {"/proc/self/fd/1", "/dev/stdout"},
    {"/proc/self/fd/2", "/dev/stderr"},
};

static bool is_same_device(int parent, const char *name, const struct device_spec *device)
{
    struct stat st;
    return !fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) &&
           (st.st_mode & S_IFMT) == (device->mode & S_IFMT) &&
           (S_ISFIFO(st.st_mode) || st.st_rdev == makedev(device->major, device->minor));
}

/* On a file system that has no nodes (a share, say): one made elsewhere, bound. What it is
 * made on is mounted in the container's namespace only, and goes with the VM's root. */
static int bind_device(const struct container_spec *spec, int root,
                       const struct device_spec *device, struct failure *failure)
{
    char directory[256], path[300];
    snprintf(directory, sizeof directory, CONTAINERS_DIR "/%s/nodes", spec->id);
    if (mkdir(directory, 0700) == 0 &&
        mount("tmpfs", directory, "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=700") < 0)
        return fail_errno(failure, "tmpfs of devices");
    static unsigned count;
    snprintf(path, sizeof path, "%s/%u", directory, count++);
    if (mknod(path, device->mode, makedev(device->major, device->minor)) < 0 ||
        chown(path, device->uid, device->gid) < 0)
        return fail_errno(failure, "device %s", device->path);
    return bind_on(root, path, device->path, failure);
}

static int make_device(const struct container_spec *spec, int root,
                       const struct device_spec *device, struct failure *failure)
{
    const char *name;
    int parent = path_open_parent(root, device->path, &name);
    if (parent < 0)
        return fail_errno(failure, "device %s", device->path);
    int result = 0;
    if (!is_same_device(parent, name, device)) {
        unlinkat(parent, name, 0);
        result = mknodat(parent, name, device->mode, makedev(device->major, device->minor));
    }
    if (!result && fchownat(parent, name, device->uid, device->gid, AT_SYMLINK_NOFOLLOW) < 0)
        result = -1;
    int saved = errno;
    close(parent);
    if (!result)
        return 0;
    errno = saved;
    if (saved == EPERM || saved == EACCES || saved == ENXIO || saved == EOPNOTSUPP)
        return bind_device(spec, root, device, failure);
    return fail_errno(failure, "device %s", device->path);
}

static void make_link(int root, const char *target, const char *path)
{
    const char *name;
    int parent = path_open_parent(root, path, &name);
    if (parent < 0)
        return;
    if (symlinkat(target, parent, name) < 0 && errno == EEXIST && !strcmp(name, "ptmx")) {
        unlinkat(parent, name, 0);
        symlinkat(target, parent, name);
    }
    close(parent);
}

static bool is_writable_directory(int root, const char *path)
{
    int fd = path_make_directory(root, path);
    if (fd < 0)
        return false;
    bool writable = !faccessat(fd, ".", W_OK, AT_EACCESS);
    close(fd);
    return writable;
}

int devices_apply(const struct container_spec *spec, int root, struct failure *failure)
{
    if (!is_writable_directory(root, "/dev"))
        return 0;
    mode_t mask = umask(0);
    int result = 0;
    for (size_t i = 0; i < sizeof standard_devices / sizeof standard_devices[0]; i++)
        if (!result)
            result = make_device(spec, root, &standard_devices[i], failure);
    for (size_t i = 0; i < spec->devices_count && !result; i++)
        result = make_device(spec, root, &spec->devices[i], failure);
    umask(mask);
    for (size_t i = 0; i < sizeof standard_links / sizeof standard_links[0]; i++)
        make_link(root, standard_links[i][0], standard_links[i][1]);
    int ptmx = path_open(root, "/dev/pts/ptmx", O_PATH);
    if (ptmx >= 0) {
        close(ptmx);
        make_link(root, "pts/ptmx", "/dev/ptmx");
    }
    return result;
}
