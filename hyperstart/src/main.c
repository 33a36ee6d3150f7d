/* hyperstart: the init of HyperContainer's guest. See docs/guest-protocol.md. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "boot.h"
#include "container.h"
#include "control.h"
#include "failure.h"
#include "loop.h"
#include "power.h"
#include "stream.h"

static struct source child_signals;

static void reap_children(struct source *source, uint32_t events)
{
    struct signalfd_siginfo info;
    int status;
    pid_t pid;
    (void)events;
    while (read(source->fd, &info, sizeof info) > 0)
        continue;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        process_reap(pid, status);
}

static void watch_children(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0)
        die("signalfd: %s", error_text(errno));
    child_signals.ready = reap_children;
    loop_add(&child_signals, fd, EPOLLIN);
}

int main(void)
{
    if (getpid() != 1) {
        dprintf(STDERR_FILENO, "hyperstart %s: the init of a HyperContainer VM; it runs as its"
                " first process only\n", HYPER_VERSION);
        return 2;
    }
    /* Containers get no look at this memory through a child on its way to its program. */
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    boot_limits();
    boot_mounts();
    boot_modules();
    boot_cgroups();
    loop_init();
    watch_children();
    int control, streams;
    bool lines;
    boot_open_ports(&control, &streams, &lines);
    streams_init(streams, lines);
    control_init(control, lines);
    for (bool more = true;;) {
        int bound = power_tick();
        loop_run_once(more ? 0 : bound);
        more = control_pump();
        more |= streams_pump();
    }
}
