#include "request.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "request_parts.h"

#define MAX_CPUS 4096

bool valid_id(const char *id)
{
    size_t length = strlen(id);
    return length >= 1 && length <= ID_MAX && id[0] != '.' &&
           strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") == length;
}

bool valid_cgroup_file(const char *name)
{
    size_t length = strlen(name);
    return length >= 1 && length <= 64 && name[0] != '.' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.") ==
               length;
}

bool parse_hex64(const char *text, uint64_t *value)
{
    size_t length = strlen(text);
    if (length < 1 || length > 16 || strspn(text, "0123456789abcdefABCDEF") != length)
        return false;
    *value = strtoull(text, NULL, 16);
    return true;
}

bool parse_disk_address(const char *text, struct disk_address *address)
{
    const char *colon = strchr(text, ':');
    size_t before = colon ? (size_t)(colon - text) : 0;
    if (before < 1 || before > 5 || strspn(text, "0123456789") != before)
        return false;
    size_t after = strlen(colon + 1);
    if (after < 1 || after > 5 || strspn(colon + 1, "0123456789") != after)
        return false;
    address->target = atoi(text);
    address->lun = atoi(colon + 1);
    return address->target < 256 && address->lun < 16384;
}

bool path_stays_below(const char *path)
{
    for (const char *at = path; *at;) {
        size_t length = strcspn(at, "/");
        if (length == 2 && at[0] == '.' && at[1] == '.')
            return false;
        at += length;
        at += strspn(at, "/");
    }
    return true;
}

char *decode_id(struct json *json, int object, const char *key)
{
    char *id = json_string(json, object, key, JSON_REQUIRED);
    if (id && !valid_id(id))
        fail(json->failure, FAIL_BAD_REQUEST, "%s is not a valid identifier", key);
    return id;
}

void decode_pairs(struct json *json, int object, const char *key, struct pairs *pairs)
{
    int value = json_object(json, object, key);
    size_t count = json_pairs(json, value);
    pairs->items = arena_array(json->arena, count, sizeof *pairs->items);
    for (int name = value + 1; pairs->count < count && !json->failure->code; pairs->count++) {
        pairs->items[pairs->count].name = json_text(json, name, key);
        pairs->items[pairs->count].value = json_text(json, name + 1, key);
        name = json_after(json, name + 1);
    }
}

void decode_cgroup(struct json *json, int object, struct pairs *pairs)
{
    decode_pairs(json, object, "cgroup", pairs);
    for (size_t i = 0; i < pairs->count && !json->failure->code; i++) {
        if (!valid_cgroup_file(pairs->items[i].name))
            fail(json->failure, FAIL_BAD_REQUEST, "bad name of a cgroup file");
        else if (strlen(pairs->items[i].value) > 4096)
            fail(json->failure, FAIL_BAD_REQUEST, "value of %s is too long",
                 pairs->items[i].name);
    }
}

static void decode_entropy(struct json *json, struct pod_spec *spec)
{
    char *text = json_string(json, 0, "entropy", JSON_OPTIONAL);
    if (!text)
        return;
    size_t length = strlen(text);
    int64_t size = -1;
    if (length / 4 * 3 <= sizeof spec->entropy + 2) {
        uint8_t *bytes = arena_alloc(json->arena, length + 4);
        size = base64_decode(text, length, bytes);
        if (size > 0 && (size_t)size <= sizeof spec->entropy)
            memcpy(spec->entropy, bytes, (size_t)size);
    }
    if (size < 0 || (size_t)size > sizeof spec->entropy)
        fail(json->failure, FAIL_BAD_REQUEST, "entropy must be base64 of at most 512 bytes");
    else
        spec->entropy_size = (size_t)size;
}

char *decode_machine_id(struct json *json)
{
    char *id = json_string(json, 0, "machine_id", JSON_OPTIONAL);
    if (id && (strlen(id) != 32 || strspn(id, "0123456789abcdef") != 32))
        fail(json->failure, FAIL_BAD_REQUEST, "machine_id must be 32 hexadecimal digits");
    return id;
}

