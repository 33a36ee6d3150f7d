/*
 * What QEMU's translator keeps for the next translation: chunks of scratch memory, of which one long
 * piece of guest code once took sixteen (0.5 MB), and a hash table of translations that is sized for
 * a busy guest and written all over when it is emptied (0.5 MB); it grows by itself.
 *
 * The library is preloaded, so that QEMU calls this instead of GLib's function. Names are those of
 * QEMU (tcg/tcg.c, util/qht.c, accel/tcg/tb-context.h); what is not found is left alone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "giveback.h"

#define EXPORT __attribute__((visibility("default")))
#define PAGE 4096UL
/* A chunk (TCG_POOL_CHUNK_SIZE) and what comes before it: the next one's address, and the size. */
#define HEADER 16
#define CHUNK (HEADER + 32768)
#define MOST 256
/* The length of tcg_malloc_internal is less. */
#define LONGEST 256
/* Translations that the table has room for: what an idle guest needs. QEMU's number is 32768. */
#define TRANSLATIONS 4096
/* What is as large is a mapping of its own, and goes when it is freed, as QEMU's table. It is the C
 * library's number, which it raises otherwise. */
#define OWN_MAPPING (128 << 10)

EXPORT void *g_malloc(size_t size);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *chunks[MOST];
static int count;

static void *(*real_malloc)(size_t size);
static const char *caller_of_chunks;

__attribute__((constructor)) static void find(void)
{
    *(void **)&real_malloc = dlsym(RTLD_NEXT, "g_malloc");
    caller_of_chunks = dlsym(RTLD_DEFAULT, "tcg_malloc_internal");
    mallopt(M_MMAP_THRESHOLD, OWN_MAPPING);
}

void *g_malloc(size_t size)
{
    const char *caller = __builtin_return_address(0);
    if (!real_malloc)
        find();
    void *memory = real_malloc(size);
    if (size == CHUNK && caller > caller_of_chunks && caller < caller_of_chunks + LONGEST) {
        pthread_mutex_lock(&lock);
        if (count < MOST)
            chunks[count++] = memory;
        pthread_mutex_unlock(&lock);
    }
    return memory;
}

void drop_scratch_memory(void)
{
    /* QEMU never frees them, and what they held is of no use after the translation. */
    for (int i = 0; i < count; i++) {
        uintptr_t begin = ((uintptr_t)chunks[i] + HEADER + PAGE - 1) & ~(PAGE - 1);
        uintptr_t end = ((uintptr_t)chunks[i] + CHUNK) & ~(PAGE - 1);
        madvise((void *)begin, end - begin, MADV_DONTNEED);
    }
    int (*resize)(void *table, size_t translations) = NULL;
    *(void **)&resize = dlsym(RTLD_DEFAULT, "qht_reset_size");
    /* The table is what the context of translations begins with. */
    void *table = dlsym(RTLD_DEFAULT, "tb_ctx");
    if (resize && table)
        resize(table, TRANSLATIONS);
}
