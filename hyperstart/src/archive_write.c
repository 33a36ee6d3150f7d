/* Records into a container. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "archive.h"
#include "path.h"

#define DIRECTORIES_MAX 65536

/* A directory whose time is to be set when nothing more comes into it. */
struct directory_time {
    struct timespec time;
    int length;
};

struct put {
    int root;
    const char *target; /* the directory in the container that paths begin at */
    struct buffer times; /* struct directory_time and its path, one after the other */
    size_t times_count;
    struct failure *failure;
};

static int read_whole(void *data, size_t size, struct failure *failure)
{
    for (size_t have = 0; have < size;) {
        ssize_t got = read(0, (char *)data + have, size - have);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            errno = EIO;
            return fail(failure, FAIL_SETUP, "the archive ends early");
        }
        have += (size_t)got;
    }
    return 0;
}

static int join(const struct put *put, const char *path, char joined[PATH_MAX])
{
    int size = snprintf(joined, PATH_MAX, "%s/%s", put->target, path);
    if (size < PATH_MAX)
        return 0;
    errno = ENAMETOOLONG;
    return fail_errno(put->failure, "%s", path);
}

static int set_xattrs(const struct put *put, const struct entry_spec *entry, int fd)
{
    for (size_t i = 0; i < entry->xattrs_count; i++) {
        const struct entry_xattr *xattr = &entry->xattrs[i];
        if (fsetxattr(fd, xattr->name, xattr->value, xattr->size, 0) < 0 && errno != ENOTSUP)
            return fail_errno(put->failure, "extended attribute %s of %s", xattr->name,
                              entry->path);
    }
    return 0;
}

/* Owner before mode, which chown takes the set-id bits from. */
static int set_attributes(const struct put *put, const struct entry_spec *entry, int fd)
{
    if (fchown(fd, entry->uid, entry->gid) < 0 || fchmod(fd, entry->mode) < 0)
        return fail_errno(put->failure, "owner and mode of %s", entry->path);
    return set_xattrs(put, entry, fd);
}

static int write_whole(int fd, const uint8_t *data, size_t size)
{
    while (size) {
        ssize_t done = write(fd, data, size);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return -1;
        data += done;
        size -= (size_t)done;
    }
    return 0;
}

static int fill_file(const struct put *put, const struct entry_spec *entry, int fd)
{
    static SELDOM uint8_t data[65536];
    for (int64_t left = entry->size; left > 0;) {
        size_t part = left < (int64_t)sizeof data ? (size_t)left : sizeof data;
        if (read_whole(data, part, put->failure) < 0)
            return -1;
        if (write_whole(fd, data, part) < 0)
            return fail_errno(put->failure, "write of %s", entry->path);
        left -= (int64_t)part;
    }
    struct timespec times[] = {{.tv_nsec = UTIME_OMIT},
                               {entry->seconds, (long)entry->nanoseconds}};
    if (set_attributes(put, entry, fd) < 0)
        return -1;
    futimens(fd, times);
    return 0;
}

/* A file that is mounted there (/etc/hosts) can't be replaced: it is written over. */
static int put_file(const struct put *put, const struct entry_spec *entry, int parent,
                    const char *name)
{
    int flags = O_WRONLY | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(parent, name, flags | O_CREAT | O_EXCL, 0600);
    if (fd < 0 && errno == EEXIST)
        fd = openat(parent, name, flags | O_TRUNC | O_NONBLOCK);
    if (fd < 0)
        return fail_errno(put->failure, "%s", entry->path);
    int result = fill_file(put, entry, fd);
    int saved = errno;
    close(fd);
    errno = saved;
    return result;
}

static int put_directory(struct put *put, const struct entry_spec *entry, int parent,
                         const char *name)
{
    if (mkdirat(parent, name, 0700) < 0 && errno != EEXIST)
        return fail_errno(put->failure, "%s", entry->path);
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return fail_errno(put->failure, "%s", entry->path);
    int result = set_attributes(put, entry, fd);
    int saved = errno;
    close(fd);
    errno = saved;
    if (!result && put->times_count < DIRECTORIES_MAX) {
        struct directory_time time = {{entry->seconds, (long)entry->nanoseconds},
                                      (int)strlen(entry->path) + 1};
        buffer_append(&put->times, &time, sizeof time);
        buffer_append(&put->times, entry->path, strlen(entry->path) + 1);
        put->times_count++;
    }
    return result;
}

static int put_hard_link(const struct put *put, const struct entry_spec *entry, int parent,
                         const char *name)
{
    char joined[PATH_MAX];
    const char *old;
    if (join(put, entry->target, joined) < 0)
        return -1;
    int from = path_open_parent(put->root, joined, &old);
    if (from < 0 || linkat(from, old, parent, name, 0) < 0)
        return fail_errno(put->failure, "%s: link to %s", entry->path, entry->target);
    close(from);
    return 0;
}

