/* Decoding of a process: a container's first, or one of EXECCMD. */
#include <string.h>

#include "json.h"
#include "request.h"
#include "request_parts.h"

static void decode_archive(struct json *json, int object, struct process_spec *spec)
{
    static const char *const ops[] = {"stat", "get", "put", "upper", "changes"};
    int archive = json_object(json, object, "archive");
    if (archive < 0)
        return;
    spec->archive = arena_alloc(json->arena, sizeof *spec->archive);
    spec->archive->path = decode_path(json, archive, "path", JSON_OPTIONAL);
    if (!spec->archive->path)
        spec->archive->path = arena_printf(json->arena, "/");
    spec->archive->follow = json_bool(json, archive, "follow", false);
    spec->archive->rootfs_only = json_bool(json, archive, "rootfs_only", false);
    char *op = json_string(json, archive, "op", JSON_REQUIRED);
    size_t found = 0;
    while (op && found < sizeof ops / sizeof ops[0] && strcmp(ops[found], op) != 0)
        found++;
    if (!op || found == sizeof ops / sizeof ops[0])
        fail(json->failure, FAIL_BAD_REQUEST, "unknown archive.op");
    spec->archive->op = (enum archive_op)found;
}

static void decode_user(struct json *json, int object, struct process_spec *spec)
{
    int user = json_object(json, object, "user");
    spec->user_name = json_string(json, user, "name", JSON_OPTIONAL);
    spec->uid = (uid_t)json_int(json, user, "uid", 0, UINT32_MAX - 1, 0);
    spec->gid = (gid_t)json_int(json, user, "gid", 0, UINT32_MAX - 1, 0);
    spec->umask = (mode_t)json_int(json, user, "umask", 0, 0777, 022);
    int groups = json_array(json, user, "groups", &spec->groups_count);
    spec->groups = arena_array(json->arena, spec->groups_count, sizeof *spec->groups);
    int item = groups < 0 ? -1 : json_first(json, groups);
    for (size_t i = 0; i < spec->groups_count && !json->failure->code; i++) {
        if (json_is_string(json, item))
            spec->groups[i] = json_text(json, item, "groups");
        else
            spec->groups[i] = arena_printf(
                json->arena, "%lld",
                (long long)json_int_value(json, item, "groups", 0, UINT32_MAX - 1));
        item = json_after(json, item);
    }
}

static uint64_t decode_capability_set(struct json *json, int sets, const char *key)
{
    uint64_t mask = UINT64_MAX;
    char *text = json_string(json, sets, key, JSON_OPTIONAL);
    if (text && !parse_hex64(text, &mask))
        fail(json->failure, FAIL_BAD_REQUEST, "capabilities.%s must be hexadecimal", key);
    return mask;
}

static void decode_capabilities(struct json *json, int object, struct capability_sets *sets)
{
    int value = json_object(json, object, "capabilities");
    sets->bounding = decode_capability_set(json, value, "bounding");
    sets->effective = decode_capability_set(json, value, "effective");
    sets->permitted = decode_capability_set(json, value, "permitted");
    /* Absent means all, but for the sets that would hand capabilities to every user. */
    sets->inheritable = json_get(json, value, "inheritable") < 0
                            ? 0
                            : decode_capability_set(json, value, "inheritable");
    sets->ambient = json_get(json, value, "ambient") < 0
                        ? 0
                        : decode_capability_set(json, value, "ambient");
}

static void decode_rlimits(struct json *json, int object, struct process_spec *spec)
{
    int array = json_array(json, object, "rlimits", &spec->rlimits_count);
    spec->rlimits = arena_array(json->arena, spec->rlimits_count, sizeof *spec->rlimits);
    int item = array < 0 ? -1 : json_first(json, array);
    for (size_t i = 0; i < spec->rlimits_count && !json->failure->code; i++) {
        int at = json_first(json, item);
        if (at < 0 || json_pairs(json, item) != 3) {
            fail(json->failure, FAIL_BAD_REQUEST, "a rlimit must be [number, soft, hard]");
            return;
        }
        struct rlimit_spec *limit = &spec->rlimits[i];
        limit->resource = (int)json_int_value(json, at, "rlimit", 0, 15);
        at = json_after(json, at);
        limit->soft = json_int_value(json, at, "rlimit", -1, INT64_MAX);
        limit->hard = json_int_value(json, json_after(json, at), "rlimit", -1, INT64_MAX);
        item = json_after(json, item);
    }
}

