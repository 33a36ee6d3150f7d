/* A connection to a server on a container's loopback, carried by the streams of a process. */
#ifndef HYPER_CONNECT_H
#define HYPER_CONNECT_H

#include "child.h"

/* Connect to the port, by IPv4 or else IPv6. Returns the socket, or -1. */
int connect_open(const struct child *child, struct failure *failure);

/* Carry stdin to the socket and what comes from it to stdout; returns once the server is done. */
void connect_carry(int sock);

#endif
