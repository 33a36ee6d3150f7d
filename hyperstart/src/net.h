/* Network interfaces and routes, by rtnetlink(7). Called in children (jobs, or a
 * container's first process), for the network namespace of the caller. */
#ifndef HYPER_NET_H
#define HYPER_NET_H

#include "request.h"

int net_loopback_up(struct failure *failure);
int net_setup_interface(const struct interface_spec *spec, struct failure *failure);
int net_delete_interface(const struct interface_spec *spec, struct failure *failure);
int net_setup_route(const struct route_spec *route, struct failure *failure);

#endif
