/* The walk through a tree, and the records that it tells of it. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "archive.h"
#include "archive_walk.h"

#define DEPTH_MAX 1024
#define LINKS_MAX 262144
#define XATTRS_MAX 65536
#define OPAQUE "trusted.overlay.opaque"
#define OVERLAY_XATTR "trusted.overlay."

/* The first name of a file that has several. */
struct first_name {
    dev_t device;
    ino_t inode;
    char *path;
};

int walk_flush(struct walk *walk)
{
    while (buffer_length(&walk->out)) {
        ssize_t sent = write(1, walk->out.data + walk->out.start, buffer_length(&walk->out));
        if (sent < 0 && errno != EINTR)
            return fail_errno(walk->failure, "write of the archive");
        if (sent > 0)
            buffer_consume(&walk->out, (size_t)sent);
    }
    return 0;
}

int walk_flush_if_large(struct walk *walk)
{
    return buffer_length(&walk->out) < 65536 ? 0 : walk_flush(walk);
}

static void append_length(struct buffer *out, size_t at)
{
    size_t size = out->end - at - 4;
    for (int i = 0; i < 4; i++)
        out->data[at + (size_t)i] = (uint8_t)(size >> (24 - 8 * i));
}

static void append_base64(struct buffer *out, const uint8_t *data, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        uint32_t word = (uint32_t)data[i] << 16 | (i + 1 < size ? (uint32_t)data[i + 1] << 8 : 0) |
                        (i + 2 < size ? data[i + 2] : 0);
        char text[4] = {digits[word >> 18], digits[word >> 12 & 63],
                        i + 1 < size ? digits[word >> 6 & 63] : '=',
                        i + 2 < size ? digits[word & 63] : '='};
        buffer_append(out, text, sizeof text);
    }
}

static void append_xattrs(struct walk *walk, int fd)
{
    static SELDOM char names[XATTRS_MAX], value[XATTRS_MAX];
    ssize_t size = flistxattr(fd, names, sizeof names);
    const char *separator = "";
    int count = 0;
    buffer_printf(&walk->out, ",\"xattrs\":{");
    for (char *name = names; size > 0 && name < names + size; name += strlen(name) + 1) {
        bool own = !strncmp(name, OVERLAY_XATTR, strlen(OVERLAY_XATTR));
        if (own || !strncmp(name, "system.", 7) || count++ >= ENTRY_XATTRS_MAX)
            continue;
        ssize_t got = fgetxattr(fd, name, value, sizeof value);
        if (got < 0 || buffer_length(&walk->out) > RECORD_MAX - 2 * XATTRS_MAX)
            continue;
        buffer_printf(&walk->out, "%s", separator);
        buffer_json_string(&walk->out, name, strlen(name));
        buffer_printf(&walk->out, ":\"");
        append_base64(&walk->out, (const uint8_t *)value, (size_t)got);
        buffer_printf(&walk->out, "\"");
        separator = ",";
    }
    buffer_printf(&walk->out, "}");
}

char walk_type_of(const struct stat *st)
{
    switch (st->st_mode & S_IFMT) {
    case S_IFREG:
        return 'f';
    case S_IFDIR:
        return 'd';
    case S_IFLNK:
        return 'l';
    case S_IFCHR:
        return 'c';
    case S_IFBLK:
        return 'b';
    default:
        return S_ISFIFO(st->st_mode) ? 'p' : 's';
    }
}

bool walk_is_whiteout(const struct walk *walk, const struct stat *st)
{
    return walk->upper && S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

/* A header up to the members that are the type's own; closed by end_header. */
size_t walk_begin_header(struct walk *walk, char type, const struct stat *st)
{
    size_t at = walk->out.end;
    buffer_append(&walk->out, "\0\0\0\0", 4);
    buffer_printf(&walk->out,
                  "{\"type\":\"%c\",\"mode\":%u,\"uid\":%u,\"gid\":%u,\"sec\":%lld,\"nsec\":%ld,"
                  "\"path\":",
                  type, st->st_mode & 07777, st->st_uid, st->st_gid, (long long)st->st_mtim.tv_sec,
                  st->st_mtim.tv_nsec);
    buffer_json_string(&walk->out, walk->path, strlen(walk->path));
    return at;
}

void walk_end_header(struct walk *walk, size_t at)
{
    buffer_append(&walk->out, "}", 1);
    append_length(&walk->out, at);
}

void walk_append_target(struct walk *walk, const char *target)
{
    buffer_printf(&walk->out, ",\"target\":");
    buffer_json_string(&walk->out, target, strlen(target));
}

/* -- names of hard links */

static struct first_name *find_name(struct walk *walk, const struct stat *st)
{
    size_t at = (size_t)(st->st_ino * 0x9E3779B97F4A7C15u ^ st->st_dev) % walk->names_room;
    while (walk->names[at].path &&
           (walk->names[at].inode != st->st_ino || walk->names[at].device != st->st_dev))
        at = (at + 1) % walk->names_room;
    return &walk->names[at];
}

static void grow_names(struct walk *walk)
{
    struct first_name *old = walk->names;
    size_t count = walk->names_room;
    walk->names_room = count ? count * 2 : 256;
    walk->names = allocate(walk->names_room * sizeof *walk->names);
    for (size_t i = 0; i < count; i++) {
        if (!old[i].path)
            continue;
        struct stat st = {.st_dev = old[i].device, .st_ino = old[i].inode};
        *find_name(walk, &st) = old[i];
    }
    free(old);
}

/* The path that the file was told by before; NULL, and it is remembered. */
static const char *earlier_name(struct walk *walk, const struct stat *st)
{
    if (st->st_nlink < 2 || walk->names_count >= LINKS_MAX)
        return NULL;
    if (walk->names_count * 2 >= walk->names_room)
        grow_names(walk);
    struct first_name *found = find_name(walk, st);
    if (found->path)
        return found->path;
    *found = (struct first_name){st->st_dev, st->st_ino, allocate(strlen(walk->path) + 1)};
    strcpy(found->path, walk->path);
    walk->names_count++;
    return NULL;
}

/* -- entries */

/* Exactly `size` bytes, whatever becomes of the file meanwhile. */
static int append_content(struct walk *walk, int fd, int64_t size)
{
    while (size > 0) {
        size_t part = size < 65536 ? (size_t)size : 65536;
        uint8_t *room = buffer_reserve(&walk->out, part);
        ssize_t got = read(fd, room, part);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_errno(walk->failure, "read of %s", walk->path);
        if (got == 0) {
            memset(room, 0, part);
            got = (ssize_t)part;
        }
        walk->out.end += (size_t)got;
        size -= got;
        if (walk_flush_if_large(walk) < 0)
            return -1;
    }
    return 0;
}

/* `fd` is the file, opened for reading. */
int walk_file(struct walk *walk, int fd)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return fail_errno(walk->failure, "stat of %s", walk->path);
    if (!S_ISREG(st.st_mode))
        return 0; /* replaced a moment ago */
    const char *earlier = earlier_name(walk, &st);
    size_t at = walk_begin_header(walk, earlier ? 'h' : 'f', &st);
    if (earlier)
        walk_append_target(walk, earlier);
    else
        buffer_printf(&walk->out, ",\"size\":%lld", (long long)st.st_size);
    append_xattrs(walk, fd);
    walk_end_header(walk, at);
    return earlier ? walk_flush_if_large(walk) : append_content(walk, fd, st.st_size);
}

