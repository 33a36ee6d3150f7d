/* What the VM as a whole is given: name, clock, randomness, share, CPUs. In jobs. */
#ifndef HYPER_POD_H
#define HYPER_POD_H

#include "request.h"

int pod_setup(const struct pod_spec *spec, struct failure *failure);
int pod_online_all(struct failure *failure);

#endif
