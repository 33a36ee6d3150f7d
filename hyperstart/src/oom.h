/* A container that lives from eviction to eviction is ended, which the kernel does not do. */
#ifndef HYPER_OOM_H
#define HYPER_OOM_H

#include <stdbool.h>
#include <stdint.h>

#include "loop.h"

struct container;

/* What is full, and counters of the kernel, at one time. */
struct oom_look {
    enum { OOM_NONE, OOM_OWN, OOM_ALL } group; /* that of the container, that of all of them */
    int64_t at_ms;
    uint64_t stalled_us, refaults, file_pages, kills;
};

struct oom_watch {
    struct source pressure; /* first: a source is its watch */
    struct container *container;
    struct oom_look last;
    unsigned kills; /* of its processes, by us */
};

void oom_watch(struct container *container); /* once its cgroup is there; no PSI, no watch */
void oom_unwatch(struct container *container);
/* Whether the kernel or we have killed one of its processes for want of memory. */
bool oom_seen(const struct container *container);

#endif
