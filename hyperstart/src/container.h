/* The containers of the VM and their processes, as the main process knows them. */
#ifndef HYPER_CONTAINER_H
#define HYPER_CONTAINER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "loop.h"
#include "oom.h"
#include "request.h"
#include "stream.h"

enum process_state {
    PROCESS_SETUP,    /* its child prepares itself */
    PROCESS_CREATED,  /* an init that waits for STARTCONTAINER */
    PROCESS_STARTING, /* told to execute its program */
    PROCESS_RUNNING,
};

struct process {
    struct source report; /* first: a source is its process */
    struct process *next;
    struct container *container;
    char id[ID_MAX + 1];
    pid_t pid;
    int pidfd;
    enum process_state state;
    uint64_t seq;    /* of the request that is to be answered, or 0 */
    bool known;      /* to the host: its end is an event */
    bool executing;
    bool terminal;
    bool has_stdin;
    uint32_t stdio_id;
    int master; /* of the terminal; belongs to the stream */
    struct stream *stdio, *stderr_stream;
    struct failure failure;
};

/* What the main process holds of a container until its removal: the mount namespace of its init,
 * and then the init's program. Unmounting and forgetting the program's pages takes an emulated CPU
 * longer than all else of a short program's end, and would be done before that is known. */
enum held { HELD_MOUNTS, HELD_PROGRAM, HELD_COUNT };

struct container {
    struct container *next;
    char id[ID_MAX + 1];
    struct process *processes;
    struct process *init; /* NULL once it is over */
    int group; /* the directory of its cgroup, or -1 */
    int held[HELD_COUNT]; /* or -1 */
    struct oom_watch oom;
    bool frozen, removing;
    struct disk_address *disks; /* an overlay's layers, its upper disk, those of mounts */
    size_t disks_count, lower_count;
    bool has_upper;
};

struct container *container_find(const char *id);
struct process *process_find(struct container *container, const char *id);
void containers_each(void (*each)(struct container *container));
/* Close what is held: the program before the mounts that it is on. */
void held_close(const int held[HELD_COUNT]);

/* launch.c: requests that start or forget something; they answer themselves. */
void container_new(uint64_t seq, const struct container_spec *spec);
void container_start(uint64_t seq, struct container *container);
void container_exec(uint64_t seq, struct container *container, const struct process_spec *spec);
void container_remove(uint64_t seq, struct container *container, const struct failure *reason);

/* A child has ended: a process, or something that was left to us. */
void process_reap(pid_t pid, int status);

#endif