static void decode_pod(struct json *json, struct pod_spec *spec)
{
    spec->hostname = json_string(json, 0, "hostname", JSON_OPTIONAL);
    spec->domainname = json_string(json, 0, "domainname", JSON_OPTIONAL);
    spec->machine_id = decode_machine_id(json);
    size_t count;
    int time = json_array(json, 0, "time", &count);
    if (time >= 0 && count != 2) {
        fail(json->failure, FAIL_BAD_REQUEST, "time must be [seconds, nanoseconds]");
    } else if (time >= 0) {
        spec->has_time = true;
        int seconds = json_first(json, time);
        spec->seconds = json_int_value(json, seconds, "time", 0, INT64_C(1) << 40);
        spec->nanoseconds =
            json_int_value(json, json_after(json, seconds), "time", 0, 999999999);
    }
    decode_entropy(json, spec);
    int share = json_object(json, 0, "share");
    if (share >= 0) {
        spec->share_tag = json_string(json, share, "tag", JSON_REQUIRED);
        spec->share_fstype = json_string(json, share, "fstype", JSON_REQUIRED);
        spec->share_options = json_string(json, share, "options", JSON_OPTIONAL);
    }
}

static void decode_time(struct json *json, struct pod_spec *spec)
{
    spec->has_time = true;
    spec->seconds = json_int(json, 0, "sec", 0, INT64_C(1) << 40, 0);
    spec->nanoseconds = json_int(json, 0, "nsec", 0, 999999999, 0);
    decode_entropy(json, spec);
}

static void decode_interface(struct json *json, struct interface_spec *spec)
{
    spec->device = json_string(json, 0, "device", JSON_OPTIONAL);
    spec->mac = json_string(json, 0, "mac", JSON_OPTIONAL);
    spec->name = json_string(json, 0, "name", JSON_OPTIONAL);
    spec->new_mac = json_string(json, 0, "newmac", JSON_OPTIONAL);
    spec->mtu = (unsigned)json_int(json, 0, "mtu", 0, 1 << 24, 0);
    spec->addresses = json_strings(json, 0, "addresses", &spec->addresses_count);
    spec->neighbours = json_strings(json, 0, "neighbours", &spec->neighbours_count);
    spec->up = json_bool(json, 0, "up", true);
    if (!spec->device && !spec->mac)
        fail(json->failure, FAIL_BAD_REQUEST, "device or mac is missing");
}

static void decode_routes(struct json *json, struct request *request)
{
    size_t count;
    int array = json_array(json, 0, "routes", &count);
    if (array < 0)
        return;
    request->routes.items =
        arena_array(json->arena, count, sizeof *request->routes.items);
    request->routes.count = count;
    int item = json_first(json, array);
    for (size_t i = 0; i < count && !json->failure->code; i++, item = json_after(json, item)) {
        struct route_spec *route = &request->routes.items[i];
        route->destination = json_string(json, item, "dest", JSON_REQUIRED);
        route->gateway = json_string(json, item, "gateway", JSON_OPTIONAL);
        route->device = json_string(json, item, "device", JSON_REQUIRED);
    }
}

/* Members "ip" and "port". */
static struct socket_address decode_socket_address(struct json *json, int object)
{
    struct socket_address at = {0};
    const char *ip = json_string(json, object, "ip", JSON_REQUIRED);
    at.port = (uint16_t)json_int(json, object, "port", 1, 65535, 0);
    if (ip && inet_pton(AF_INET, ip, &at.address) != 1)
        fail(json->failure, FAIL_BAD_REQUEST, "bad address %.64s", ip);
    else if (!at.port)
        fail(json->failure, FAIL_BAD_REQUEST, "port is missing");
    return at;
}

static void decode_service(struct json *json, int object, struct service_spec *spec)
{
    size_t count;
    spec->at = decode_socket_address(json, object);
    spec->udp = json_bool(json, object, "udp", false);
    int array = json_array(json, object, "backends", &count);
    if (array < 0)
        return;
    spec->backends = arena_array(json->arena, count, sizeof *spec->backends);
    spec->backends_count = count;
    int item = json_first(json, array);
    for (size_t i = 0; i < count && !json->failure->code; i++, item = json_after(json, item))
        spec->backends[i] = decode_socket_address(json, item);
}

