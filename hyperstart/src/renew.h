/* A container whose VM goes on as another: the names by which it is told from the first. */
#ifndef HYPER_RENEW_H
#define HYPER_RENEW_H

#include <stdint.h>

#include "container.h"

/* Answers `seq` once it is done. */
void container_renew(uint64_t seq, struct container *container, const struct renewal_spec *spec);

#endif
