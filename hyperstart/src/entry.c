/* The header of a record that is put into a container. Pure. */
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "json.h"
#include "request.h"

static void decode_xattrs(struct json *json, struct entry_spec *entry)
{
    int object = json_object(json, 0, "xattrs");
    size_t count = object < 0 ? 0 : json_pairs(json, object);
    if (count > ENTRY_XATTRS_MAX) {
        fail(json->failure, FAIL_BAD_REQUEST, "more than %d extended attributes", ENTRY_XATTRS_MAX);
        return;
    }
    int key = object < 0 ? -1 : json_first(json, object);
    for (size_t i = 0; i < count && !json->failure->code; i++) {
        struct entry_xattr *xattr = &entry->xattrs[entry->xattrs_count];
        int value = json_after(json, key);
        xattr->name = json_text(json, key, "xattrs");
        char *text = json_text(json, value, "xattrs");
        if (!text || !xattr->name)
            return;
        xattr->value = arena_alloc(json->arena, strlen(text) / 4 * 3 + 4);
        int64_t size = base64_decode(text, strlen(text), xattr->value);
        if (size < 0) {
            fail(json->failure, FAIL_BAD_REQUEST, "xattrs must be base64");
            return;
        }
        xattr->size = (size_t)size;
        entry->xattrs_count++;
        key = json_after(json, value);
    }
}

int entry_decode(struct entry_spec *entry, struct arena *arena, const char *text, size_t size,
                 struct failure *failure)
{
    struct json json = {.arena = arena, .failure = failure};
    memset(entry, 0, sizeof *entry);
    if (json_parse(&json, text, size) < 0)
        return -1;
    entry->path = json_string(&json, 0, "path", JSON_REQUIRED);
    char *type = json_string(&json, 0, "type", JSON_REQUIRED);
    entry->target = json_string(&json, 0, "target", JSON_OPTIONAL);
    entry->mode = (mode_t)json_int(&json, 0, "mode", 0, 07777, 0644);
    entry->uid = (uid_t)json_int(&json, 0, "uid", 0, UINT32_MAX - 1, 0);
    entry->gid = (gid_t)json_int(&json, 0, "gid", 0, UINT32_MAX - 1, 0);
    entry->size = json_int(&json, 0, "size", 0, INT64_C(1) << 50, 0);
    entry->seconds = json_int(&json, 0, "sec", -(INT64_C(1) << 40), INT64_C(1) << 40, 0);
    entry->nanoseconds = json_int(&json, 0, "nsec", 0, 999999999, 0);
    entry->major = (unsigned)json_int(&json, 0, "major", 0, 4095, 0);
    entry->minor = (unsigned)json_int(&json, 0, "minor", 0, 1048575, 0);
    if (!failure->code)
        decode_xattrs(&json, entry);
    if (failure->code)
        return -1;
    if (strlen(type) != 1 || !strchr("fdlhcbp", *type))
        return fail(failure, FAIL_BAD_REQUEST, "unknown type of an entry");
    entry->type = *type;
    if (entry->path[0] == '/' || strlen(entry->path) >= PATH_MAX ||
        !path_stays_below(entry->path))
        return fail(failure, FAIL_BAD_REQUEST, "path of an entry leads out");
    if (strchr("lh", *type) && (!entry->target || strlen(entry->target) >= PATH_MAX))
        return fail(failure, FAIL_BAD_REQUEST, "a link needs a target");
    if (*type == 'h' && (entry->target[0] == '/' || !path_stays_below(entry->target)))
        return fail(failure, FAIL_BAD_REQUEST, "target of a hard link leads out");
    if (*type != 'f' && entry->size)
        return fail(failure, FAIL_BAD_REQUEST, "only files have content");
    return 0;
}
