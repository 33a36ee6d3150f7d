#define _GNU_SOURCE
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#include "archive.h"
#include "cgroup.h"
#include "connect.h"
#include "container.h"
#include "mounts.h"
#include "net.h"
#include "path.h"
#include "process.h"

static int compare_ints(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

void child_reset(int *keep, size_t count)
{
    sigset_t none;
    sigemptyset(&none);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    qsort(keep, count, sizeof *keep, compare_ints);
    unsigned from = 3;
    for (size_t i = 0; i < count; i++) {
        if (keep[i] < (int)from)
            continue;
        if (keep[i] > (int)from)
            syscall(SYS_close_range, from, keep[i] - 1, 0);
        from = (unsigned)keep[i] + 1;
    }
    syscall(SYS_close_range, from, ~0U, 0);
}

static void send_report(const struct child *child, enum report_kind kind,
                        const struct failure *failure, int fd)
{
    struct report report = {.kind = kind};
    if (failure)
        report.failure = *failure;
    struct iovec data = {&report, sizeof report};
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &fd, sizeof fd);
    }
    while (sendmsg(child->report, &message, MSG_NOSIGNAL) < 0 && errno == EINTR)
        continue;
}

_Noreturn static void give_up(const struct child *child, const struct failure *failure)
{
    send_report(child, REPORT_FAILED, failure, -1);
    _exit(failure->code ? failure->code : FAIL_SETUP);
}

/* A pseudo-terminal of the devpts instance at `root`. */
static int open_terminal(int root, int *slave, struct failure *failure)
{
    int unlock = 0;
    int master = path_open(root, "/dev/pts/ptmx", O_RDWR | O_NOCTTY);
    if (master < 0)
        master = path_open(root, "/dev/ptmx", O_RDWR | O_NOCTTY);
    if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0 ||
        (*slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0)
        return fail_errno(failure, "terminal");
    return master;
}

static int set_standard_fds(const struct child *child, int slave, struct failure *failure)
{
    const struct process_spec *process = child->process;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int in = slave >= 0 ? slave : child->in >= 0 ? child->in : null;
    int out = slave >= 0 ? slave : child->out >= 0 ? child->out : null;
    int err = slave >= 0 ? slave : child->err >= 0 ? child->err : null;
    if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
        return fail_errno(failure, "standard streams");
    if (slave < 0)
        return 0;
    struct winsize size = {.ws_row = process->rows, .ws_col = process->cols};
    if (size.ws_row || size.ws_col)
        ioctl(0, TIOCSWINSZ, &size);
    if (ioctl(0, TIOCSCTTY, 0) < 0)
        return fail_errno(failure, "controlling terminal");
    return 0;
}

static bool is_null(int fd)
{
    struct stat st;
    return !fstat(fd, &st) && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3);
}

/* Inside the container: its own /dev/null in the place of the VM's, and pipes that the
 * program may open again by /dev/stdout after it gave up root. */
static void give_standard_fds(uid_t uid)
{
    struct stat st;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    for (int fd = 0; fd < 3; fd++) {
        if (is_null(fd) && is_null(null))
            dup2(null, fd);
        else if (!fstat(fd, &st) && st.st_uid != uid && (S_ISFIFO(st.st_mode) || isatty(fd)))
            if (fchown(fd, uid, st.st_gid) < 0)
                continue;
    }
    if (null >= 0)
        close(null);
}

static int set_oom_score(const struct process_spec *process, struct failure *failure)
{
    char text[16];
    snprintf(text, sizeof text, "%d", process->oom_score_adj);
    if (process->has_oom_score_adj && write_file("/proc/self/oom_score_adj", text) < 0)
        return fail_errno(failure, "oom_score_adj");
    return 0;
}

/* Into the time namespace made by unshare, which is for children only otherwise. */
static int enter_time(const struct container_spec *spec, struct failure *failure)
{
    char text[256];
    size_t used = 0;
    for (size_t i = 0; i < spec->time_offsets_count && used < sizeof text; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%d %lld %lld\n",
                                 spec->time_offsets[i].clock,
                                 (long long)spec->time_offsets[i].seconds,
                                 (long long)spec->time_offsets[i].nanoseconds);
    if (used >= sizeof text)
        return fail(failure, FAIL_BAD_REQUEST, "too many time offsets");
    if (used && write_file("/proc/self/timens_offsets", text) < 0)
        return fail_errno(failure, "time offsets");
    int own = open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
    if (own < 0 || setns(own, namespace_kinds[NS_TIME].flag) < 0)
        return fail_errno(failure, "time namespace");
    close(own);
    return 0;
}

static int enter_namespaces(const struct child *child, struct failure *failure)
{
    const struct container_spec *spec = child->spec;
    for (int kind = 0; kind < NS_COUNT; kind++)
        if (kind != NS_PID && child->join[kind] >= 0 &&
            setns(child->join[kind], namespace_kinds[kind].flag) < 0)
            return fail_errno(failure, "join of the %s namespace of %s",
                              namespace_kinds[kind].name, spec->join[kind]);
    if (unshare(spec->unshare & ~CLONE_NEWPID) < 0) /* that one is new since the clone */
        return fail_errno(failure, "unshare");
    if (spec->unshare & namespace_kinds[NS_TIME].flag && enter_time(spec, failure) < 0)
        return -1;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return fail_errno(failure, "private mounts");
    if (spec->unshare & CLONE_NEWNET && net_loopback_up(failure) < 0)
        return -1;
    if (!(spec->unshare & CLONE_NEWUTS))
        return 0;
    if (spec->hostname && sethostname(spec->hostname, strlen(spec->hostname)) < 0)
        return fail_errno(failure, "hostname %s", spec->hostname);
    if (spec->domainname && setdomainname(spec->domainname, strlen(spec->domainname)) < 0)
        return fail_errno(failure, "domain name %s", spec->domainname);
    return 0;
}

