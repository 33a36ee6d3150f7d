#define _GNU_SOURCE
#include "path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SYMLINKS_MAX 40

int path_open(int root, const char *path, int flags)
{
    struct open_how how = {
        .flags = (uint64_t)(unsigned)flags | O_CLOEXEC,
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    if (!*path)
        path = "/";
    for (int attempt = 0;; attempt++) {
        int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof how);
        /* EAGAIN: something above was renamed at the same time. */
        if (fd >= 0 || errno != EAGAIN || attempt == 100)
            return fd;
    }
}

static int make(int root, const char *path, bool directory, int depth);

/* Split off the last component; false when it is nothing that can be made. */
static bool split(const char *path, char parent[PATH_MAX], const char **name)
{
    size_t end = strlen(path);
    while (end && path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start && path[start - 1] != '/')
        start--;
    size_t length = end - start;
    if (!length || length > NAME_MAX || start >= PATH_MAX || path[end] == '/')
        return false;
    memcpy(parent, path, start);
    parent[start] = '\0';
    *name = path + start;
    return strcmp(*name, ".") != 0 && strcmp(*name, "..") != 0;
}

int path_open_parent(int root, const char *path, const char **name)
{
    char parent[PATH_MAX];
    if (!split(path, parent, name)) {
        errno = EINVAL;
        return -1;
    }
    return make(root, parent, true, 0);
}

/* The name exists, but leads nowhere: a dangling symlink. Make what it names. */
static int make_link_target(int root, int parent_fd, const char *parent, const char *name,
                            bool directory, int depth)
{
    char target[PATH_MAX], joined[PATH_MAX];
    ssize_t length = readlinkat(parent_fd, name, target, sizeof target - 1);
    if (length < 0)
        return -1;
    target[length] = '\0';
    int size = snprintf(joined, sizeof joined, "%s/%s", target[0] == '/' ? "" : parent, target);
    if (size >= (int)sizeof joined) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return make(root, joined, directory, depth + 1);
}

static int make_entry(int parent_fd, const char *name, bool directory)
{
    if (directory) {
        if (mkdirat(parent_fd, name, 0755) < 0)
            return -1;
        return openat(parent_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    }
    int fd = openat(parent_fd, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return -1;
    close(fd);
    return openat(parent_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
}

static int make(int root, const char *path, bool directory, int depth)
{
    int fd = path_open(root, path, O_PATH | (directory ? O_DIRECTORY : 0));
    if (fd >= 0 || errno != ENOENT)
        return fd;
    char trimmed[PATH_MAX], parent[PATH_MAX];
    const char *name;
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    if (depth > SYMLINKS_MAX || length >= sizeof trimmed) {
        errno = depth > SYMLINKS_MAX ? ELOOP : ENAMETOOLONG;
        return -1;
    }
    memcpy(trimmed, path, length);
    trimmed[length] = '\0';
    if (!split(trimmed, parent, &name))
        return -1;
    int parent_fd = make(root, parent, true, depth + 1);
    if (parent_fd < 0)
        return -1;
    fd = make_entry(parent_fd, name, directory);
    if (fd < 0 && errno == EEXIST)
        fd = make_link_target(root, parent_fd, parent, name, directory, depth);
    int saved = errno;
    close(parent_fd);
    errno = saved;
    return fd;
}

int path_make_directory(int root, const char *path)
{
    return make(root, path, true, 0);
}

int path_make_file(int root, const char *path)
{
    return make(root, path, false, 0);
}

const char *path_of_fd(int fd)
{
    static char buffers[4][32];
    static unsigned next;
    char *buffer = buffers[next++ % 4];
    snprintf(buffer, sizeof buffers[0], "/proc/self/fd/%d", fd);
    return buffer;
}

int write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t size = (ssize_t)strlen(text), written = write(fd, text, (size_t)size);
    int saved = errno;
    close(fd);
    errno = written < 0 ? saved : EIO;
    return written == size ? 0 : -1;
}

ssize_t read_file(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    size_t have = 0;
    ssize_t got = 0;
    while (have < size - 1 && (got = read(fd, text + have, size - 1 - have)) > 0)
        have += (size_t)got;
    int saved = errno;
    close(fd);
    errno = saved;
    text[have] = '\0';
    return got < 0 ? -1 : (ssize_t)have;
}

int make_directories(const char *path, mode_t mode)
{
    char partial[PATH_MAX];
    size_t length = strlen(path);
    if (length >= sizeof partial) {
        errno = ENAMETOOLONG;
        return -1;
    }
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(partial, path, i);
        partial[i] = '\0';
        if (mkdir(partial, mode) < 0 && errno != EEXIST)
            return -1;
    }
    return 0;
}