static int put_node(const struct put *put, const struct entry_spec *entry, int parent,
                    const char *name)
{
    mode_t type = entry->type == 'c' ? S_IFCHR : entry->type == 'b' ? S_IFBLK : S_IFIFO;
    struct timespec times[] = {{.tv_nsec = UTIME_OMIT},
                               {entry->seconds, (long)entry->nanoseconds}};
    int result = entry->type == 'l' ? symlinkat(entry->target, parent, name)
                                    : mknodat(parent, name, type | entry->mode,
                                              makedev(entry->major, entry->minor));
    if (result < 0 || fchownat(parent, name, entry->uid, entry->gid, AT_SYMLINK_NOFOLLOW) < 0)
        return fail_errno(put->failure, "%s", entry->path);
    utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW);
    return 0;
}

/* What is there already gives way, but no directory for something else, and the reverse. */
static int make_room(const struct put *put, const struct entry_spec *entry, int parent,
                     const char *name)
{
    struct stat st;
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    bool directory = entry->type == 'd';
    if (S_ISDIR(st.st_mode) != directory) {
        errno = EEXIST;
        return fail(put->failure, FAIL_EXISTS, "cannot overwrite %sdirectory %s with %sdirectory",
                    directory ? "non-" : "", entry->path, directory ? "" : "non-");
    }
    if (!directory && unlinkat(parent, name, 0) < 0 &&
        !(errno == EBUSY && entry->type == 'f' && S_ISREG(st.st_mode)))
        return fail_errno(put->failure, "%s", entry->path);
    return 0;
}

static int put_entry(struct put *put, const struct entry_spec *entry)
{
    char joined[PATH_MAX];
    const char *name;
    if (!*entry->path || !strcmp(entry->path, "."))
        return 0; /* the target itself */
    if (join(put, entry->path, joined) < 0)
        return -1;
    int parent = path_open_parent(put->root, joined, &name);
    if (parent < 0)
        return fail_errno(put->failure, "%s", entry->path);
    int result = make_room(put, entry, parent, name);
    if (!result && entry->type == 'f')
        result = put_file(put, entry, parent, name);
    else if (!result && entry->type == 'd')
        result = put_directory(put, entry, parent, name);
    else if (!result && entry->type == 'h')
        result = put_hard_link(put, entry, parent, name);
    else if (!result)
        result = put_node(put, entry, parent, name);
    int saved = errno;
    close(parent);
    errno = saved;
    return result;
}

static void set_directory_times(struct put *put)
{
    while (buffer_length(&put->times) > sizeof(struct directory_time)) {
        struct directory_time time;
        char joined[PATH_MAX];
        memcpy(&time, put->times.data + put->times.start, sizeof time);
        buffer_consume(&put->times, sizeof time);
        const char *path = (const char *)put->times.data + put->times.start;
        struct timespec times[] = {{.tv_nsec = UTIME_OMIT}, time.time};
        int fd = join(put, path, joined) < 0
                     ? -1
                     : path_open(put->root, joined, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        if (fd >= 0) {
            futimens(fd, times);
            close(fd);
        }
        buffer_consume(&put->times, (size_t)time.length);
    }
}

/* One record; 1 at the end of the archive. */
static int put_record(struct put *put, char *header)
{
    uint8_t prefix[4];
    if (read_whole(prefix, sizeof prefix, put->failure) < 0)
        return -1;
    uint32_t size = (uint32_t)prefix[0] << 24 | (uint32_t)prefix[1] << 16 |
                    (uint32_t)prefix[2] << 8 | prefix[3];
    if (!size)
        return 1;
    errno = EINVAL;
    if (size > RECORD_MAX)
        return fail(put->failure, FAIL_BAD_REQUEST, "header of %u bytes", size);
    if (read_whole(header, size, put->failure) < 0)
        return -1;
    struct arena arena = {0};
    struct entry_spec entry;
    int result = entry_decode(&entry, &arena, header, size, put->failure);
    if (!result)
        result = put_entry(put, &entry);
    int saved = errno;
    arena_free(&arena);
    errno = saved;
    return result;
}

int archive_put(int root, const struct archive_spec *spec, struct failure *failure)
{
    struct put put = {.root = root, .target = spec->path, .failure = failure};
    int target = path_open(root, spec->path, O_PATH | O_DIRECTORY);
    if (target < 0)
        return fail_errno(failure, "%s", spec->path);
    close(target);
    umask(0);
    char *header = allocate(RECORD_MAX);
    int result;
    while ((result = put_record(&put, header)) == 0)
        continue;
    set_directory_times(&put);
    return result < 0 ? -1 : 0;
}
