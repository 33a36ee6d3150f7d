#define _GNU_SOURCE
#include "power.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

#include "container.h"
#include "control.h"
#include "failure.h"
#include "job.h"
#include "loop.h"

#define GRACE_MS 100     /* from SIGTERM to SIGKILL */
#define KILL_MS 5000     /* for the dead to be gone */
#define UNMOUNT_MS 10000
#define FLUSH_MS 2000    /* for the host to read the answer */

static enum { UP, TERMINATING, KILLING, UNMOUNTING, FLUSHING } stage;
static int64_t deadline;
static uint64_t answer_seq;
static bool unmounted;

void power_off(void)
{
    sync();
    reboot(RB_AUTOBOOT);
    for (;;)
        pause();
}

void die(const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    dprintf(STDERR_FILENO, "hyperstart: %s\n", text);
    if (getpid() != 1)
        _exit(125);
    power_off();
}

static void enter(int next, int64_t milliseconds)
{
    stage = next;
    deadline = monotonic_ms() + milliseconds;
}

static void thaw(struct container *container)
{
    container->frozen = false;
}

static void let_go(struct container *container)
{
    held_close(container->held);
    memset(container->held, -1, sizeof container->held);
}

void power_down(uint64_t seq)
{
    if (stage != UP) {
        control_ack(seq, "");
        return;
    }
    answer_seq = seq;
    containers_each(thaw);
    kill(-1, SIGTERM);
    enter(TERMINATING, GRACE_MS);
}

static bool has_children(void)
{
    siginfo_t info;
    return !waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) || errno != ECHILD;
}

/* What has to reach a disk or a share; the rest goes with the VM. Bottom up, which
 * is the reverse of the order in which it was mounted. */
static int unmount_work(const void *argument, struct failure *failure)
{
    (void)argument, (void)failure;
    char line[8192];
    static SELDOM char *targets[1024];
    size_t count = 0;
    sync();
    FILE *mounts = fopen("/proc/self/mounts", "re");
    while (mounts && count < 1024 && fgets(line, sizeof line, mounts)) {
        strtok(line, " ");
        char *target = strtok(NULL, " ");
        if (target && !strncmp(target, "/run/hyper/", 11))
            targets[count++] = strdup(target);
    }
    while (count--)
        if (umount2(targets[count], UMOUNT_NOFOLLOW) < 0)
            umount2(targets[count], UMOUNT_NOFOLLOW | MNT_DETACH);
    return 0;
}

static void unmount_done(void *context, uint64_t seq, const struct failure *failure)
{
    (void)context, (void)seq, (void)failure;
    unmounted = true;
}

int power_tick(void)
{
    int64_t now = monotonic_ms();
    if (stage == TERMINATING && (now >= deadline || !has_children())) {
        kill(-1, SIGKILL);
        enter(KILLING, KILL_MS);
    }
    if (stage == KILLING && (now >= deadline || !has_children())) {
        containers_each(let_go);
        job_start(0, unmount_work, NULL, NULL, 0, unmount_done, NULL);
        enter(UNMOUNTING, UNMOUNT_MS);
    }
    if (stage == UNMOUNTING && (now >= deadline || unmounted)) {
        sync();
        control_ack(answer_seq, "");
        enter(FLUSHING, FLUSH_MS);
        return 0;
    }
    if (stage == FLUSHING && (now >= deadline || control_is_flushed())) {
        usleep(5000); /* the answer is in the device's queue: let the host take it out */
        power_off();
    }
    return stage == UP ? -1 : deadline > now ? (int)(deadline - now) : 0;
}
