/* Copies of directories: what a mount with `copy_up` starts with. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "mounts.h"

#define DEPTH_MAX 64

#define XATTRS_MAX 65536

static int copy_directory(int from, int to, int depth);

/* Not those of the overlay itself; what the target can't keep is left out. */
static int copy_xattrs(int from, int to)
{
    static SELDOM char names[XATTRS_MAX], value[XATTRS_MAX];
    ssize_t size = flistxattr(from, names, sizeof names);
    for (char *name = names; size > 0 && name < names + size; name += strlen(name) + 1) {
        ssize_t length = fgetxattr(from, name, value, sizeof value);
        if (length < 0 || !strncmp(name, "trusted.overlay.", 16))
            continue;
        if (fsetxattr(to, name, value, (size_t)length, 0) < 0 && errno != ENOTSUP &&
            errno != EPERM)
            return -1;
    }
    return 0;
}

static int copy_attributes(int from, int to, const struct stat *st)
{
    if (fchown(to, st->st_uid, st->st_gid) < 0 || fchmod(to, st->st_mode & 07777) < 0 ||
        copy_xattrs(from, to) < 0)
        return -1;
    return futimens(to, (struct timespec[]){st->st_atim, st->st_mtim});
}

static int copy_file(int from, int to, const char *name, const struct stat *st)
{
    int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    int out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    ssize_t got = in < 0 || out < 0 ? -1 : 1;
    while (got > 0)
        got = sendfile(out, in, NULL, 1 << 20);
    if (got == 0)
        got = copy_attributes(in, out, st);
    int saved = errno;
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    errno = saved;
    return (int)got;
}

static int copy_symlink(int from, int to, const char *name, const struct stat *st)
{
    char target[PATH_MAX];
    ssize_t length = readlinkat(from, name, target, sizeof target - 1);
    if (length < 0)
        return -1;
    target[length] = '\0';
    if (symlinkat(target, to, name) < 0)
        return -1;
    return fchownat(to, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW);
}

static int copy_subdirectory(int from, int to, const char *name, const struct stat *st, int depth)
{
    if (mkdirat(to, name, 0700) < 0)
        return -1;
    int in = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int out = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int result = in < 0 || out < 0 ? -1 : copy_directory(in, out, depth + 1);
    if (!result)
        result = copy_attributes(in, out, st);
    int saved = errno;
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    errno = saved;
    return result;
}

static int copy_node(int to, const char *name, const struct stat *st)
{
    if (mknodat(to, name, st->st_mode, st->st_rdev) < 0)
        return errno == ENXIO ? 0 : -1; /* QEMU's 9p server of some versions makes none */
    return fchownat(to, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW);
}

static int copy_entry(int from, int to, const char *name, int depth)
{
    struct stat st;
    if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -1;
    switch (st.st_mode & S_IFMT) {
    case S_IFDIR:
        return copy_subdirectory(from, to, name, &st, depth);
    case S_IFREG:
        return copy_file(from, to, name, &st);
    case S_IFLNK:
        return copy_symlink(from, to, name, &st);
    case S_IFSOCK:
        return 0;
    default:
        return copy_node(to, name, &st);
    }
}

static int copy_directory(int from, int to, int depth)
{
    if (depth > DEPTH_MAX) {
        errno = ELOOP;
        return -1;
    }
    int own = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = own < 0 ? NULL : fdopendir(own);
    if (!directory)
        return -1;
    struct dirent *entry;
    int result = 0;
    while (!result && (entry = readdir(directory)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            result = copy_entry(from, to, entry->d_name, depth);
    int saved = errno;
    closedir(directory);
    errno = saved;
    return result;
}

static bool is_empty(int fd)
{
    int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = own < 0 ? NULL : fdopendir(own);
    struct dirent *entry;
    bool empty = directory;
    while (empty && (entry = readdir(directory)))
        empty = !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") ||
                !strcmp(entry->d_name, "lost+found");
    if (directory)
        closedir(directory);
    return empty;
}

int copy_into_empty(int from, int to, const char *what, struct failure *failure)
{
    struct stat st;
    if (!is_empty(to))
        return 0;
    if (copy_tree(from, to, what, failure) < 0)
        return -1;
    return fstat(from, &st) < 0 || copy_attributes(from, to, &st) < 0
               ? fail_errno(failure, "copy of %s", what)
               : 0;
}

int copy_tree(int from, int to, const char *what, struct failure *failure)
{
    mode_t mask = umask(0);
    int result = copy_directory(from, to, 0);
    umask(mask);
    return result < 0 ? fail_errno(failure, "copy of %s", what) : 0;
}
