/* The child that becomes a process of a container, and what it tells the main
 * process over a socket pair of packets. */
#ifndef HYPER_CHILD_H
#define HYPER_CHILD_H

#include "request.h"

struct container;

enum report_kind {
    REPORT_READY,     /* set up, and waiting for a byte */
    REPORT_EXECUTING, /* the end of the socket after this means: executed */
    REPORT_FAILED,
};

struct report {
    enum report_kind kind;
    struct failure failure;
};

struct child {
    int report;           /* the child's end; one byte on it starts the program */
    int in, out, err;     /* -1: /dev/null, or the terminal */
    int join[NS_COUNT];   /* pidfds whose namespaces a new container joins, or -1 */
    int init;             /* EXECCMD: pidfd of the container's init, else -1 */
    bool in_cgroup;       /* it was made in the container's cgroup */
    pid_t init_pid;
    const struct container *container;
    const struct container_spec *spec; /* NULL for EXECCMD */
    const struct process_spec *process;
};

_Noreturn void child_run(const struct child *child);

/* After a fork of the main process: back to default signals, and no descriptor
 * but 0 to 2 and `keep` (-1 entries are skipped; the array is sorted). */
void child_reset(int *keep, size_t count);

#endif
