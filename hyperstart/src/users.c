#include "users.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory.h"

#define FIELDS_MAX 7
#define FILE_MAX (4 << 20)

struct field {
    const char *text;
    size_t length;
};

/* Split the line at `*cursor` at its colons; false at the end of the file. */
static bool next_line(const char **cursor, struct field fields[FIELDS_MAX], size_t *count)
{
    const char *line = *cursor;
    if (!*line)
        return false;
    size_t length = strcspn(line, "\n");
    *cursor = line + length + (line[length] == '\n');
    const char *end = line + length;
    for (*count = 0; *count < FIELDS_MAX; ++*count) {
        bool last = *count == FIELDS_MAX - 1;
        const char *colon = last ? NULL : memchr(line, ':', (size_t)(end - line));
        fields[*count] = (struct field){line, (size_t)((colon ? colon : end) - line)};
        if (!colon) {
            ++*count;
            break;
        }
        line = colon + 1;
    }
    return true;
}

static bool field_is(struct field field, const char *text, size_t length)
{
    return field.length == length && !memcmp(field.text, text, length);
}

/* A decimal number below 2^31, as runc allows. */
static bool parse_number(const char *text, size_t length, uint32_t *value)
{
    uint64_t number = 0;
    if (length < 1 || length > 10)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        number = number * 10 + (uint64_t)(text[i] - '0');
    }
    *value = (uint32_t)number;
    return number <= INT32_MAX;
}

/* The passwd line of a name or number. */
static bool find_user(const char *passwd, const char *name, size_t length,
                      struct field fields[FIELDS_MAX])
{
    uint32_t number, uid;
    bool numeric = parse_number(name, length, &number);
    size_t count;
    while (next_line(&passwd, fields, &count)) {
        if (count < 4)
            continue;
        if (field_is(fields[0], name, length))
            return true;
        if (numeric && parse_number(fields[2].text, fields[2].length, &uid) && uid == number)
            return true;
    }
    return false;
}

static bool find_group(const char *group, const char *name, size_t length, gid_t *gid)
{
    struct field fields[FIELDS_MAX];
    uint32_t number, value;
    bool numeric = parse_number(name, length, &number);
    size_t count;
    while (next_line(&group, fields, &count)) {
        if (count < 3 || !parse_number(fields[2].text, fields[2].length, &value))
            continue;
        if (field_is(fields[0], name, length) || (numeric && value == number)) {
            *gid = value;
            return true;
        }
    }
    *gid = number;
    return numeric;
}

static void add_group(struct identity *identity, gid_t gid)
{
    for (size_t i = 0; i < identity->groups_count; i++)
        if (identity->groups[i] == gid)
            return;
    if (identity->groups_count < USERS_MAX_GROUPS)
        identity->groups[identity->groups_count++] = gid;
}

static bool is_member(struct field members, struct field user)
{
    const char *at = members.text, *end = members.text + members.length;
    while (at <= end) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        size_t length = (size_t)((comma ? comma : end) - at);
        if (length && field_is(user, at, length))
            return true;
        at += length + 1;
    }
    return false;
}

static void add_memberships(struct identity *identity, const char *group, struct field user)
{
    struct field fields[FIELDS_MAX];
    uint32_t gid;
    size_t count;
    while (next_line(&group, fields, &count))
        if (count >= 4 && parse_number(fields[2].text, fields[2].length, &gid) &&
            is_member(fields[3], user))
            add_group(identity, gid);
}

static void set_home(struct identity *identity, struct field fields[FIELDS_MAX])
{
    struct field home = fields[5];
    if (home.length && home.length < sizeof identity->home) {
        memcpy(identity->home, home.text, home.length);
        identity->home[home.length] = '\0';
    }
}

static int resolve_user(struct identity *identity, const char *user, size_t length,
                        const char *passwd, struct field fields[FIELDS_MAX], bool *known,
                        struct failure *failure)
{
    uint32_t number;
    *known = find_user(passwd, user, length, fields);
    if (*known) {
        if (!parse_number(fields[2].text, fields[2].length, &number))
            return fail(failure, FAIL_SETUP, "malformed entry of user %.*s in passwd file",
                        (int)length, user);
        identity->uid = number;
        if (parse_number(fields[3].text, fields[3].length, &number))
            identity->gid = number;
        return 0;
    }
    if (!parse_number(user, length, &number))
        return fail(failure, FAIL_SETUP, "unable to find user %.*s: no matching entries in "
                    "passwd file", (int)length, user);
    identity->uid = number;
    return 0;
}

static int resolve_name(struct identity *identity, const char *name, const char *passwd,
                        const char *group, struct failure *failure)
{
    struct field fields[FIELDS_MAX] = {0};
    size_t user_length = strcspn(name, ":");
    const char *group_name = name[user_length] ? name + user_length + 1 : "";
    bool known = false;
    identity->uid = identity->gid = 0;
    if (user_length &&
        resolve_user(identity, name, user_length, passwd, fields, &known, failure) < 0)
        return -1;
    if (known)
        set_home(identity, fields);
    if (!*group_name) {
        if (known)
            add_memberships(identity, group, fields[0]);
        return 0;
    }
    if (!find_group(group, group_name, strlen(group_name), &identity->gid))
        return fail(failure, FAIL_SETUP,
                    "unable to find group %s: no matching entries in group file", group_name);
    return 0;
}

static void find_home_by_uid(struct identity *identity, const char *passwd)
{
    struct field fields[FIELDS_MAX] = {0};
    uint32_t uid;
    size_t count;
    while (next_line(&passwd, fields, &count))
        if (count >= 6 && parse_number(fields[2].text, fields[2].length, &uid) &&
            uid == identity->uid) {
            set_home(identity, fields);
            return;
        }
}

int users_resolve(struct identity *identity, const char *name, char *const *extra,
                  size_t extra_count, const char *passwd, const char *group,
                  struct failure *failure)
{
    identity->groups_count = 0;
    strcpy(identity->home, "/");
    if (!name)
        find_home_by_uid(identity, passwd);
    else if (resolve_name(identity, name, passwd, group, failure) < 0)
        return -1;
    for (size_t i = 0; i < extra_count; i++) {
        gid_t gid;
        if (!find_group(name ? group : "", extra[i], strlen(extra[i]), &gid))
            return fail(failure, FAIL_SETUP,
                        "unable to find group %s: no matching entries in group file", extra[i]);
        add_group(identity, gid);
    }
    return 0;
}

char *users_read_file(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > FILE_MAX) {
        if (fd >= 0)
            close(fd);
        return allocate(1);
    }
    size_t capacity = (size_t)st.st_size, have = 0;
    char *text = allocate(capacity + 1);
    ssize_t got;
    while (have < capacity && (got = read(fd, text + have, capacity - have)) > 0)
        have += (size_t)got;
    close(fd);
    return text;
}