static int make_working_directory(int root, const char *path, struct failure *failure)
{
    int fd = path_make_directory(root, path);
    if (fd < 0 && errno == EROFS)
        return 0; /* chdir will tell */
    if (fd < 0)
        return fail_errno(failure, "working directory %s", path);
    close(fd);
    return 0;
}

/* Everything of a new container up to its root. Returns the pty's master, or -1
 * without a terminal. */
static int build_container(const struct child *child, int *slave, struct failure *failure)
{
    const struct container_spec *spec = child->spec;
    int master = -1;
    if (rootfs_mount_disks(spec, failure) < 0 ||
        cgroup_write(spec->id, &spec->cgroup, failure) < 0 ||
        cgroup_join(spec->id, 0, failure) < 0 || enter_namespaces(child, failure) < 0)
        return -1;
    int root = rootfs_mount(spec, failure);
    if (root < 0 || mounts_apply(spec, root, failure) < 0 ||
        files_apply(spec, root, failure) < 0 || devices_apply(spec, root, failure) < 0)
        return -1;
    if (child->process->terminal) {
        master = open_terminal(root, slave, failure);
        if (master < 0 || bind_on(root, path_of_fd(*slave), "/dev/console", failure) < 0)
            return -1;
    }
    if (set_standard_fds(child, *slave, failure) < 0 ||
        sysctl_apply(&spec->sysctl, failure) < 0 ||
        make_working_directory(root, spec->process.cwd, failure) < 0 ||
        restrict_paths(spec, root, failure) < 0 || rootfs_finish(spec, root, failure) < 0)
        return -1;
    close(root);
    return master;
}

static int enter_container(const struct child *child, int *slave, struct failure *failure)
{
    int master = -1;
    if (!child->in_cgroup && cgroup_join(child->container->id, child->init_pid, failure) < 0)
        return -1;
    /* /dev/null of the VM: the container's own may be anything. */
    if (!child->process->terminal && set_standard_fds(child, -1, failure) < 0)
        return -1;
    int kinds = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWCGROUP;
    /* Not every kernel has namespaces of time; one that lacks them joins nothing at all. */
    if (setns(child->init, kinds | namespace_kinds[NS_TIME].flag) < 0 &&
        (errno != EINVAL || setns(child->init, kinds) < 0))
        return fail_errno(failure, "namespaces of container %s", child->container->id);
    if (child->process->terminal) {
        int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        master = open_terminal(root, slave, failure);
        close(root);
        if (master < 0 || set_standard_fds(child, *slave, failure) < 0)
            return -1;
    }
    return master;
}

static void wait_for_start(const struct child *child)
{
    char byte;
    ssize_t got;
    while ((got = read(child->report, &byte, 1)) < 0 && errno == EINTR)
        continue;
    if (got != 1)
        _exit(FAIL_SETUP);
}

/* Files of the container are read or written, outside its pid namespace and its limits. */
_Noreturn static void serve_archive(const struct child *child)
{
    struct failure failure = {0};
    if (set_standard_fds(child, -1, &failure) < 0)
        give_up(child, &failure);
    send_report(child, REPORT_EXECUTING, NULL, -1);
    close(child->report);
    _exit(archive_run(child, &failure));
}

/* As above; what can't be connected to was never started. */
_Noreturn static void serve_connection(const struct child *child)
{
    struct failure failure = {0};
    int sock = connect_open(child, &failure);
    if (sock < 0 || set_standard_fds(child, -1, &failure) < 0)
        give_up(child, &failure);
    send_report(child, REPORT_EXECUTING, NULL, -1);
    close(child->report);
    connect_carry(sock);
    _exit(0);
}

/* A container that others only look into: nothing of the image runs. */
_Noreturn static void stay_idle(void)
{
    for (;;)
        pause();
}

_Noreturn void child_run(const struct child *child)
{
    struct failure failure = {0};
    struct program program = {0};
    int slave = -1, master = -1;
    int keep[] = {child->report, child->in, child->out, child->err, child->init,
                  child->join[0], child->join[1], child->join[2], child->join[3],
                  child->join[4], child->join[5], child->join[6]};
    child_reset(keep, sizeof keep / sizeof keep[0]);
    setsid();
    if (child->process->archive)
        serve_archive(child);
    if (child->process->connect)
        serve_connection(child);
    if (set_oom_score(child->process, &failure) == 0)
        master = child->spec ? build_container(child, &slave, &failure)
                             : enter_container(child, &slave, &failure);
    if (failure.code ||
        (!child->process->idle && process_prepare(child->process, &program, &failure) < 0))
        give_up(child, &failure);
    give_standard_fds(program.identity.uid);
    if (child->spec) {
        send_report(child, REPORT_READY, NULL, master);
        wait_for_start(child);
    }
    if (child->process->idle)
        stay_idle();
    syscall(SYS_close_range, 3U, ~0U, 4U /* CLOSE_RANGE_CLOEXEC */);
    /* The filter may forbid it later. */
    send_report(child, REPORT_EXECUTING, NULL, child->spec ? -1 : master);
    if (process_confine(child->process, &program, &failure) == 0)
        process_execute(child->process, &program, &failure);
    give_up(child, &failure);
}
