/* A container that lives from eviction to eviction is ended, which the kernel does not do. */
#ifndef HYPER_OOM_H
#define HYPER_OOM_H

#include <stdbool.h>

#include "loop.h"

struct container;

struct oom_watch {
    struct source pressure; /* first: a source is its watch */
    struct container *container;
    unsigned kills; /* of its processes, by us */
};

void oom_watch(struct container *container); /* once its cgroup is there; no PSI, no watch */
void oom_unwatch(struct container *container);
/* Whether the kernel or we have killed one of its processes for want of memory. */
bool oom_seen(const struct container *container);

#endif
