#define _GNU_SOURCE
#include "launch.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cgroup.h"
#include "child.h"
#include "control.h"
#include "job.h"
#include "memory.h"

/* Both ends of what a new process is connected by; -1: none. */
struct plumbing {
    int report[2];
    int in[2], out[2], err[2]; /* read end, write end */
};

int launch_check(const struct process_spec *spec, struct failure *failure)
{
    if ((spec->stdio && stream_exists(spec->stdio)) ||
        (spec->stderr_stream && stream_exists(spec->stderr_stream)))
        return fail(failure, FAIL_EXISTS, "stream of process %s is in use", spec->id);
    return 0;
}

static void close_pair(int pair[2])
{
    for (int i = 0; i < 2; i++)
        if (pair[i] >= 0)
            close(pair[i]);
}

static void close_plumbing(struct plumbing *plumbing)
{
    close_pair(plumbing->report);
    close_pair(plumbing->in);
    close_pair(plumbing->out);
    close_pair(plumbing->err);
}

static void set_nonblocking(int fd)
{
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static int open_plumbing(const struct process_spec *process, struct plumbing *plumbing,
                         struct failure *failure)
{
    memset(plumbing, -1, sizeof *plumbing);
    bool pipes = process->stdio && !process->terminal;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, plumbing->report) < 0 ||
        (pipes && process->has_stdin && pipe2(plumbing->in, O_CLOEXEC) < 0) ||
        (pipes && pipe2(plumbing->out, O_CLOEXEC) < 0) ||
        (pipes && process->stderr_stream && pipe2(plumbing->err, O_CLOEXEC) < 0)) {
        fail_errno(failure, "pipes of process %s", process->id);
        close_plumbing(plumbing);
        return -1;
    }
    set_nonblocking(plumbing->report[0]);
    if (pipes) {
        set_nonblocking(plumbing->out[0]);
        if (process->has_stdin)
            set_nonblocking(plumbing->in[1]);
        if (process->stderr_stream)
            set_nonblocking(plumbing->err[0]);
    }
    return 0;
}

#ifndef CLONE_INTO_CGROUP /* musl does not have it */
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

/* struct clone_args of clone3(2), up to the cgroup. */
struct clone_arguments {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
        set_tid_size, cgroup;
};

/* Fork into the container's cgroup: being moved there takes longer than the fork. It does not
 * work where the group may have no processes, or no more; then the child joins it, or one below. */
static pid_t fork_in_cgroup(struct child *child)
{
    int group = child->container->group;
    struct clone_arguments arguments = {.flags = CLONE_INTO_CGROUP,
                                        .exit_signal = SIGCHLD,
                                        .cgroup = (uint64_t)group};
    child->in_cgroup = true;
    pid_t pid = group < 0 ? -1 : (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments);
    if (pid < 0) {
        child->in_cgroup = false;
        pid = fork();
    }
    return pid;
}

/* Fork into a new pid namespace, or into that of the process `pidfd`. */
static pid_t fork_into(struct child *child, bool new_pid_namespace, int pidfd)
{
    if (new_pid_namespace)
        return (pid_t)syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0);
    if (pidfd < 0)
        return fork();
    static int own = -1; /* stays open: it is the same for good */
    if (own < 0)
        own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    pid_t pid = -1;
    if (own >= 0 && !setns(pidfd, CLONE_NEWPID)) {
        pid = child->spec ? fork() : fork_in_cgroup(child);
        if (pid && setns(own, CLONE_NEWPID) < 0)
            die("return to the own pid namespace: %s", strerror(errno));
    }
    return pid;
}

static int init_pidfd(const char *id)
{
    struct container *container = id ? container_find(id) : NULL;
    return container && container->init ? container->init->pidfd : -1;
}

static void open_streams(struct process *process, const struct process_spec *spec,
                         struct plumbing *plumbing)
{
    if (spec->stdio && !spec->terminal) {
        process->stdio = stream_open(spec->stdio, plumbing->out[0], plumbing->in[1], false);
        plumbing->out[0] = plumbing->in[1] = -1;
    }
    if (spec->stderr_stream) {
        process->stderr_stream = stream_open(spec->stderr_stream, plumbing->err[0], -1, false);
        plumbing->err[0] = -1;
    }
}

/* -- what the child tells */

/* The terminal of a process, once its child has opened it. */
static void take_master(struct process *process, int master)
{
    if (master < 0)
        return;
    set_nonblocking(master);
    process->master = master;
    process->stdio = stream_open(process->stdio_id, master, process->has_stdin ? master : -1, true);
}

/* A file of /proc/PID, which stays open until the container is removed. */
static void hold(struct process *process, enum held place, const char *file, int flags)
{
    char path[40];
    snprintf(path, sizeof path, "/proc/%d/%s", process->pid, file);
    process->container->held[place] = open(path, flags | O_CLOEXEC);
}

static void handle_ready(struct process *process)
{
    hold(process, HELD_MOUNTS, "ns/mnt", O_RDONLY);
    process->state = PROCESS_CREATED;
    process->known = true;
    control_ack_pid(process->seq, process->pid);
    process->seq = 0;
}

/* The socket's end: executed, if that was announced; else its death will tell. */
static void handle_end(struct process *process)
{
    loop_remove(&process->report);
    if (!process->executing || process->failure.code)
        return;
    process->state = PROCESS_RUNNING;
    process->known = true;
    if (process->container->init == process)
        hold(process, HELD_PROGRAM, "exe", O_PATH);
    if (process->seq)
        control_ack_pid(process->seq, process->pid);
    process->seq = 0;
}

