/* Records out of a container. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "archive.h"
#include "archive_walk.h"
#include "path.h"

/* -- changes */

static int stat_lower(const struct walk *walk, const char *path, struct stat *st)
{
    struct open_how how = {
        .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
    };
    int fd = (int)syscall(SYS_openat2, walk->lower, *path ? path : ".", &how, sizeof how);
    int result = fd < 0 ? -1 : fstat(fd, st);
    if (fd >= 0)
        close(fd);
    return result;
}

static int tell_change(struct walk *walk, char kind, const struct stat *st, bool same)
{
    size_t at = walk_begin_header(walk, walk_type_of(st), st);
    buffer_printf(&walk->out, ",\"kind\":\"%c\",\"same\":%s", kind, same ? "true" : "false");
    walk_end_header(walk, at);
    return walk_flush_if_large(walk);
}

static int hiding_directory;

/* What an opaque directory hides is deleted, where it has nothing of that name itself. */
static int tell_hidden(struct walk *walk, int parent, const char *name, int depth)
{
    struct stat st;
    (void)depth;
    if (!fstatat(hiding_directory, name, &st, AT_SYMLINK_NOFOLLOW) ||
        fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    return tell_change(walk, 'D', &st, false);
}

static int tell_opaque(struct walk *walk, int fd)
{
    struct open_how how = {
        .flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
    };
    int lower = (int)syscall(SYS_openat2, walk->lower, walk->path, &how, sizeof how);
    if (lower < 0)
        return 0;
    hiding_directory = fd;
    int result = walk_each(walk, lower, 0, tell_hidden);
    close(lower);
    return result;
}

static int change_of(struct walk *walk, int parent, const char *name, int depth)
{
    struct stat st, below;
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : fail_errno(walk->failure, "stat of %s", walk->path);
    if (walk_is_whiteout(walk, &st))
        return tell_change(walk, 'D', &st, false);
    bool known = !stat_lower(walk, walk->path, &below);
    bool both = known && S_ISDIR(st.st_mode) && S_ISDIR(below.st_mode);
    bool same = both && st.st_mode == below.st_mode && st.st_uid == below.st_uid &&
                st.st_gid == below.st_gid;
    if (tell_change(walk, known ? 'C' : 'A', &st, same) < 0)
        return -1;
    if (!S_ISDIR(st.st_mode))
        return 0;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : fail_errno(walk->failure, "open of %s", walk->path);
    int result = both && walk_is_opaque(walk, fd) ? tell_opaque(walk, fd) : 0;
    if (!result)
        result = walk_each(walk, fd, depth, change_of);
    close(fd);
    return result;
}

/* -- requests */

static int finish(struct walk *walk, int result)
{
    if (result < 0)
        return -1;
    buffer_append(&walk->out, "\0\0\0\0", 4);
    return walk_flush(walk);
}

int archive_upper(int upper, struct failure *failure)
{
    static struct walk walk = {.lower = -1, .upper = true};
    walk.failure = failure;
    return finish(&walk, walk_directory(&walk, upper, 0));
}

int archive_changes(int upper, int lower, struct failure *failure)
{
    static struct walk walk = {.upper = true};
    walk.failure = failure;
    walk.lower = lower;
    return finish(&walk, walk_each(&walk, upper, 0, change_of));
}

static int open_item(int root, const struct archive_spec *spec, struct stat *st,
                     struct failure *failure)
{
    int fd = path_open(root, spec->path, O_PATH | (spec->follow ? 0 : O_NOFOLLOW));
    if (fd < 0 || fstat(fd, st) < 0)
        return fail_errno(failure, "%s", spec->path);
    return fd;
}

int archive_stat(int root, const struct archive_spec *spec, struct failure *failure)
{
    static struct walk walk = {.lower = -1};
    struct stat st;
    walk.failure = failure;
    int fd = open_item(root, spec, &st, failure);
    if (fd < 0)
        return -1;
    size_t at = walk_begin_header(&walk, walk_type_of(&st), &st);
    buffer_printf(&walk.out, ",\"size\":%lld", (long long)st.st_size);
    if (S_ISLNK(st.st_mode)) {
        char target[PATH_MAX];
        ssize_t length = readlinkat(fd, "", target, sizeof target - 1);
        target[length < 0 ? 0 : length] = '\0';
        walk_append_target(&walk, target);
    }
    walk_end_header(&walk, at);
    return finish(&walk, 0);
}

int archive_get(int root, const struct archive_spec *spec, struct failure *failure)
{
    static struct walk walk = {.lower = -1};
    struct stat st;
    walk.failure = failure;
    int fd = open_item(root, spec, &st, failure);
    if (fd < 0)
        return -1;
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return finish(&walk, walk_node(&walk, fd, "", &st));
    int flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | (spec->follow ? 0 : O_NOFOLLOW);
    int open_fd = path_open(root, spec->path, flags | (S_ISDIR(st.st_mode) ? O_DIRECTORY : 0));
    if (open_fd < 0)
        return fail_errno(failure, "%s", spec->path);
    return finish(&walk, S_ISDIR(st.st_mode) ? walk_directory(&walk, open_fd, 0)
                                             : walk_file(&walk, open_fd));
}
