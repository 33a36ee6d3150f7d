/* What the VM as a whole is given: name, clock, randomness, share, CPUs. In jobs. */
#ifndef HYPER_POD_H
#define HYPER_POD_H

#include "request.h"

int pod_setup(const struct pod_spec *spec, struct failure *failure);
/* Use what was plugged: all memory, or the first `cpus` CPUs. Others that the kernel knows of are
 * not there, and for each it would wait ten seconds. */
int pod_online_memory(struct failure *failure);
int pod_online_cpus(unsigned cpus, struct failure *failure);

#endif
