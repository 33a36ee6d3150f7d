/* In-pod services: virtual addresses whose connections the kernel (IPVS) spreads over
 * backends, for the network namespace of the caller. Called in jobs. */
#ifndef HYPER_SERVICES_H
#define HYPER_SERVICES_H

#include "request.h"

/* Replaces all services; after a failure there are none. */
int services_set(const struct service_spec *services, size_t count, struct failure *failure);

#endif
