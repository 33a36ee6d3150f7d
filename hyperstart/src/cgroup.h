/* The cgroup2 directory of a container: /sys/fs/cgroup/containers/hyper-ID. */
#ifndef HYPER_CGROUP_H
#define HYPER_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "failure.h"
#include "memory.h"
#include "request.h"

int cgroup_create(const char *id, struct failure *failure);
int cgroup_remove(const char *id); /* with the groups below; -1 while it is in use */
int cgroup_write(const char *id, const struct pairs *values, struct failure *failure);
/* What the processes of the group may do with devices; takes the place of former rules. `program`
 * is as of device_program.h, -1 with the errno of one that could not be loaded. */
int cgroup_set_devices(const char *id, int program, struct failure *failure);
/* Move the calling process in. `init` (0: none) names a group to fall back to
 * when the container has handed its own group's controllers down. */
int cgroup_join(const char *id, pid_t init, struct failure *failure);
int cgroup_freeze(const char *id, bool frozen, struct failure *failure);
/* Signal every process of the group and of those below. */
void cgroup_kill(const char *id, int signal);

/* Bytes; `files` can be evicted. `refaults` are pages so far that were evicted and read again. */
struct cgroup_memory {
    uint64_t limit, used, files, refaults;
};

/* Of the group, NULL: of all containers together. False when it is gone or has no limit. */
bool cgroup_memory(const char *id, struct cgroup_memory *memory);
/* Whether the limit is taken up by what can't be evicted. */
bool cgroup_is_full(const struct cgroup_memory *memory);
/* For how many us so far all of the group's processes have waited for memory. */
uint64_t cgroup_stalled(const char *id);
int cgroup_open(const char *id, const char *file, int flags); /* -1 and errno */
uint64_t cgroup_oom_kills(const char *id); /* so far, by the kernel; NULL: of all containers */
/* Calls `each` for every process (pids of the calling pid namespace). */
void cgroup_each(const char *id, void (*each)(pid_t pid, void *context), void *context);
ssize_t cgroup_read(const char *id, const char *file, char *text, size_t size);

#endif
