/*
 * Memory of a Python that is forked many times, shared again after it was written.
 *
 * Python counts the references to each object in the object, so that a forked process soon has a copy of
 * most pages that it only reads. Here the memory as it is before the forks is put into a file in
 * memory, of which all have a private view. Where a page differs from the file's in nothing but
 * counts of references, the process's own copy can go (MADV_DONTNEED): the counts are so large that
 * what they are off by doesn't matter, since no object of before the fork is ever freed.
 *
 * Called through ctypes, with the interpreter's lock held. It allocates nothing and calls no Python.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define PAGE 4096UL
#define WORDS (PAGE / sizeof(uint64_t))
#define MOST 64
#define CHUNK 512
/* Linux, Documentation/admin-guide/mm/pagemap.rst: present or swapped; of a file or shared. */
#define THERE (3UL << 62)
#define OF_FILE (1UL << 61)
/* What the C library moves and enlarges (mremap) goes on behind the content, and reads zeros. */
#define ROOM (1L << 40)
#define SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

int heap_share(const uintptr_t *bounds, int wanted, unsigned int mark);
long heap_give_back(void);

struct part {
    char *begin;
    const char *before;
    size_t size;
};

static struct part parts[MOST];
static int count;
static uint64_t marked;

static int write_all(int file, const char *from, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t written = pwrite(file, from + done, size - done, (off_t)done);
        if (written <= 0)
            return -1;
        done += (size_t)written;
    }
    return 0;
}

/*
 * The memory becomes a private view of a file that has what is in it; where that fails it stays.
 * The file is sealed: no process, not even one that a guest has taken over, changes the others'.
 */
static int share(char *begin, size_t size)
{
    int file = memfd_create("hyper-python", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (file < 0)
        return -errno;
    int result = 0;
    char *before = MAP_FAILED;
    if (ftruncate(file, ROOM) || write_all(file, begin, size) || fcntl(file, F_ADD_SEALS, SEALS) ||
        (before = mmap(NULL, size, PROT_READ, MAP_PRIVATE, file, 0)) == MAP_FAILED ||
        mmap(begin, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, file, 0) == MAP_FAILED) {
        result = -errno;
        if (before != MAP_FAILED)
            munmap(before, size);
    } else {
        parts[count++] = (struct part){begin, before, size};
    }
    close(file);
    return result;
}

/*
 * Shares the memory between each two of `bounds`, of which there are `wanted` pairs. A count of
 * references has `mark` in its upper 24 bits. 0, or a negative errno: then it is shared in part.
 */
EXPORT int heap_share(const uintptr_t *bounds, int wanted, unsigned int mark)
{
    marked = mark;
    int result = 0;
    for (int i = 0; i < wanted && count < MOST && !result; i++)
        result = share((char *)bounds[2 * i], bounds[2 * i + 1] - bounds[2 * i]);
    return result;
}

static bool differs_by_counts_only(const uint64_t *page, const uint64_t *before)
{
    for (size_t i = 0; i < WORDS; i++)
        if (page[i] != before[i] && (page[i] >> 40 != marked || before[i] >> 40 != marked))
            return false;
    return true;
}

static long give_back(const struct part *part, int pagemap)
{
    static uint64_t entries[CHUNK];
    long given = 0;
    for (size_t at = 0; at < part->size; at += CHUNK * PAGE) {
        size_t pages = (part->size - at) / PAGE < CHUNK ? (part->size - at) / PAGE : CHUNK;
        uintptr_t first = (uintptr_t)(part->begin + at) / PAGE;
        ssize_t wanted = (ssize_t)(pages * sizeof entries[0]);
        if (pread(pagemap, entries, (size_t)wanted, (off_t)(first * sizeof entries[0])) != wanted)
            return given;
        for (size_t i = 0; i < pages; i++) {
            if (!(entries[i] & THERE) || entries[i] & OF_FILE)
                continue;
            size_t offset = at + i * PAGE;
            char *page = part->begin + offset;
            const void *before = part->before + offset;
            if (differs_by_counts_only((uint64_t *)page, before))
                given += !madvise(page, PAGE, MADV_DONTNEED);
        }
    }
    /* It is in the file; only the tables that lead to it are this process's. */
    madvise((void *)part->before, part->size, MADV_DONTNEED);
    return given;
}

/*
 * Gives back what can be shared again; how many pages, or a negative errno. The process must have no
 * other thread: one could write between the look at a page and its end. A signal could as well.
 */
EXPORT long heap_give_back(void)
{
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pagemap < 0)
        return -errno;
    sigset_t all, blocked;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &blocked);
    long given = 0;
    for (int i = 0; i < count; i++)
        given += give_back(&parts[i], pagemap);
    sigprocmask(SIG_SETMASK, &blocked, NULL);
    close(pagemap);
    return given;
}
