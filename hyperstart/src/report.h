/* What a container does: its processes and what they use, as answers to the host. */
#ifndef HYPER_REPORT_H
#define HYPER_REPORT_H

#include <stdint.h>

#include "container.h"

void report_processes(uint64_t seq, const char *id);
void report_stats(uint64_t seq, const struct container *container);

#endif
