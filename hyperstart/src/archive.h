/* Files of a container as a stream of records, out of it and into it.
 *
 * A record is a 4-byte big-endian length, so many bytes of JSON (the header),
 * and for a file the `size` bytes of its content; a length of 0 is the end.
 * Runs in a child of the main process: records go to stdout, or come from
 * stdin, and why it failed goes to stderr. */
#ifndef HYPER_ARCHIVE_H
#define HYPER_ARCHIVE_H

#include <sys/types.h>

#include "child.h"
#include "memory.h"

#define RECORD_MAX (1u << 20) /* bytes of a header */

enum archive_exit {
    ARCHIVE_DONE = 0,
    ARCHIVE_FAILED = 1,
    ARCHIVE_NO_SUCH_FILE = 3,
    ARCHIVE_NOT_A_DIRECTORY = 20,
    ARCHIVE_READ_ONLY = 30,
    ARCHIVE_NO_SPACE = 28,
};

/* Only stdin, stdout and stderr are the caller's. Returns an enum archive_exit. */
int archive_run(const struct child *child, struct failure *failure);

/* archive_read.c; `root` is the root directory that paths begin at. */
int archive_stat(int root, const struct archive_spec *spec, struct failure *failure);
int archive_get(int root, const struct archive_spec *spec, struct failure *failure);
/* What the upper directory of an overlay has, with whiteouts and opaque directories. */
int archive_upper(int upper, struct failure *failure);
/* The same without content, with the kind of each change against the lower layers. */
int archive_changes(int upper, int lower, struct failure *failure);

/* archive_write.c */
int archive_put(int root, const struct archive_spec *spec, struct failure *failure);

#endif
