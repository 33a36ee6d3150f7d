#include "cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device_program.h"
#include "path.h"

#define MOUNT "/sys/fs/cgroup"
#define ROOT MOUNT "/containers"
#define DEPTH_MAX 32

static void group_path(char path[PATH_MAX], const char *id, const char *file)
{
    if (id)
        snprintf(path, PATH_MAX, ROOT "/hyper-%s%s%s", id, *file ? "/" : "", file);
    else
        snprintf(path, PATH_MAX, ROOT "/%s", file);
}

int cgroup_create(const char *id, struct failure *failure)
{
    char path[PATH_MAX];
    group_path(path, id, "");
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return fail_errno(failure, "mkdir of cgroup %s", id);
    return 0;
}

int cgroup_write(const char *id, const struct pairs *values, struct failure *failure)
{
    char path[PATH_MAX];
    for (size_t i = 0; i < values->count; i++) {
        group_path(path, id, values->items[i].name);
        if (write_file(path, values->items[i].value) < 0)
            return fail_errno(failure, "cgroup file %s: write of %.64s", values->items[i].name,
                              values->items[i].value);
    }
    return 0;
}

int cgroup_set_devices(const char *id, int program, struct failure *failure)
{
    int group = program < 0 ? -1 : cgroup_open(id, "", O_RDONLY | O_DIRECTORY);
    int result = group < 0 ? -1 : device_program_attach(program, group);
    if (result < 0)
        fail_errno(failure, "device rules of container %s", id);
    if (group >= 0)
        close(group);
    return result;
}

/* The group that the container's init is in now, below the container's own. */
static int join_group_of(pid_t init)
{
    char path[PATH_MAX], text[PATH_MAX - 64];
    snprintf(path, sizeof path, "/proc/%d/cgroup", init);
    ssize_t size = read_file(path, text, sizeof text);
    char *group = size > 0 ? strstr(text, "0::/") : NULL;
    if (!group) {
        errno = EBUSY;
        return -1;
    }
    group[strcspn(group, "\n")] = '\0';
    snprintf(path, sizeof path, MOUNT "%s/cgroup.procs", group + 3);
    return write_file(path, "0");
}

int cgroup_join(const char *id, pid_t init, struct failure *failure)
{
    char path[PATH_MAX];
    group_path(path, id, "cgroup.procs");
    int result = write_file(path, "0");
    if (result < 0 && errno == EBUSY && init > 0)
        result = join_group_of(init);
    return result < 0 ? fail_errno(failure, "join of cgroup %s", id) : 0;
}

int cgroup_freeze(const char *id, bool frozen, struct failure *failure)
{
    char path[PATH_MAX];
    group_path(path, id, "cgroup.freeze");
    if (write_file(path, frozen ? "1" : "0") < 0)
        return fail_errno(failure, "%s of container %s", frozen ? "freeze" : "thaw", id);
    return 0;
}

static void each_in_file(const char *directory, void (*each)(pid_t pid, void *context),
                         void *context)
{
    char path[PATH_MAX + 16], line[32];
    snprintf(path, sizeof path, "%s/cgroup.procs", directory);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file)) {
        pid_t pid = atoi(line);
        if (pid > 0)
            each(pid, context);
    }
    if (file)
        fclose(file);
}

/* Bottom-up over the group `path` and those below it. */
static void walk(char path[PATH_MAX], int depth, void (*visit)(const char *path, void *context),
                 void *context)
{
    DIR *directory = depth < DEPTH_MAX ? opendir(path) : NULL;
    size_t length = strlen(path);
    struct dirent *entry;
    while (directory && (entry = readdir(directory))) {
        if (entry->d_type != DT_DIR || !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        int size = snprintf(path + length, PATH_MAX - length, "/%s", entry->d_name);
        if ((size_t)size < PATH_MAX - length)
            walk(path, depth + 1, visit, context);
        path[length] = '\0';
    }
    if (directory)
        closedir(directory);
    visit(path, context);
}

struct each_context {
    void (*each)(pid_t pid, void *context);
    void *context;
};

static void visit_processes(const char *path, void *context)
{
    struct each_context *each = context;
    each_in_file(path, each->each, each->context);
}

void cgroup_each(const char *id, void (*each)(pid_t pid, void *context), void *context)
{
    char path[PATH_MAX];
    struct each_context each_context = {each, context};
    group_path(path, id, "");
    walk(path, 0, visit_processes, &each_context);
}

static void visit_remove(const char *path, void *context)
{
    (void)context;
    rmdir(path);
}

int cgroup_remove(const char *id)
{
    char path[PATH_MAX];
    group_path(path, id, "");
    walk(path, 0, visit_remove, NULL);
    return access(path, F_OK) == 0 ? -1 : 0;
}

static void send_signal(pid_t pid, void *context)
{
    kill(pid, *(int *)context);
}

void cgroup_kill(const char *id, int signal)
{
    char path[PATH_MAX];
    group_path(path, id, "cgroup.kill");
    if (signal == SIGKILL && !write_file(path, "1"))
        return;
    cgroup_each(id, send_signal, &signal);
}

ssize_t cgroup_read(const char *id, const char *file, char *text, size_t size)
{
    char path[PATH_MAX];
    group_path(path, id, file);
    return read_file(path, text, size);
}

int cgroup_open(const char *id, const char *file, int flags)
{
    char path[PATH_MAX];
    group_path(path, id, file);
    return open(path, flags | O_CLOEXEC);
}

/* The number after `name` and a space at the start of a line; 0 if there is none. */
static uint64_t value_of(const char *text, const char *name)
{
    size_t length = strlen(name);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (!strncmp(line, name, length) && line[length] == ' ')
            return strtoull(line + length + 1, NULL, 10);
    }
    return 0;
}

bool cgroup_memory(const char *id, struct cgroup_memory *memory)
{
    static SELDOM char text[16384];
    *memory = (struct cgroup_memory){0};
    if (cgroup_read(id, "memory.max", text, sizeof text) <= 0 || !strncmp(text, "max", 3))
        return false;
    memory->limit = strtoull(text, NULL, 10);
    if (cgroup_read(id, "memory.current", text, sizeof text) <= 0)
        return false;
    memory->used = strtoull(text, NULL, 10);
    if (cgroup_read(id, "memory.stat", text, sizeof text) <= 0)
        return false;
    memory->files = value_of(text, "active_file") + value_of(text, "inactive_file");
    memory->refaults = value_of(text, "workingset_refault_file");
    return true;
}

bool cgroup_is_full(const struct cgroup_memory *memory)
{
    return memory->used >= memory->files &&
           memory->used - memory->files >= memory->limit / 8 * 7;
}

uint64_t cgroup_stalled(const char *id)
{
    char text[256];
    if (cgroup_read(id, "memory.pressure", text, sizeof text) <= 0)
        return 0;
    const char *full = strstr(text, "full "), *total = full ? strstr(full, "total=") : NULL;
    return total ? strtoull(total + strlen("total="), NULL, 10) : 0;
}

uint64_t cgroup_oom_kills(const char *id)
{
    char text[1024];
    return cgroup_read(id, "memory.events", text, sizeof text) > 0 ? value_of(text, "oom_kill") : 0;
}
