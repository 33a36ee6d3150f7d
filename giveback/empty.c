/*
 * Pages of the machine that hold nothing, though QEMU has written zeros to them.
 *
 * ROMs: 2 MiB for ACPI's tables, of which they take some 10 KiB, 128 KiB for option ROMs, of which
 * there are none, and the firmware's 64 KiB. They are written by a CPU that asks for the tables, or
 * not at all. Buffers of the IDE disks that the machine `pc` has a controller for and could have:
 * only what a disk is told to do changes them, and there is none.
 */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "giveback.h"

#define PAGE 4096UL
#define ROM_ALIGNMENT (2UL << 20)
#define MOST_ROM (2UL << 20)

/* glibc's header of a block that has a mapping of its own (malloc.c, "malloc_chunk"): how far into
 * the mapping it lies, and how long it is, with a bit for its kind. */
struct header {
    size_t before, size;
};
#define IS_MAPPED 2

/* QEMU aligns the buffer to 2 KiB; its 256 sectors and 4 bytes take 33 pages so. */
#define BUFFER_SIZE (33 * PAGE)
/* Larger mappings are stacks and what small blocks of the heap come from. */
#define MOST_LOOKED_AT (4UL << 20)
#define BUFFER_BEFORE (2048 - sizeof(struct header))

static bool is_empty(const char *page)
{
    return !page[0] && !memcmp(page, page + 1, PAGE - 1);
}

/* Whether it has memory: a look at it would give it some. */
static bool is_there(char *page)
{
    unsigned char resident;
    return !mincore(page, PAGE, &resident) && resident & 1;
}

static void drop_empty(char *begin, char *end)
{
    madvise(begin, (size_t)(end - begin), MADV_NOHUGEPAGE);
    for (char *page = begin; page < end; page += PAGE)
        if (is_there(page) && is_empty(page))
            madvise(page, PAGE, MADV_DONTNEED);
}

static bool is_rom_size(size_t size)
{
    return size == MOST_ROM || size == 128UL << 10 || size == 64UL << 10;
}

static bool is_buffer(const char *page)
{
    const struct header *header = (const struct header *)(page + BUFFER_BEFORE);
    return header->before == BUFFER_BEFORE &&
           header->size == ((BUFFER_SIZE - BUFFER_BEFORE) | IS_MAPPED);
}

/* Large blocks of the heap have mappings of their own, which the kernel lists as one. */
static void drop_buffers(char *begin, char *end)
{
    for (char *page = begin; (size_t)(end - page) >= BUFFER_SIZE; page += PAGE)
        if (is_there(page) && is_buffer(page)) {
            drop_empty(page + PAGE, page + BUFFER_SIZE);
            page += BUFFER_SIZE - PAGE;
        }
}

/* QEMU aligns memory of the machine to huge pages, and puts one inaccessible page behind it. */
void drop_empty_pages(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    if (!maps)
        return;
    char *line = NULL, *candidate = NULL, *candidate_end = NULL;
    size_t room = 0;
    while (getline(&line, &room, maps) > 0) {
        unsigned long begin, end, inode;
        char how[5];
        int name = 0;
        if (sscanf(line, "%lx-%lx %4s %*s %*s %lu %n", &begin, &end, how, &inode, &name) != 4)
            continue;
        bool is_guard = !strcmp(how, "---p") && !inode && end - begin == PAGE;
        if (candidate && candidate_end == (char *)begin && is_guard)
            drop_empty(candidate, candidate_end);
        candidate = NULL;
        if (strcmp(how, "rw-p") || inode || line[name])
            continue;
        if (begin % ROM_ALIGNMENT == 0 && is_rom_size(end - begin)) {
            candidate = (char *)begin;
            candidate_end = (char *)end;
        } else if (end - begin <= MOST_LOOKED_AT) {
            drop_buffers((char *)begin, (char *)end);
        }
    }
    free(line);
    fclose(maps);
}
