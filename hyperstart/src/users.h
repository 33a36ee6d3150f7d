/* Who a process runs as: USER[:GROUP] against passwd(5) and group(5), with the
 * rules of runc. Pure, but for users_read_file. */
#ifndef HYPER_USERS_H
#define HYPER_USERS_H

#include <stddef.h>
#include <sys/types.h>

#include "failure.h"

#define USERS_MAX_GROUPS 1024

struct identity {
    uid_t uid;
    gid_t gid;
    gid_t groups[USERS_MAX_GROUPS];
    size_t groups_count;
    char home[1024];
};

/* `name` is USER[:GROUP] (either may be a number), or NULL: then identity->uid
 * and ->gid are given, and only the home directory is looked up. `extra` are
 * additional groups. Empty texts stand for absent files. */
int users_resolve(struct identity *identity, const char *name, char *const *extra,
                  size_t extra_count, const char *passwd, const char *group,
                  struct failure *failure);

/* The content of a regular file of at most 4 MiB, or "" if there is none. */
char *users_read_file(const char *path);

#endif
