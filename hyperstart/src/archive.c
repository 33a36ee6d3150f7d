#define _GNU_SOURCE
#include "archive.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "container.h"
#include "disk.h"
#include "mounts.h"

static int exit_code(int number)
{
    switch (number) {
    case ENOENT:
        return ARCHIVE_NO_SUCH_FILE;
    case ENOTDIR:
        return ARCHIVE_NOT_A_DIRECTORY;
    case EROFS:
        return ARCHIVE_READ_ONLY;
    case ENOSPC:
    case EDQUOT:
        return ARCHIVE_NO_SPACE;
    default:
        return ARCHIVE_FAILED;
    }
}

/* The container's root directory; with `rootfs_only` a view of it that nothing is mounted on. */
static int open_root(const struct child *child, struct failure *failure)
{
    if (setns(child->init, CLONE_NEWNS) < 0)
        return fail_errno(failure, "mount namespace of container %s", child->container->id);
    int root = child->process->archive->rootfs_only
                   ? (int)syscall(428 /* open_tree */, AT_FDCWD, "/", 1 /* CLONE */ | O_CLOEXEC)
                   : open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return root < 0 ? fail_errno(failure, "root of container %s", child->container->id) : root;
}

static int open_upper(const struct container *container, struct failure *failure)
{
    char name[64], path[PATH_MAX];
    if (!container->has_upper)
        return fail(failure, FAIL_SETUP, "container %s has no disk of its own", container->id);
    disk_directory(container->disks[container->lower_count], name, sizeof name);
    snprintf(path, sizeof path, DISKS_DIR "/%s/upper", name);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? fail_errno(failure, "disk of container %s", container->id) : fd;
}

/* The image's layers as one directory, in a mount namespace of our own. */
static int open_lower(const struct container *container, struct failure *failure)
{
    char options[4096] = "lowerdir=", name[64], path[PATH_MAX];
    size_t used = strlen(options);
    for (size_t i = 0; i < container->lower_count; i++) {
        disk_directory(container->disks[i], name, sizeof name);
        used += (size_t)snprintf(options + used, sizeof options - used, "%s%s", i ? ":" : "", name);
        if (used >= sizeof options)
            return fail(failure, FAIL_SETUP, "too many layers");
    }
    snprintf(path, sizeof path, DISKS_DIR "/%s", name);
    if (container->lower_count > 1) {
        snprintf(path, sizeof path, CONTAINERS_DIR "/%s/lower", container->id);
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            chdir(DISKS_DIR) < 0 || (mkdir(path, 0700) < 0 && errno != EEXIST) ||
            mount("overlay", path, "overlay", MS_RDONLY, options) < 0)
            return fail_errno(failure, "layers of container %s", container->id);
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? fail_errno(failure, "layers of container %s", container->id) : fd;
}

static int run(const struct child *child, struct failure *failure)
{
    const struct archive_spec *spec = child->process->archive;
    if (spec->op == ARCHIVE_UPPER || spec->op == ARCHIVE_CHANGES) {
        int upper = open_upper(child->container, failure);
        if (upper < 0 || spec->op == ARCHIVE_UPPER)
            return upper < 0 ? -1 : archive_upper(upper, failure);
        int lower = open_lower(child->container, failure);
        return lower < 0 ? -1 : archive_changes(upper, lower, failure);
    }
    int root = open_root(child, failure);
    if (root < 0)
        return -1;
    if (spec->op == ARCHIVE_PUT)
        return archive_put(root, spec, failure);
    return spec->op == ARCHIVE_STAT ? archive_stat(root, spec, failure)
                                    : archive_get(root, spec, failure);
}

int archive_run(const struct child *child, struct failure *failure)
{
    errno = 0;
    if (run(child, failure) == 0)
        return ARCHIVE_DONE;
    int code = exit_code(errno);
    dprintf(2, "%s\n", failure->text);
    return code;
}
