/* Containers from NEWCONTAINER to their removal. */
#define _GNU_SOURCE
#include "container.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "cgroup.h"
#include "control.h"
#include "device_program.h"
#include "disk.h"
#include "job.h"
#include "launch.h"
#include "memory.h"
#include "mounts.h"

static struct container *containers;

struct container *container_find(const char *id)
{
    struct container *container = containers;
    while (container && strcmp(container->id, id) != 0)
        container = container->next;
    return container;
}

struct process *process_find(struct container *container, const char *id)
{
    struct process *process = container->processes;
    while (process && strcmp(process->id, id) != 0)
        process = process->next;
    return process;
}

void containers_each(void (*each)(struct container *container))
{
    for (struct container *container = containers; container; container = container->next)
        each(container);
}

static void use_disk(struct container *container, const struct disk_spec *disk)
{
    container->disks[container->disks_count++] = disk->at;
    disk_use(disk->at);
}

static void use_disks(struct container *container, const struct container_spec *spec)
{
    const struct rootfs_spec *rootfs = &spec->rootfs;
    size_t most = rootfs->lower_count + 1 + spec->mounts_count;
    container->disks = allocate(most * sizeof *container->disks);
    container->lower_count = rootfs->lower_count;
    container->has_upper = rootfs->kind == ROOTFS_OVERLAY && rootfs->upper;
    for (size_t i = 0; i < rootfs->lower_count; i++)
        use_disk(container, &rootfs->lower[i]);
    if (rootfs->upper)
        use_disk(container, rootfs->upper);
    for (size_t i = 0; i < spec->mounts_count; i++)
        if (spec->mounts[i].disk)
            use_disk(container, spec->mounts[i].disk);
}

/* Which container's namespaces are joined must exist and live. */
static int check_joins(const struct container_spec *spec, struct failure *failure)
{
    for (int kind = 0; kind < NS_COUNT; kind++) {
        const char *id = spec->join[kind];
        struct container *other = id ? container_find(id) : NULL;
        if (id && (!other || !other->init))
            return fail(failure, FAIL_NO_SUCH, "no running container %s to join", id);
    }
    return 0;
}

static int set_devices(const struct container_spec *spec, struct failure *failure)
{
    if (!spec->device_rules.code)
        return 0;
    return cgroup_set_devices(spec->id, device_program_kept(&spec->device_rules), failure);
}

void container_new(uint64_t seq, const struct container_spec *spec)
{
    struct failure failure = {0};
    if (container_find(spec->id))
        fail(&failure, FAIL_EXISTS, "container %s exists", spec->id);
    else if (check_joins(spec, &failure) == 0 && launch_check(&spec->process, &failure) == 0)
        cgroup_create(spec->id, &failure);
    if (failure.code) {
        control_error(seq, &failure);
        return;
    }
    struct container *container = allocate(sizeof *container);
    strcpy(container->id, spec->id);
    memset(container->held, -1, sizeof container->held);
    container->next = containers;
    containers = container;
    use_disks(container, spec);
    container->group = cgroup_open(container->id, "", O_PATH | O_DIRECTORY);
    oom_watch(container);
    if (set_devices(spec, &failure) < 0 ||
        launch(container, spec, &spec->process, seq, &failure) < 0)
        container_remove(seq, container, &failure);
}

void container_start(uint64_t seq, struct container *container)
{
    struct process *init = container->init;
    struct failure failure = {0};
    if (!init || init->state != PROCESS_CREATED) {
        fail(&failure, FAIL_BAD_REQUEST, "container %s is not waiting to be started",
             container->id);
        control_error(seq, &failure);
        return;
    }
    init->state = PROCESS_STARTING;
    init->seq = seq;
    while (write(init->report.fd, "s", 1) < 0 && errno == EINTR)
        continue; /* if it is dead, its end answers */
}

