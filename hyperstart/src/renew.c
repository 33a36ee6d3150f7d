/* RENEWCONTAINER: done in a child that enters the container's namespaces. */
#define _GNU_SOURCE
#include "renew.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "control.h"
#include "job.h"
#include "mounts.h"
#include "path.h"

/* linux/mount.h; the numbers are those of every architecture. */
#define SYS_OPEN_TREE 428
#define SYS_MOVE_MOUNT 429
#define TREE_CLONE 1
#define FROM_EMPTY_PATH 0x04
#define TO_EMPTY_PATH 0x40

#define BOOT_ID "/proc/sys/kernel/random/boot_id"
#define MACHINE_ID "/etc/machine-id"
#define MACHINE_ID_DIGITS 32

struct renewal {
    const char *id;
    const struct renewal_spec *spec;
    int init; /* pidfd of the container's init */
};

static int write_all(int fd, const void *data, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t got = write(fd, (const char *)data + done, size - done);
        if (got < 0 && errno != EINTR)
            return -1;
        done += got > 0 ? (size_t)got : 0;
    }
    return 0;
}

/* The content of a file that is there is replaced; what is bound over a path stays bound. */
static int replace(int root, const char *path, const void *data, size_t size,
                   struct failure *failure)
{
    int fd = path_open(root, path, O_WRONLY | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == EROFS))
        return 0;
    int result = fd < 0 || ftruncate(fd, 0) < 0 || write_all(fd, data, size) < 0 ? -1 : 0;
    if (result < 0)
        fail_errno(failure, "write of %s", path);
    if (fd >= 0)
        close(fd);
    return result;
}

/* Only one that was given to this machine before: an empty or absent one means that
 * nobody wants any. */
static int renew_machine_id(int root, const char *machine_id, struct failure *failure)
{
    struct stat st;
    char text[MACHINE_ID_DIGITS + 2];
    int fd = machine_id ? path_open(root, MACHINE_ID, O_PATH) : -1;
    if (fd < 0)
        return 0;
    bool wanted = !fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size >= MACHINE_ID_DIGITS &&
                  st.st_size < (off_t)sizeof text;
    close(fd);
    if (!wanted)
        return 0;
    int size = snprintf(text, sizeof text, "%s\n", machine_id);
    return replace(root, MACHINE_ID, text, (size_t)size, failure);
}

/* The kernel makes its boot id once; a file over it is another. Returns a descriptor of its
 * mount, to be put in the container, or -1 when it is there from an earlier renewal. */
static int boot_id_mount(const struct renewal *renewal, struct failure *failure)
{
    char path[256];
    snprintf(path, sizeof path, CONTAINERS_DIR "/%s", renewal->id);
    if (make_directories(path, 0711) < 0)
        return fail_errno(failure, "mkdir %s", path);
    snprintf(path, sizeof path, CONTAINERS_DIR "/%s/boot_id", renewal->id);
    bool there = access(path, F_OK) == 0;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0444);
    if (fd < 0 || dprintf(fd, "%s\n", renewal->spec->boot_id) < 0)
        return fail_errno(failure, "boot id");
    close(fd);
    if (there)
        return -1;
    int tree = (int)syscall(SYS_OPEN_TREE, AT_FDCWD, path, TREE_CLONE | O_CLOEXEC);
    return tree < 0 ? fail_errno(failure, "mount of the boot id") : tree;
}

static int put_boot_id(int root, int tree, struct failure *failure)
{
    int target = path_open(root, BOOT_ID, O_PATH);
    if (target < 0)
        return 0; /* a container without /proc */
    int result = (int)syscall(SYS_MOVE_MOUNT, tree, "", target, "",
                              FROM_EMPTY_PATH | TO_EMPTY_PATH);
    close(target);
    return result < 0 ? fail_errno(failure, "boot id") : 0;
}

static int renew_files(int root, const struct renewal_spec *spec, struct failure *failure)
{
    for (size_t i = 0; i < spec->files_count; i++) {
        const struct file_spec *file = &spec->files[i];
        if (replace(root, file->path, file->content, file->size, failure) < 0)
            return -1;
    }
    return renew_machine_id(root, spec->machine_id, failure);
}

static int renew_work(const void *argument, struct failure *failure)
{
    const struct renewal *renewal = argument;
    const struct renewal_spec *spec = renewal->spec;
    int tree = spec->boot_id ? boot_id_mount(renewal, failure) : -1;
    if (failure->code)
        return -1;
    if (setns(renewal->init, CLONE_NEWNS | CLONE_NEWUTS) < 0)
        return fail_errno(failure, "namespaces of container %s", renewal->id);
    if (spec->hostname && sethostname(spec->hostname, strlen(spec->hostname)) < 0)
        return fail_errno(failure, "hostname %s", spec->hostname);
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return fail_errno(failure, "root of container %s", renewal->id);
    if (tree >= 0 && put_boot_id(root, tree, failure) < 0)
        return -1;
    return renew_files(root, spec, failure);
}

void container_renew(uint64_t seq, struct container *container, const struct renewal_spec *spec)
{
    struct failure failure = {0};
    if (!container->init) {
        fail(&failure, FAIL_NO_SUCH, "container %s has ended", container->id);
        control_error(seq, &failure);
        return;
    }
    struct renewal renewal = {
        .id = container->id,
        .spec = spec,
        .init = fcntl(container->init->pidfd, F_DUPFD_CLOEXEC, 3),
    };
    int keep[] = {renewal.init};
    job_start(seq, renew_work, &renewal, keep, 1, NULL, NULL);
}