static void decode_services(struct json *json, struct request *request)
{
    size_t count;
    int array = json_array(json, 0, "services", &count);
    if (array < 0)
        return;
    request->services.items = arena_array(json->arena, count, sizeof *request->services.items);
    request->services.count = count;
    int item = json_first(json, array);
    for (size_t i = 0; i < count && !json->failure->code; i++, item = json_after(json, item))
        decode_service(json, item, &request->services.items[i]);
}

static void decode_by_code(struct json *json, struct request *request)
{
    switch (request->code) {
    case STARTPOD:
        decode_pod(json, &request->pod);
        break;
    case SETTIME:
        decode_time(json, &request->pod);
        break;
    case NEWCONTAINER:
        decode_container(json, &request->new_container);
        break;
    case EXECCMD: {
        request->container = decode_id(json, 0, "container");
        int process = json_object(json, 0, "process");
        if (process < 0)
            fail(json->failure, FAIL_BAD_REQUEST, "process is missing");
        decode_process(json, process, &request->exec);
        break;
    }
    case WINSIZE:
        request->container = decode_id(json, 0, "container");
        request->process = decode_id(json, 0, "process");
        request->rows = (unsigned short)json_int(json, 0, "rows", 0, 65535, 0);
        request->cols = (unsigned short)json_int(json, 0, "cols", 0, 65535, 0);
        break;
    case SIGNALPROCESS:
        request->process = decode_id(json, 0, "process"); /* fall through */
    case KILLCONTAINER:
        request->container = decode_id(json, 0, "container");
        request->signal = (int)json_int(json, 0, "signal", 0, 64, 15);
        break;
    case FREEZECONTAINER:
        request->container = decode_id(json, 0, "container");
        request->frozen = json_bool(json, 0, "frozen", true);
        break;
    case UPDATECONTAINER:
        request->container = decode_id(json, 0, "container");
        decode_cgroup(json, 0, &request->cgroup);
        decode_device_rules(json, 0, &request->device_rules);
        break;
    case RENEWCONTAINER:
        request->container = decode_id(json, 0, "container");
        decode_renewal(json, &request->renewal);
        break;
    case REMOVECONTAINER:
    case STARTCONTAINER:
    case LISTPROCESSES:
    case STATS:
        request->container = decode_id(json, 0, "container");
        break;
    case SETUPINTERFACE:
    case DELETEINTERFACE:
        decode_interface(json, &request->interface);
        break;
    case SETUPROUTE:
        decode_routes(json, request);
        break;
    case SETSERVICES:
        decode_services(json, request);
        break;
    case ONLINECPUMEM:
        request->cpus = (unsigned)json_int(json, 0, "cpus", 1, MAX_CPUS, 0);
        break;
    case DESTROYPOD:
    case PING:
        break;
    default:
        fail(json->failure, FAIL_UNKNOWN_CODE, "unknown code %u", request->code);
    }
}

int request_decode(struct request *request, uint32_t code, const char *text, size_t size,
                   struct failure *failure)
{
    memset(request, 0, sizeof *request);
    memset(failure, 0, sizeof *failure);
    request->code = code;
    struct json json = {.arena = &request->arena, .failure = failure};
    if (json_parse(&json, size ? text : "{}", size ? size : 2) < 0)
        return -1;
    int64_t seq = json_int(&json, 0, "seq", 1, (INT64_C(1) << 53) - 1, 0);
    if (!failure->code && !seq)
        fail(failure, FAIL_BAD_REQUEST, "seq is missing");
    if (failure->code)
        return -1;
    request->seq = (uint64_t)seq;
    decode_by_code(&json, request);
    return failure->code ? -1 : 0;
}

void request_free(struct request *request)
{
    arena_free(&request->arena);
}
