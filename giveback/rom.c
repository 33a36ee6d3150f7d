/*
 * Pages of the machine's ROMs that hold nothing.
 *
 * QEMU has 2 MiB for ACPI's tables, of which they take some 10 KiB, and fills all of it with zeros
 * when the machine starts. After that it is written by a CPU that asks for the tables, or not at all.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "giveback.h"

#define PAGE 4096UL
#define SIZE (2UL << 20)

static bool is_empty(const char *page)
{
    return !page[0] && !memcmp(page, page + 1, PAGE - 1);
}

/* QEMU aligns memory of the machine to huge pages, and puts one inaccessible page behind it. */
void drop_empty_rom(void)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    if (!maps)
        return;
    char *line = NULL, *candidate = NULL;
    size_t room = 0;
    while (getline(&line, &room, maps) > 0) {
        unsigned long begin, end, inode;
        char how[5];
        if (sscanf(line, "%lx-%lx %4s %*s %*s %lu", &begin, &end, how, &inode) != 4)
            continue;
        if (candidate && candidate + SIZE == (char *)begin && end - begin == PAGE &&
            !strcmp(how, "---p") && !inode) {
            madvise(candidate, SIZE, MADV_NOHUGEPAGE);
            for (char *page = candidate; page < candidate + SIZE; page += PAGE)
                if (is_empty(page))
                    madvise(page, PAGE, MADV_DONTNEED);
        }
        bool fits = end - begin == SIZE && begin % SIZE == 0 && !inode && !strcmp(how, "rw-p");
        candidate = fits ? (char *)begin : NULL;
    }
    free(line);
    fclose(maps);
}
