/* Starting processes: the main process' side of child.c. */
#ifndef HYPER_LAUNCH_H
#define HYPER_LAUNCH_H

#include "container.h"

/* Whether the streams of a new process are free. */
int launch_check(const struct process_spec *spec, struct failure *failure);
/* Fork the first process of a container (`spec`) or another one (NULL). The
 * request is answered later, unless this fails. */
int launch(struct container *container, const struct container_spec *spec,
           const struct process_spec *process, uint64_t seq, struct failure *failure);

#endif
