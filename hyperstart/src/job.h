/* Work that may block, done in a child that shares everything with the main
 * process but its memory; the request is answered when the child ends. */
#ifndef HYPER_JOB_H
#define HYPER_JOB_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "failure.h"

typedef int (*job_work)(const void *argument, struct failure *failure);
/* In the main process, at the end; the default answers `seq`. */
typedef void (*job_done)(void *context, uint64_t seq, const struct failure *failure);

/* `keep` are descriptors for the child, closed here afterwards. */
void job_start(uint64_t seq, job_work work, const void *argument, int *keep, size_t keep_count,
               job_done done, void *context);
/* Whether `pid` was a job; if so it is over. */
bool job_reap(pid_t pid, int status);

#endif
