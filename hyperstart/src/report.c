#include "report.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cgroup.h"
#include "control.h"
#include "memory.h"
#include "path.h"

#define PROCESSES_MAX 4096
#define ANSWER_MAX (3u << 20)

struct process_list {
    struct buffer json;
    size_t count;
};

/* The field of /proc/PID/status; 0 if it is not there. */
static long status_field(const char *status, const char *name)
{
    const char *line = strstr(status, name);
    return line ? atol(line + strlen(name)) : 0;
}

/* Milliseconds of processor time, from utime and stime in /proc/PID/stat. */
static unsigned long cpu_time(pid_t pid)
{
    char path[64], text[1024], *next;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    if (read_file(path, text, sizeof text) <= 0 || !(next = strrchr(text, ')')))
        return 0;
    for (int spaces = 0; spaces < 12 && next; spaces++)
        if ((next = strchr(next, ' ')))
            next++;
    if (!next)
        return 0;
    unsigned long user = strtoul(next, &next, 10);
    return (user + strtoul(next, NULL, 10)) * 10; /* USER_HZ is 100 */
}

static void list_process(pid_t pid, void *context)
{
    struct process_list *list = context;
    char path[64], status[4096], command[1024];
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    if (list->count >= PROCESSES_MAX || buffer_length(&list->json) > ANSWER_MAX ||
        read_file(path, status, sizeof status) <= 0)
        return;
    snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
    ssize_t length = read_file(path, command, sizeof command);
    if (length <= 0) {
        int size = (int)strcspn(status, "\n") - 6; /* after "Name:\t" */
        snprintf(command, sizeof command, "[%.*s]", size > 0 ? size : 0, status + 6);
        length = (ssize_t)strlen(command);
    }
    while (length && !command[length - 1])
        length--;
    for (ssize_t i = 0; i < length; i++)
        if (!command[i])
            command[i] = ' ';
    buffer_printf(&list->json,
                  "%s{\"pid\":%d,\"ppid\":%ld,\"uid\":%ld,\"rss\":%ld,\"cpu\":%lu,\"cmd\":",
                  list->count ? "," : "", pid, status_field(status, "\nPPid:\t"),
                  status_field(status, "\nUid:\t"), status_field(status, "\nVmRSS:\t"),
                  cpu_time(pid));
    buffer_json_string(&list->json, command, (size_t)length);
    buffer_append(&list->json, "}", 1);
    list->count++;
}

void report_processes(uint64_t seq, const char *id)
{
    struct process_list list = {0};
    buffer_printf(&list.json, ",\"processes\":[");
    cgroup_each(id, list_process, &list);
    buffer_append(&list.json, "]", 1);
    control_ack_buffer(seq, &list.json);
    buffer_free(&list.json);
}

static void add_file(struct buffer *json, const char *name, const char *text, ssize_t size)
{
    if (size < 0)
        return;
    buffer_printf(json, "%s\"%s\":", json->data[json->end - 1] == '{' ? "" : ",", name);
    buffer_json_string(json, text, (size_t)size);
}

/* memory.events, with what oom.c has killed counted as the kernel counts its own. */
static ssize_t read_memory_events(const struct container *container, char *text, size_t size)
{
    static const char name[] = "\noom_kill ";
    char before[1024];
    ssize_t length = cgroup_read(container->id, "memory.events", before, sizeof before);
    const char *found = length > 0 ? strstr(before, name) : NULL;
    if (!found)
        return -1;
    char *after;
    uint64_t kills = strtoull(found + strlen(name), &after, 10) + container->oom.kills;
    return snprintf(text, size, "%.*s%s%" PRIu64 "%s", (int)(found - before), before, name, kills, after);
}

void report_stats(uint64_t seq, const struct container *container)
{
    static const char *const names[] = {"memory.current", "memory.stat",  "memory.max", "memory.peak",
                                        "cpu.stat",       "pids.current", "pids.max",   "io.stat"};
    static SELDOM char text[16384];
    struct buffer json = {0};
    buffer_printf(&json, ",\"files\":{");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        add_file(&json, names[i], text, cgroup_read(container->id, names[i], text, sizeof text));
    add_file(&json, "memory.events", text, read_memory_events(container, text, sizeof text));
    if (container->init) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/net/dev", container->init->pid);
        add_file(&json, "net.dev", text, read_file(path, text, sizeof text));
    }
    buffer_append(&json, "}", 1);
    control_ack_buffer(seq, &json);
    buffer_free(&json);
}