static void decode_seccomp(struct json *json, int object, struct process_spec *spec)
{
    spec->seccomp_flags = (unsigned)json_int(json, object, "seccomp_flags", 0, UINT32_MAX, 0);
    spec->seccomp = decode_instructions(json, object, "seccomp", 4096, &spec->seccomp_size);
}

static void decode_scheduling(struct json *json, int object, struct process_spec *spec)
{
    size_t count;
    int array = json_array(json, object, "scheduler", &count);
    int64_t values[7] = {0};
    if (array >= 0 && count != 7)
        fail(json->failure, FAIL_BAD_REQUEST, "scheduler must have 7 numbers");
    int item = array < 0 || count != 7 ? -1 : json_first(json, array);
    for (size_t i = 0; item >= 0 && i < 7; i++, item = json_after(json, item))
        values[i] = json_int_value(json, item, "scheduler", i == 1 ? -20 : 0,
                                   i < 3 ? 99 : INT64_MAX);
    spec->has_scheduler = array >= 0;
    spec->scheduler = (struct scheduler_spec){
        .policy = (uint32_t)values[0],
        .nice = (int32_t)values[1],
        .priority = (uint32_t)values[2],
        .flags = (uint64_t)values[3],
        .runtime = (uint64_t)values[4],
        .deadline = (uint64_t)values[5],
        .period = (uint64_t)values[6],
    };
    spec->io_priority = (int)json_int(json, object, "io_priority", 0, 65535, 0);
    spec->has_personality = json_get(json, object, "personality") >= 0;
    spec->personality = (unsigned long)json_int(json, object, "personality", 0, INT32_MAX, 0);
}

void decode_process(struct json *json, int object, struct process_spec *spec)
{
    spec->id = decode_id(json, object, "id");
    spec->args = json_strings(json, object, "args", &spec->args_count);
    spec->idle = json_bool(json, object, "idle", false);
    decode_archive(json, object, spec);
    spec->connect = (uint16_t)json_int(json, object, "connect", 1, 65535, 0);
    if (!spec->args_count && !spec->idle && !spec->archive && !spec->connect)
        fail(json->failure, FAIL_BAD_REQUEST, "args is empty");
    spec->env = json_strings(json, object, "env", &spec->env_count);
    spec->cwd = decode_path(json, object, "cwd", JSON_OPTIONAL);
    if (!spec->cwd)
        spec->cwd = arena_printf(json->arena, "/");
    decode_user(json, object, spec);
    spec->terminal = json_bool(json, object, "terminal", false);
    spec->rows = (unsigned short)json_int(json, object, "rows", 0, 65535, 0);
    spec->cols = (unsigned short)json_int(json, object, "cols", 0, 65535, 0);
    spec->has_stdin = json_bool(json, object, "stdin", false);
    spec->stdio = (uint32_t)json_int(json, object, "stdio", 1, INT32_MAX, 0);
    spec->stderr_stream = (uint32_t)json_int(json, object, "stderr", 1, INT32_MAX, 0);
    if (spec->stderr_stream && (!spec->stdio || spec->terminal))
        spec->stderr_stream = 0;
    if (spec->stdio && spec->stdio == spec->stderr_stream)
        fail(json->failure, FAIL_BAD_REQUEST, "stdio and stderr are the same stream");
    decode_capabilities(json, object, &spec->capabilities);
    decode_rlimits(json, object, spec);
    spec->no_new_privs = json_bool(json, object, "no_new_privs", false);
    spec->has_oom_score_adj = json_get(json, object, "oom_score_adj") >= 0;
    spec->oom_score_adj = (int)json_int(json, object, "oom_score_adj", -1000, 1000, 0);
    decode_scheduling(json, object, spec);
    decode_seccomp(json, object, spec);
}
