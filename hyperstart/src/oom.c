/*
 * The kernel ends a process for want of memory when reclaim finds nothing. But reclaim always
 * finds the text of the programs, 32 pages of a squashfs for each that is read again, so with
 * nothing else left to evict a VM is busy with that for minutes. PSI tells that nobody in a
 * container gets on (Documentation/accounting/psi.rst); what is evicted and read again and again
 * tells why. Then this picks as the kernel would.
 */
#define _GNU_SOURCE
#include "oom.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cgroup.h"
#include "container.h"
#include "failure.h"
#include "path.h"

/* Stall and window in us: when to look. Emulated, a hog stalls for half of the time to all of it, by
 * what unpacking a page costs, which is no stall; what uses files beyond its limit, for a third. */
#define TRIGGER "full 400000 1000000"
#define WINDOW_MS 1000
#define STALLED_PERCENT 85
#define TURNOVER 16   /* of all pages of files, by reading them again, in a second */
#define QUIET_MS 2000 /* for the dead to give their memory back */

struct victim {
    struct container *container, *candidate;
    pid_t pid;
    long score, pages;
};

static long read_number(pid_t pid, const char *file, int field)
{
    char path[64], text[128];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
    if (read_file(path, text, sizeof text) <= 0)
        return 0;
    const char *start = text;
    for (; field && start; field--)
        start = strchr(start + 1, ' ');
    return start ? atol(start) : 0;
}

/* A score of 0 is that of the protected (oom_score_adj -1000) and of those already gone. */
static void compare(pid_t pid, void *context)
{
    struct victim *worst = context;
    long score = read_number(pid, "oom_score", 0), pages = read_number(pid, "statm", 1);
    if (score > worst->score || (score && score == worst->score && pages > worst->pages)) {
        worst->container = worst->candidate;
        worst->pid = pid;
        worst->score = score;
        worst->pages = pages;
    }
}

static struct victim worst;

static void compare_container(struct container *container)
{
    worst.candidate = container;
    cgroup_each(container->id, compare, &worst);
}

static void kill_worst(void)
{
    char path[64], name[32];
    snprintf(path, sizeof path, "/proc/%d/comm", worst.pid);
    if (read_file(path, name, sizeof name) < 0 || kill(worst.pid, SIGKILL) < 0)
        return;
    name[strcspn(name, "\n")] = '\0';
    worst.container->oom.kills++;
    dprintf(STDERR_FILENO, "hyperstart: container %s: out of memory: killed process %d (%s) of %ld"
            " KiB\n", worst.container->id, worst.pid, name,
            worst.pages * (sysconf(_SC_PAGESIZE) / 1024));
}

/* Nothing gets on, or hardly anything, and what is read is what was evicted a moment ago. */
static bool thrashes(const struct oom_look *before, const struct oom_look *now)
{
    int64_t elapsed = now->at_ms - before->at_ms;
    if (before->group != now->group || before->kills != now->kills || elapsed < WINDOW_MS / 2 ||
        elapsed > WINDOW_MS * 5 / 2)
        return false;
    uint64_t stalled = now->stalled_us - before->stalled_us;
    uint64_t again = now->refaults - before->refaults;
    return stalled >= (uint64_t)elapsed * 10 * STALLED_PERCENT ||
           again >= (now->file_pages + 1) * TURNOVER * (uint64_t)elapsed / 1000;
}

static void look(const struct container *container, struct oom_look *found)
{
    struct cgroup_memory memory;
    *found = (struct oom_look){.at_ms = monotonic_ms()};
    if (cgroup_memory(container->id, &memory) && cgroup_is_full(&memory))
        found->group = OOM_OWN;
    else if (cgroup_memory(NULL, &memory) && cgroup_is_full(&memory))
        found->group = OOM_ALL;
    found->refaults = memory.refaults;
    found->file_pages = memory.files / (uint64_t)sysconf(_SC_PAGESIZE);
    found->stalled_us = cgroup_stalled(container->id);
    found->kills = cgroup_oom_kills(NULL); /* when the kernel has been quicker, let that show */
}

static void pressed(struct source *source, uint32_t events)
{
    struct oom_watch *watch = (struct oom_watch *)source;
    if (events & (EPOLLERR | EPOLLHUP)) { /* the group is gone */
        loop_remove(source);
        return;
    }
    static int64_t quiet_until;
    struct oom_look before = watch->last;
    look(watch->container, &watch->last);
    if (watch->last.group == OOM_NONE || watch->last.at_ms < quiet_until ||
        !thrashes(&before, &watch->last))
        return;
    memset(&worst, 0, sizeof worst);
    if (watch->last.group == OOM_OWN)
        compare_container(watch->container);
    else
        containers_each(compare_container);
    if (!worst.pid)
        return;
    kill_worst();
    quiet_until = watch->last.at_ms + QUIET_MS;
}

void oom_watch(struct container *container)
{
    struct oom_watch *watch = &container->oom;
    watch->container = container;
    watch->pressure.fd = -1;
    watch->pressure.ready = pressed;
    int fd = cgroup_open(container->id, "memory.pressure", O_RDWR | O_NONBLOCK);
    if (fd < 0)
        return;
    if (write(fd, TRIGGER, sizeof TRIGGER) < 0)
        close(fd);
    else
        loop_add(&watch->pressure, fd, EPOLLPRI);
}

void oom_unwatch(struct container *container)
{
    loop_remove(&container->oom.pressure);
}

bool oom_seen(const struct container *container)
{
    return container->oom.kills || cgroup_oom_kills(container->id) > 0;
}
