/*
 * A plugin of QEMU (docs/devel/tcg-plugins of its documentation, API version 1) that gives memory
 * of an idle VM back to the host.
 *
 * What an emulated CPU runs is translated first, and the translations stay: 20 MB once a container
 * was started, of which an idle guest uses one. When the CPUs have been idle for a while, all of
 * them are dropped and their memory, with what QEMU's heap has free, is returned. What the guest
 * runs next is translated again.
 *
 * argument: patience=SECONDS   how long the CPUs must have been idle
 */
#define _GNU_SOURCE
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "giveback.h"

#define EXPORT __attribute__((visibility("default")))
#define SECOND 1000000000LL
#define PAGE 4096

/* Translations that are not worth dropping. */
#define LEAST (3L << 20)
/* CPUs that ran less than this were idle. */
#define BUSY(step) ((step) / 20)
/* The CPUs are looked at once a second. One that is paused is not, and is not idle either. */
#define LONGEST_STEP (4 * SECOND)
#define MOST_PATIENCE (320 * SECOND)
/* The code that enters and leaves translations lies before them, and is made only once. */
#define ENTRY (4 * PAGE)
#define MAX_PARTS 1024

typedef uint64_t plugin_id;

void qemu_plugin_register_vcpu_idle_cb(plugin_id id, void (*call)(plugin_id, unsigned int));
void qemu_plugin_register_flush_cb(plugin_id id, void (*call)(plugin_id));
void qemu_plugin_reset(plugin_id id, void (*call)(plugin_id));
int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv);

EXPORT int qemu_plugin_version = 1;

struct part {
    char *begin, *end;
};

/* The buffer of translations: with several CPUs in parts, with guard pages between them. */
static struct part buffer[MAX_PARTS];
static int parts;
static char entry[ENTRY];

static int64_t patience, first_patience;
static int64_t looked_at, looked_cpu, idle_for;
static atomic_bool trimming;

static int64_t now(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

/* The largest run of anonymous executable memory. */
static void find_buffer(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    if (!maps)
        return;
    static struct part found[MAX_PARTS];
    int count = 0;
    long size = 0, largest = 0;
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, maps) > 0) {
        unsigned long begin, end, inode;
        char how[5];
        if (sscanf(line, "%lx-%lx %4s %*s %*s %lu", &begin, &end, how, &inode) != 4)
            continue;
        if (strcmp(how, "rwxp") || inode)
            continue;
        if (count == MAX_PARTS || (count && begin - (unsigned long)found[count - 1].end > PAGE))
            count = 0, size = 0;
        found[count++] = (struct part){(char *)begin, (char *)end};
        size += (long)(end - begin);
        if (size > largest) {
            largest = size;
            parts = count;
            memcpy(buffer, found, sizeof found[0] * (size_t)count);
        }
    }
    free(line);
    fclose(maps);
}

static long resident(void)
{
    static unsigned char pages[(64 << 20) / PAGE];
    long count = 0;
    for (int i = 0; i < parts; i++) {
        size_t size = (size_t)(buffer[i].end - buffer[i].begin);
        if (size / PAGE > sizeof pages || mincore(buffer[i].begin, size, pages))
            continue;
        for (size_t page = 0; page < size / PAGE; page++)
            count += pages[page] & 1;
    }
    return count * PAGE;
}

/* Called by QEMU when it has dropped all translations and no CPU runs one. */
static void flushed(plugin_id id)
{
    (void)id;
    if (!trimming || !parts)
        return;
    memcpy(entry, buffer[0].begin, ENTRY);
    for (int i = 0; i < parts; i++) {
        size_t size = (size_t)(buffer[i].end - buffer[i].begin);
        madvise(buffer[i].begin, size, MADV_DONTNEED);
        madvise(buffer[i].begin, size, MADV_NOHUGEPAGE);
    }
    memcpy(buffer[0].begin, entry, ENTRY);
    drop_empty_rom();
    drop_empty_buffers();
    drop_scratch_memory();
    malloc_trim(0);
}

static void watch(plugin_id id);

static void trimmed(plugin_id id)
{
    idle_for = 0;
    looked_at = now(CLOCK_MONOTONIC);
    looked_cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    watch(id);
    trimming = false;
}

static void idle(plugin_id id, unsigned int cpu)
{
    (void)cpu;
    int64_t time = now(CLOCK_MONOTONIC);
    if (trimming || time - looked_at < SECOND)
        return;
    int64_t used = now(CLOCK_PROCESS_CPUTIME_ID);
    int64_t step = time - looked_at < LONGEST_STEP ? time - looked_at : LONGEST_STEP;
    idle_for = used - looked_cpu < BUSY(step) ? idle_for + step : 0;
    looked_at = time;
    looked_cpu = used;
    if (idle_for < patience)
        return;
    if (!parts)
        find_buffer();
    if (resident() < LEAST) {
        /* Nothing ran since: whoever comes next is a new one. */
        if (idle_for > MOST_PATIENCE)
            patience = first_patience;
        return;
    }
    /* A guest that does something every now and then is not to be slow at it each time. */
    patience = 2 * patience < MOST_PATIENCE ? 2 * patience : MOST_PATIENCE;
    trimming = true;
    qemu_plugin_reset(id, trimmed);
}

static void watch(plugin_id id)
{
    qemu_plugin_register_vcpu_idle_cb(id, idle);
    qemu_plugin_register_flush_cb(id, flushed);
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    (void)info;
    static const char name[] = "patience=";
    if (argc != 1 || strncmp(argv[0], name, sizeof name - 1))
        return 1;
    patience = first_patience = atoi(argv[0] + sizeof name - 1) * SECOND;
    looked_at = now(CLOCK_MONOTONIC);
    looked_cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    watch(id);
    return 0;
}
