/* Paths below a directory that is not trusted (a container's root, the share):
 * symlinks are followed as if that directory were "/", and can't lead out. */
#ifndef HYPER_PATH_H
#define HYPER_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* openat2 with RESOLVE_IN_ROOT; O_CLOEXEC is added. Returns a descriptor, or -1 and errno. */
int path_open(int root, const char *path, int flags);
/* The same for something to be made if it is missing, with the directories
 * above it: an O_PATH descriptor of a directory, or of a file. */
int path_make_directory(int root, const char *path);
int path_make_file(int root, const char *path);
/* O_PATH descriptor of the directory of `path` (made if missing), and the last
 * component, which points into `path`. */
int path_open_parent(int root, const char *path, const char **name);

/* "/proc/self/fd/N" for mount(2) and open(2); rotates over four buffers. */
const char *path_of_fd(int fd);

/* Whole small files of /proc and /sys. Both return -1 and errno. */
int write_file(const char *path, const char *text);
ssize_t read_file(const char *path, char *text, size_t size); /* NUL-terminated */
int make_directories(const char *path, mode_t mode); /* mkdir -p, in hyperstart's own tree */

#endif
