/* The last steps of a process before its program: run in the child, inside the
 * container. */
#ifndef HYPER_PROCESS_H
#define HYPER_PROCESS_H

#include <limits.h>

#include "request.h"
#include "users.h"

struct program {
    char path[PATH_MAX];
    char **env;
    struct identity identity;
};

/* Resolve the user, enter the working directory, find the program. */
int process_prepare(const struct process_spec *spec, struct program *program,
                    struct failure *failure);
/* Give up what the process must not have, up to the system call filter. */
int process_confine(const struct process_spec *spec, const struct program *program,
                    struct failure *failure);
/* Returns only when the program can't be executed. */
int process_execute(const struct process_spec *spec, const struct program *program,
                    struct failure *failure);

#endif
