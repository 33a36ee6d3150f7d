/*
 * Lets QEMU discard memory of a guest whose RAM is a private view of a sealed file.
 *
 * QEMU discards what the guest reports as free in two steps: a hole in the file, and MADV_DONTNEED
 * for what it has mapped. Clones of a template share its file, which is sealed against changes, so
 * that the first step is refused, and QEMU leaves out the second. But the second alone is what is
 * wanted of a private view: the clone's own pages go.
 *
 * The library is preloaded, so that QEMU calls this instead of the C library's function.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

__attribute__((visibility("default"))) int fallocate64(int fd, int mode, off64_t offset, off64_t size)
{
    if (mode & FALLOC_FL_PUNCH_HOLE) {
        int seals = fcntl(fd, F_GET_SEALS);
        if (seals >= 0 && seals & F_SEAL_WRITE)
            return 0;
    }
    return (int)syscall(SYS_fallocate, fd, mode, offset, size);
}
