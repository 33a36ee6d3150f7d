/* Execution of decoded requests. */
#ifndef HYPER_DISPATCH_H
#define HYPER_DISPATCH_H

#include "request.h"

void dispatch(const struct request *request);

#endif
