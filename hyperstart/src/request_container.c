/* Decoding of NEWCONTAINER. */
#define _GNU_SOURCE
#include <limits.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>

#include "json.h"
#include "request.h"
#include "request_parts.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

const struct namespace_kind namespace_kinds[NS_COUNT] = {
    [NS_PID] = {"pid", "pid", CLONE_NEWPID},
    [NS_MOUNT] = {"mount", "mnt", CLONE_NEWNS},
    [NS_IPC] = {"ipc", "ipc", CLONE_NEWIPC},
    [NS_UTS] = {"uts", "uts", CLONE_NEWUTS},
    [NS_CGROUP] = {"cgroup", "cgroup", CLONE_NEWCGROUP},
    [NS_NETWORK] = {"network", "net", CLONE_NEWNET},
    [NS_TIME] = {"time", "time", CLONE_NEWTIME},
};

static int namespace_by_name(struct json *json, const char *name)
{
    for (int i = 0; i < NS_COUNT; i++)
        if (!strcmp(namespace_kinds[i].name, name))
            return i;
    return fail(json->failure, FAIL_BAD_REQUEST, "unknown namespace \"%.32s\"", name);
}

char *decode_path(struct json *json, int object, const char *key, int required)
{
    char *path = json_string(json, object, key, required);
    if (path && (path[0] != '/' || strlen(path) >= PATH_MAX))
        fail(json->failure, FAIL_BAD_REQUEST, "%s must be an absolute path", key);
    return path;
}

static char *decode_share_path(struct json *json, int object, const char *key)
{
    char *path = json_string(json, object, key, JSON_OPTIONAL);
    if (path && (path[0] == '/' || strlen(path) >= PATH_MAX || !path_stays_below(path)))
        fail(json->failure, FAIL_BAD_REQUEST, "%s must be a path below the share", key);
    return path;
}

/* An object with `disk` and `fstype`; NULL when it has no `disk`. */
static struct disk_spec *decode_disk(struct json *json, int object, struct disk_spec *spec)
{
    char *address = json_string(json, object, "disk", JSON_OPTIONAL);
    if (!address)
        return NULL;
    if (!spec)
        spec = arena_alloc(json->arena, sizeof *spec);
    if (!parse_disk_address(address, &spec->at))
        fail(json->failure, FAIL_BAD_REQUEST, "disk must be TARGET:LUN");
    spec->fstype = json_string(json, object, "fstype", JSON_REQUIRED);
    spec->data = json_string(json, object, "data", JSON_OPTIONAL);
    return spec;
}

static void decode_lower(struct json *json, int rootfs, struct rootfs_spec *spec)
{
    int array = json_array(json, rootfs, "lower", &spec->lower_count);
    if (array < 0 || spec->lower_count < 1 || spec->lower_count > 500) {
        fail(json->failure, FAIL_BAD_REQUEST, "rootfs.lower must name 1 to 500 disks");
        return;
    }
    spec->lower = arena_array(json->arena, spec->lower_count, sizeof *spec->lower);
    int item = json_first(json, array);
    for (size_t i = 0; i < spec->lower_count && !json->failure->code; i++) {
        if (!decode_disk(json, item, &spec->lower[i]))
            fail(json->failure, FAIL_BAD_REQUEST, "disk is missing in rootfs.lower");
        item = json_after(json, item);
    }
}

static void decode_rootfs(struct json *json, struct rootfs_spec *spec)
{
    int rootfs = json_object(json, 0, "rootfs");
    char *kind = json_string(json, rootfs, "kind", JSON_OPTIONAL);
    if (!kind) {
        fail(json->failure, FAIL_BAD_REQUEST, "rootfs.kind is missing");
    } else if (!strcmp(kind, "overlay")) {
        spec->kind = ROOTFS_OVERLAY;
        decode_lower(json, rootfs, spec);
        int upper = json_object(json, rootfs, "upper");
        spec->upper = upper < 0 ? NULL : decode_disk(json, upper, NULL);
    } else if (!strcmp(kind, "share")) {
        spec->kind = ROOTFS_SHARE;
        spec->share_path = decode_share_path(json, rootfs, "path");
        if (!spec->share_path)
            fail(json->failure, FAIL_BAD_REQUEST, "rootfs.path is missing");
    } else if (!strcmp(kind, "disk")) {
        spec->kind = ROOTFS_DISK;
        spec->upper = decode_disk(json, rootfs, NULL);
        if (!spec->upper)
            fail(json->failure, FAIL_BAD_REQUEST, "rootfs.disk is missing");
    } else {
        fail(json->failure, FAIL_BAD_REQUEST, "unknown rootfs.kind \"%.32s\"", kind);
    }
}