int walk_node(struct walk *walk, int parent, const char *name, const struct stat *st)
{
    size_t at = walk_begin_header(walk, walk_is_whiteout(walk, st) ? 'w' : walk_type_of(st), st);
    if (S_ISLNK(st->st_mode)) {
        char target[PATH_MAX];
        ssize_t length = readlinkat(parent, name, target, sizeof target - 1);
        target[length < 0 ? 0 : length] = '\0';
        walk_append_target(walk, target);
    } else {
        buffer_printf(&walk->out, ",\"major\":%u,\"minor\":%u", major(st->st_rdev),
                      minor(st->st_rdev));
    }
    walk_end_header(walk, at);
    return walk_flush_if_large(walk);
}

static int tell_entry(struct walk *walk, int parent, const char *name, int depth)
{
    struct stat st;
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : fail_errno(walk->failure, "stat of %s", walk->path);
    if (S_ISSOCK(st.st_mode))
        return 0;
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return walk_node(walk, parent, name, &st);
    int flags = O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    int fd = openat(parent, name, flags | (S_ISDIR(st.st_mode) ? O_DIRECTORY : 0));
    if (fd < 0)
        return errno == ENOENT ? 0 : fail_errno(walk->failure, "open of %s", walk->path);
    int result = S_ISDIR(st.st_mode) ? walk_directory(walk, fd, depth) : walk_file(walk, fd);
    int saved = errno;
    close(fd);
    errno = saved;
    return result;
}

/* Calls `tell` for what is in a directory, with walk->path set to its path. */
int walk_each(struct walk *walk, int fd, int depth,
                      int (*tell)(struct walk *walk, int parent, const char *name, int depth))
{
    if (depth > DEPTH_MAX) {
        errno = ELOOP;
        return fail(walk->failure, FAIL_SETUP, "directories nested more than %d deep", DEPTH_MAX);
    }
    int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = own < 0 ? NULL : fdopendir(own);
    if (!directory)
        return fail_errno(walk->failure, "read of the directory %s", walk->path);
    size_t length = strlen(walk->path);
    struct dirent *entry;
    int result = 0;
    while (!result && (entry = readdir(directory))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        size_t more = strlen(entry->d_name) + 1;
        if (length + more >= sizeof walk->path) {
            errno = ENAMETOOLONG;
            result = fail(walk->failure, FAIL_SETUP, "a path of more than %d bytes", PATH_MAX);
            break;
        }
        snprintf(walk->path + length, sizeof walk->path - length, "%s%s", length ? "/" : "",
                 entry->d_name);
        result = tell(walk, fd, entry->d_name, depth + 1);
        walk->path[length] = '\0';
    }
    int saved = errno;
    closedir(directory);
    errno = saved;
    return result;
}

bool walk_is_opaque(const struct walk *walk, int fd)
{
    char value = '\0';
    return walk->upper && fgetxattr(fd, OPAQUE, &value, 1) == 1 && value == 'y';
}

int walk_directory(struct walk *walk, int fd, int depth)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return fail_errno(walk->failure, "stat of %s", walk->path);
    size_t at = walk_begin_header(walk, 'd', &st);
    if (walk_is_opaque(walk, fd))
        buffer_printf(&walk->out, ",\"opaque\":true");
    append_xattrs(walk, fd);
    walk_end_header(walk, at);
    return walk_flush_if_large(walk) < 0 ? -1 : walk_each(walk, fd, depth, tell_entry);
}