static void read_reports(struct process *process)
{
    while (process->report.fd >= 0) {
        struct report report;
        union {
            struct cmsghdr header;
            char space[CMSG_SPACE(sizeof(int))];
        } control;
        struct iovec data = {&report, sizeof report};
        struct msghdr message = {.msg_iov = &data,
                                 .msg_iovlen = 1,
                                 .msg_control = &control,
                                 .msg_controllen = sizeof control};
        ssize_t got = recvmsg(process->report.fd, &message, MSG_CMSG_CLOEXEC);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return;
        if (got != (ssize_t)sizeof report) {
            handle_end(process);
            return;
        }
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        int master = -1;
        if (header && header->cmsg_type == SCM_RIGHTS)
            memcpy(&master, CMSG_DATA(header), sizeof master);
        take_master(process, master);
        if (report.kind == REPORT_READY)
            handle_ready(process);
        else if (report.kind == REPORT_EXECUTING)
            process->executing = true;
        else if (!process->failure.code)
            process->failure = report.failure;
    }
}

static void report_ready(struct source *source, uint32_t events)
{
    (void)events;
    read_reports((struct process *)(void *)source);
}

int launch(struct container *container, const struct container_spec *spec,
           const struct process_spec *process_spec, uint64_t seq, struct failure *failure)
{
    struct plumbing plumbing;
    if (open_plumbing(process_spec, &plumbing, failure) < 0)
        return -1;
    struct child child = {
        .report = plumbing.report[1],
        .in = plumbing.in[0],
        .out = plumbing.out[1],
        .err = plumbing.err[1],
        .init = spec ? -1 : container->init->pidfd,
        .init_pid = spec ? 0 : container->init->pid,
        .container = container,
        .spec = spec,
        .process = process_spec,
    };
    for (int kind = 0; kind < NS_COUNT; kind++)
        child.join[kind] = spec ? init_pidfd(spec->join[kind]) : -1;
    bool outside = process_spec->archive || process_spec->connect;
    pid_t pid = spec ? fork_into(&child, spec->unshare & CLONE_NEWPID, child.join[NS_PID])
                     : fork_into(&child, false, outside ? -1 : child.init);
    if (pid == 0)
        child_run(&child);
    if (pid < 0) {
        fail_errno(failure, "fork of process %s", process_spec->id);
        close_plumbing(&plumbing);
        return -1;
    }
    struct process *process = allocate(sizeof *process);
    strcpy(process->id, process_spec->id);
    process->container = container;
    process->pid = pid;
    process->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    process->seq = seq;
    process->terminal = process_spec->terminal;
    process->has_stdin = process_spec->has_stdin;
    process->stdio_id = process_spec->stdio;
    process->master = -1;
    process->next = container->processes;
    container->processes = process;
    if (spec)
        container->init = process;
    process->report.ready = report_ready;
    /* A container's init waits for an answer to its report. Others are heard once they have
     * executed their program or ended: each switch between processes costs an emulated CPU all
     * translations of addresses. */
    loop_add(&process->report, plumbing.report[0], spec ? EPOLLIN : EPOLLRDHUP);
    plumbing.report[0] = -1;
    open_streams(process, process_spec, &plumbing);
    close_plumbing(&plumbing);
    return 0;
}

/* -- the end */

static void end_streams(struct process *process, void (*end)(struct stream *stream))
{
    if (process->stdio)
        end(process->stdio);
    if (process->stderr_stream)
        end(process->stderr_stream);
}

static void unlink_process(struct process *process)
{
    struct process **link = &process->container->processes;
    while (*link != process)
        link = &(*link)->next;
    *link = process->next;
    if (process->container->init == process)
        process->container->init = NULL;
}

static void describe_death(struct process *process, int status)
{
    if (process->failure.code)
        return;
    if (oom_seen(process->container))
        fail(&process->failure, FAIL_SETUP,
             "process %s ran out of memory before it was started: raise memory.max", process->id);
    else if (WIFSIGNALED(status))
        fail(&process->failure, FAIL_SETUP, "process %s was killed by signal %d before it was "
             "started", process->id, WTERMSIG(status));
    else
        fail(&process->failure, FAIL_SETUP, "process %s ended before it was started",
             process->id);
}

static void kill_all(struct container *container)
{
    for (struct process *process = container->processes; process; process = process->next)
        kill(process->pid, SIGKILL);
}

static void end_process(struct process *process, int status)
{
    struct container *container = process->container;
    bool was_init = container->init == process;
    read_reports(process); /* what it said last */
    loop_remove(&process->report);
    unlink_process(process);
    if (was_init) {
        cgroup_kill(container->id, SIGKILL); /* when it has no pid namespace of its own */
        kill_all(container);                 /* and what is in no cgroup of it */
    }
    if (process->seq)
        describe_death(process, status);
    if (process->known) {
        int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
        if (process->seq)
            control_error(process->seq, &process->failure);
        control_finished(container->id, process->id, signal ? 128 + signal : WEXITSTATUS(status),
                         signal, oom_seen(container));
        end_streams(process, stream_finish);
    } else {
        end_streams(process, stream_abandon);
        if (was_init)
            container_remove(process->seq, container, &process->failure);
        else
            control_error(process->seq, &process->failure);
    }
    if (process->pidfd >= 0)
        close(process->pidfd);
    loop_free(process);
}

static struct process *found;
static pid_t wanted;

static void look_for_pid(struct container *container)
{
    for (struct process *process = container->processes; process; process = process->next)
        if (process->pid == wanted)
            found = process;
}

void process_reap(pid_t pid, int status)
{
    if (job_reap(pid, status))
        return;
    wanted = pid;
    found = NULL;
    containers_each(look_for_pid);
    if (found)
        end_process(found, status);
}
