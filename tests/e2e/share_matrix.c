/* What a program may do to files of a volume; says the first thing that does not work. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define MUST(what)                                                      \
    do {                                                                \
        if (!(what)) {                                                  \
            printf("%d: %s: %s\n", __LINE__, #what, strerror(errno));   \
            exit(1);                                                    \
        }                                                               \
    } while (0)

int main(int argc, char **argv)
{
    MUST(argc == 2 && chdir(argv[1]) == 0);
    int fd = open("map", O_RDWR | O_CREAT, 0644);
    MUST(fd >= 0 && ftruncate(fd, 8192) == 0);
    char *map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    MUST(map != MAP_FAILED);
    strcpy(map + 4096, "mapped");
    MUST(msync(map, 8192, MS_SYNC) == 0);
    char text[16] = "";
    MUST(pread(fd, text, 6, 4096) == 6 && !strcmp(text, "mapped"));
    MUST(setxattr("map", "user.test", "value", 5, 0) == 0);
    MUST(getxattr("map", "user.test", text, sizeof text) == 5 && !memcmp(text, "value", 5));
    MUST(flock(fd, LOCK_EX | LOCK_NB) == 0 && flock(fd, LOCK_UN) == 0);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    MUST(fcntl(fd, F_SETLK, &lock) == 0);
    int notify = inotify_init1(IN_CLOEXEC);
    MUST(notify >= 0 && inotify_add_watch(notify, ".", IN_CREATE | IN_MOVED_TO) >= 0);
    int created = open("created", O_WRONLY | O_CREAT | O_EXCL, 0600);
    MUST(created >= 0 && write(created, "x", 1) == 1 && fsync(created) == 0);
    struct pollfd ready = {.fd = notify, .events = POLLIN};
    MUST(poll(&ready, 1, 5000) == 1);
    MUST(rename("created", "renamed") == 0 && unlink("renamed") == 0);
    MUST(pwrite(created, "y", 1, 1) == 1 && lseek(created, 0, SEEK_END) == 2); /* unlinked */
    MUST(fallocate(fd, 0, 0, 16384) == 0 || errno == EOPNOTSUPP);
    struct stat st;
    struct timespec times[2] = {{1, 500}, {2, 1000}};
    MUST(futimens(fd, times) == 0 && fstat(fd, &st) == 0 && st.st_mtim.tv_sec == 2);
    MUST(access("map", R_OK | W_OK) == 0 && chmod("map", 0400) == 0);
    puts("all");
    return 0;
}
