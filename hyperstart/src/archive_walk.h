/* A walk through a tree that tells of its entries by records (archive.h), buffered. */
#ifndef HYPER_ARCHIVE_WALK_H
#define HYPER_ARCHIVE_WALK_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "failure.h"
#include "memory.h"

struct first_name;

struct walk {
    int lower; /* of the changes, -1: contents are wanted */
    bool upper;
    struct buffer out;
    struct first_name *names; /* open addressing */
    size_t names_count, names_room;
    char path[PATH_MAX]; /* of the entry, relative to where the walk began */
    struct failure *failure;
};

/* Those that return an int: -1 with the walk's failure. */
int walk_flush(struct walk *walk);
int walk_flush_if_large(struct walk *walk);

/* A header up to the members that are the type's own; closed by walk_end_header. */
size_t walk_begin_header(struct walk *walk, char type, const struct stat *st);
void walk_append_target(struct walk *walk, const char *target);
void walk_end_header(struct walk *walk, size_t at);

/* Whole records: of a file (`fd` is it, opened for reading), of a directory with all below it, of
 * anything else. */
int walk_file(struct walk *walk, int fd);
int walk_directory(struct walk *walk, int fd, int depth);
int walk_node(struct walk *walk, int parent, const char *name, const struct stat *st);
/* Calls `tell` for what is in a directory, with walk->path set to its path. */
int walk_each(struct walk *walk, int fd, int depth,
              int (*tell)(struct walk *walk, int parent, const char *name, int depth));

char walk_type_of(const struct stat *st);
/* What an overlay's upper directory has instead of what it hides. */
bool walk_is_whiteout(const struct walk *walk, const struct stat *st);
bool walk_is_opaque(const struct walk *walk, int fd);

#endif