static void decode_namespaces(struct json *json, struct container_spec *spec)
{
    size_t count;
    char **names = json_strings(json, 0, "namespaces", &count);
    for (size_t i = 0; i < count && !json->failure->code; i++) {
        int kind = namespace_by_name(json, names[i]);
        if (kind >= 0)
            spec->unshare |= namespace_kinds[kind].flag;
    }
    struct pairs join = {0};
    decode_pairs(json, 0, "join", &join);
    for (size_t i = 0; i < join.count && !json->failure->code; i++) {
        int kind = namespace_by_name(json, join.items[i].name);
        if (kind < 0)
            return;
        if (!valid_id(join.items[i].value))
            fail(json->failure, FAIL_BAD_REQUEST, "join names no valid container");
        else if (kind == NS_MOUNT || spec->unshare & namespace_kinds[kind].flag)
            fail(json->failure, FAIL_BAD_REQUEST, "the %s namespace can't be joined",
                 namespace_kinds[kind].name);
        spec->join[kind] = join.items[i].value;
    }
    if (!(spec->unshare & CLONE_NEWNS))
        fail(json->failure, FAIL_BAD_REQUEST, "namespaces must contain mount");
}

static void decode_mount(struct json *json, int item, struct mount_spec *mount)
{
    mount->target = decode_path(json, item, "target", JSON_REQUIRED);
    mount->flags = (unsigned long)json_int(json, item, "flags", 0, INT32_MAX, 0);
    mount->propagation = (unsigned long)json_int(json, item, "propagation", 0, INT32_MAX, 0);
    mount->data = json_string(json, item, "data", JSON_OPTIONAL);
    mount->share = decode_share_path(json, item, "share");
    mount->disk = decode_disk(json, item, NULL);
    mount->disk_path = decode_share_path(json, item, "path");
    mount->fstype = json_string(json, item, "fstype", JSON_OPTIONAL);
    mount->source = json_string(json, item, "source", JSON_OPTIONAL);
    mount->copy_up = json_bool(json, item, "copy_up", false);
    size_t count;
    int attributes = json_array(json, item, "attributes", &count);
    if (attributes >= 0 && count != 2) {
        fail(json->failure, FAIL_BAD_REQUEST, "attributes must be [set, cleared]");
    } else if (attributes >= 0) {
        int set = json_first(json, attributes);
        mount->set_attributes =
            (uint64_t)json_int_value(json, set, "attributes", 0, INT32_MAX);
        mount->clear_attributes = (uint64_t)json_int_value(json, json_after(json, set),
                                                           "attributes", 0, INT32_MAX);
    }
    if (!mount->share && !mount->disk && !mount->fstype)
        fail(json->failure, FAIL_BAD_REQUEST, "mount of %s has no share, disk or fstype",
             mount->target);
}

static void decode_content(struct json *json, int item, struct file_spec *file)
{
    char *encoding = json_string(json, item, "encoding", JSON_OPTIONAL);
    char *text = json_string(json, item, "content", JSON_REQUIRED);
    if (!text)
        return;
    file->content = (const uint8_t *)text;
    file->size = strlen(text);
    if (!encoding || !strcmp(encoding, "raw"))
        return;
    uint8_t *decoded = arena_alloc(json->arena, file->size / 4 * 3 + 4);
    int64_t size = strcmp(encoding, "base64") ? -1 : base64_decode(text, file->size, decoded);
    if (size < 0)
        fail(json->failure, FAIL_BAD_REQUEST, "content of a file must be raw or base64");
    file->content = decoded;
    file->size = size < 0 ? 0 : (size_t)size;
}

static void decode_file(struct json *json, int item, struct file_spec *file)
{
    file->path = decode_path(json, item, "path", JSON_REQUIRED);
    file->user = json_string(json, item, "user", JSON_OPTIONAL);
    decode_content(json, item, file);
    file->mode = (mode_t)json_int(json, item, "mode", 0, 07777, 0644);
}

static void decode_device(struct json *json, int item, struct device_spec *device)
{
    device->path = decode_path(json, item, "path", JSON_REQUIRED);
    char *type = json_string(json, item, "type", JSON_REQUIRED);
    if (!type || strlen(type) != 1 || !strchr("cubp", type[0])) {
        fail(json->failure, FAIL_BAD_REQUEST, "type of a device must be c, b or p");
        return;
    }
    device->major = (unsigned)json_int(json, item, "major", 0, 4095, 0);
    device->minor = (unsigned)json_int(json, item, "minor", 0, 1048575, 0);
    device->mode = (mode_t)json_int(json, item, "mode", 0, 0777, 0666);
    device->mode |= type[0] == 'b' ? S_IFBLK : type[0] == 'p' ? S_IFIFO : S_IFCHR;
    device->uid = (uid_t)json_int(json, item, "uid", 0, UINT32_MAX - 1, 0);
    device->gid = (gid_t)json_int(json, item, "gid", 0, UINT32_MAX - 1, 0);
}

