/*
 * Stands for libpmem, which QEMU is linked to for memory of guests that outlives power: no VM here
 * has such memory (`pmem=on` of a memory backend).
 *
 * With it come libndctl, libdaxctl, libkmod and libcrypto, whose relocations take 0.5 MB of each VM.
 */
#include <stddef.h>
#include <stdlib.h>

#define EXPORT __attribute__((visibility("default")))

void *pmem_memcpy_persist(void *to, const void *from, size_t size);
void pmem_persist(const void *address, size_t size);

EXPORT void *pmem_memcpy_persist(void *to, const void *from, size_t size)
{
    (void)to, (void)from, (void)size;
    abort();
}

EXPORT void pmem_persist(const void *address, size_t size)
{
    (void)address, (void)size;
    abort();
}
