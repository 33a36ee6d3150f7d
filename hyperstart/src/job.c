#define _GNU_SOURCE
#include "job.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "control.h"
#include "memory.h"

struct job {
    struct job *next;
    pid_t pid;
    uint64_t seq;
    int report; /* a pipe: nothing, or a struct failure */
    job_done done;
    void *context;
};
static struct job *jobs;

static void answer(void *context, uint64_t seq, const struct failure *failure)
{
    (void)context;
    if (failure->code)
        control_error(seq, failure);
    else
        control_ack(seq, "");
}

_Noreturn static void run(int report, job_work work, const void *argument, const int *keep,
                          size_t keep_count)
{
    struct failure failure = {0};
    int *fds = allocate((keep_count + 1) * sizeof *fds);
    if (keep_count)
        memcpy(fds, keep, keep_count * sizeof *fds);
    fds[keep_count] = report;
    child_reset(fds, keep_count + 1);
    if (work(argument, &failure) < 0)
        while (write(report, &failure, sizeof failure) < 0 && errno == EINTR)
            continue;
    _exit(0);
}

void job_start(uint64_t seq, job_work work, const void *argument, int *keep, size_t keep_count,
               job_done done, void *context)
{
    struct job *job = allocate(sizeof *job);
    int pipes[2];
    if (pipe2(pipes, O_CLOEXEC | O_NONBLOCK) < 0)
        die("pipe: %s", strerror(errno));
    job->seq = seq;
    job->report = pipes[0];
    job->done = done ? done : answer;
    job->context = context;
    job->pid = fork();
    if (job->pid == 0)
        run(pipes[1], work, argument, keep, keep_count);
    close(pipes[1]);
    for (size_t i = 0; i < keep_count; i++)
        if (keep[i] >= 0)
            close(keep[i]);
    if (job->pid < 0) {
        struct failure failure = {0};
        fail_errno(&failure, "fork");
        close(job->report);
        job->done(context, seq, &failure);
        free(job);
        return;
    }
    job->next = jobs;
    jobs = job;
}

bool job_reap(pid_t pid, int status)
{
    struct job **link = &jobs, *job;
    while (*link && (*link)->pid != pid)
        link = &(*link)->next;
    job = *link;
    if (!job)
        return false;
    *link = job->next;
    struct failure failure = {0};
    ssize_t got = read(job->report, &failure, sizeof failure);
    if (got != (ssize_t)sizeof failure)
        memset(&failure, 0, sizeof failure);
    if (!failure.code && status)
        fail(&failure, FAIL_SETUP, "a helper of hyperstart was killed");
    close(job->report);
    job->done(job->context, job->seq, &failure);
    free(job);
    return true;
}