void container_exec(uint64_t seq, struct container *container, const struct process_spec *spec)
{
    struct failure failure = {0};
    if (process_find(container, spec->id))
        fail(&failure, FAIL_EXISTS, "process %s exists", spec->id);
    else if (!container->init || container->init->state == PROCESS_SETUP)
        fail(&failure, FAIL_SETUP, "container %s is not running", container->id);
    else if (container->frozen && !spec->archive)
        fail(&failure, FAIL_SETUP, "container %s is paused", container->id);
    else if (launch_check(spec, &failure) == 0)
        launch(container, NULL, spec, seq, &failure);
    if (failure.code)
        control_error(seq, &failure);
}

/* -- removal */

struct removal {
    char id[ID_MAX + 1];
    struct disk_address *disks;
    size_t disks_count;
    int held[HELD_COUNT];
    int gate[2];
};

void held_close(const int held[HELD_COUNT])
{
    for (int i = HELD_COUNT - 1; i >= 0; i--)
        if (held[i] >= 0)
            close(held[i]);
}

/* What only we hold, once the main process does not any more. */
static void let_go(const struct removal *removal)
{
    char byte;
    close(removal->gate[1]);
    while (read(removal->gate[0], &byte, 1) < 0 && errno == EINTR)
        continue;
    held_close(removal->held);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    remove(path);
    return 0;
}

/* Taking SCSI devices down takes the kernel 30 ms each, which nobody needs to wait for
 * but the next user of the same disk: the locks stay with this process until it is done. */
static void forget_disks(const struct removal *removal)
{
    if (!removal->disks_count || fork() != 0)
        return;
    for (size_t i = 0; i < removal->disks_count; i++)
        disk_forget(removal->disks[i]);
    _exit(0);
}

static int remove_work(const void *argument, struct failure *failure)
{
    const struct removal *removal = argument;
    char path[256];
    (void)failure;
    let_go(removal);
    snprintf(path, sizeof path, CONTAINERS_DIR "/%s", removal->id);
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    for (size_t i = 0; i < removal->disks_count; i++)
        disk_unmount(removal->disks[i]);
    /* The last processes may still be on their way out. */
    for (int attempt = 0; attempt < 500 && cgroup_remove(removal->id) < 0; attempt++)
        usleep(2000);
    forget_disks(removal);
    return 0;
}

struct removal_end {
    struct container *container;
    struct failure reason;
};

static void remove_done(void *context, uint64_t seq, const struct failure *failure)
{
    struct removal_end *end = context;
    struct container **link = &containers;
    while (*link != end->container)
        link = &(*link)->next;
    *link = end->container->next;
    loop_free(end->container);
    if (end->reason.code)
        failure = &end->reason;
    if (failure->code)
        control_error(seq, failure);
    else
        control_ack(seq, "");
    free(end);
}

/* `reason` (or NULL) is what a failed NEWCONTAINER is answered with. */
void container_remove(uint64_t seq, struct container *container, const struct failure *reason)
{
    struct failure failure = {0};
    if (container->removing || container->processes) {
        fail(&failure, FAIL_SETUP, "container %s is %s", container->id,
             container->removing ? "being removed" : "running");
        control_error(seq, &failure);
        return;
    }
    struct removal_end *end = allocate(sizeof *end);
    struct removal removal = {.disks = container->disks};
    int *kept = allocate((container->disks_count + HELD_COUNT + 2) * sizeof *kept);
    size_t count = 0;
    strcpy(removal.id, container->id);
    end->container = container;
    if (reason)
        end->reason = *reason;
    container->removing = true;
    oom_unwatch(container);
    if (container->group >= 0)
        close(container->group);
    container->group = -1;
    for (size_t i = 0; i < container->disks_count; i++) {
        if (!disk_unuse(container->disks[i]))
            continue;
        kept[count++] = disk_lock(container->disks[i]);
        removal.disks[removal.disks_count++] = container->disks[i];
    }
    if (pipe2(removal.gate, O_CLOEXEC) < 0)
        die("pipe: %s", strerror(errno));
    for (int i = 0; i < HELD_COUNT; i++) {
        kept[count++] = removal.held[i] = container->held[i];
        container->held[i] = -1;
    }
    kept[count++] = removal.gate[0];
    kept[count++] = removal.gate[1]; /* last: its end tells that the others are closed */
    job_start(seq, remove_work, &removal, kept, count, remove_done, end);
    free(kept);
    free(container->disks);
    container->disks = NULL;
}