static void decode_time_offset(struct json *json, int item, struct time_offset *offset)
{
    int at = json_first(json, item);
    if (at < 0 || json_pairs(json, item) != 3) {
        fail(json->failure, FAIL_BAD_REQUEST, "a time offset must be [clock, s, ns]");
        return;
    }
    offset->clock = (int)json_int_value(json, at, "clock", 0, 16);
    at = json_after(json, at);
    offset->seconds = json_int_value(json, at, "seconds", -(INT64_C(1) << 40), INT64_C(1) << 40);
    offset->nanoseconds =
        json_int_value(json, json_after(json, at), "nanoseconds", 0, 999999999);
}

uint8_t *decode_instructions(struct json *json, int object, const char *key, int most,
                             size_t *size)
{
    char *text = json_string(json, object, key, JSON_OPTIONAL);
    if (!text)
        return NULL;
    size_t length = strlen(text);
    uint8_t *code = arena_alloc(json->arena, length / 4 * 3 + 4);
    int64_t decoded = base64_decode(text, length, code);
    if (decoded < 8 || decoded % 8 || decoded > 8 * most)
        fail(json->failure, FAIL_BAD_REQUEST, "%s must be base64 of 1 to %d instructions", key,
             most);
    *size = decoded < 0 ? 0 : (size_t)decoded;
    return code;
}

void decode_device_rules(struct json *json, int object, struct device_rules *rules)
{
    rules->code = decode_instructions(json, object, "device_rules", 16384, &rules->size);
}

/* Decode the items of the array `key` with FUNCTION into the array ITEMS. */
#define DECODE_LIST(json, key, items, count, function)                               \
    do {                                                                             \
        int list_ = json_array(json, 0, key, &(count));                              \
        (items) = arena_array((json)->arena, (count), sizeof *(items));              \
        int item_ = list_ < 0 ? -1 : json_first(json, list_);                        \
        for (size_t i_ = 0; i_ < (count) && !(json)->failure->code; i_++) {          \
            function(json, item_, &(items)[i_]);                                     \
            item_ = json_after(json, item_);                                         \
        }                                                                            \
    } while (0)

void decode_container(struct json *json, struct container_spec *spec)
{
    spec->id = decode_id(json, 0, "id");
    decode_rootfs(json, &spec->rootfs);
    spec->readonly = json_bool(json, 0, "readonly", false);
    spec->hostname = json_string(json, 0, "hostname", JSON_OPTIONAL);
    spec->domainname = json_string(json, 0, "domainname", JSON_OPTIONAL);
    decode_namespaces(json, spec);
    spec->propagation = (unsigned long)json_int(json, 0, "propagation", 0, INT32_MAX, 0);
    DECODE_LIST(json, "mounts", spec->mounts, spec->mounts_count, decode_mount);
    DECODE_LIST(json, "files", spec->files, spec->files_count, decode_file);
    DECODE_LIST(json, "devices", spec->devices, spec->devices_count, decode_device);
    spec->masked = json_strings(json, 0, "masked", &spec->masked_count);
    spec->readonly_paths = json_strings(json, 0, "readonly_paths", &spec->readonly_count);
    decode_pairs(json, 0, "sysctl", &spec->sysctl);
    for (size_t i = 0; i < spec->sysctl.count && !json->failure->code; i++)
        if (!path_stays_below(spec->sysctl.items[i].name))
            fail(json->failure, FAIL_BAD_REQUEST, "bad name of a sysctl");
    decode_cgroup(json, 0, &spec->cgroup);
    decode_device_rules(json, 0, &spec->device_rules);
    DECODE_LIST(json, "time_offsets", spec->time_offsets, spec->time_offsets_count,
                decode_time_offset);
    int process = json_object(json, 0, "process");
    if (process < 0)
        fail(json->failure, FAIL_BAD_REQUEST, "process is missing");
    decode_process(json, process, &spec->process);
    if (spec->process.archive || spec->process.connect)
        fail(json->failure, FAIL_BAD_REQUEST, "archive and connect are for EXECCMD");
    if (spec->process.id && strcmp(spec->process.id, INIT_PROCESS) != 0)
        fail(json->failure, FAIL_BAD_REQUEST, "the first process of a container is called init");
}

/* A UUID as the kernel writes its own. */
static bool is_uuid(const char *text)
{
    return strlen(text) == 36 && strspn(text, "0123456789abcdef-") == 36;
}

void decode_renewal(struct json *json, struct renewal_spec *spec)
{
    spec->hostname = json_string(json, 0, "hostname", JSON_OPTIONAL);
    spec->machine_id = decode_machine_id(json);
    spec->boot_id = json_string(json, 0, "boot_id", JSON_OPTIONAL);
    if (spec->boot_id && !is_uuid(spec->boot_id))
        fail(json->failure, FAIL_BAD_REQUEST, "boot_id must be a UUID");
    DECODE_LIST(json, "files", spec->files, spec->files_count, decode_file);
}
