/*
 * QEMU fills in tables for each type of device, machine and processor that it knows when it looks for
 * the one machine that it is to be: some 700, of which a VM uses 100. That took 1.6 MB of each VM,
 * and 7 ms of its start. What a look through all types of a kind asks for is decided by the
 * table itself, so those that can't be of the kind, by their names, are left out; a type that is
 * needed later is filled in then.
 *
 * The library is preloaded, so that QEMU calls this instead of GLib's function, for its own table of
 * types (qom/object.c of QEMU, object_class_foreach).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "giveback.h"

#define EXPORT __attribute__((visibility("default")))
/* Longer than each of QEMU's two functions that go through the table. */
#define LONGEST 400

typedef void visit(void *name, void *type, void *data);
typedef void walk(void *table, visit *call, void *data);

EXPORT walk g_hash_table_foreach;

/* What QEMU's visitor of the table gets (OCFData). */
struct wanted {
    void (*call)(void *class, void *data);
    const char *kind;
    bool abstract_too;
    void *data;
};

struct part {
    visit *call;
    struct wanted *wanted;
};

/* The argument of QEMU's option -cpu, and how long the model's name in it is. */
static const char *cpu = "";
static size_t cpu_length;

__attribute__((constructor)) static void read_arguments(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i++)
        if (!strcmp(argv[i], "-cpu"))
            cpu = argv[i + 1];
    cpu_length = strcspn(cpu, ",");
}

static bool ends_with(const char *name, const char *end)
{
    size_t length = strlen(name), wanted = strlen(end);
    return length >= wanted && !strcmp(name + length - wanted, end);
}

/* Machines are named NAME-machine, processors MODEL-KIND. */
static void visit_possible(void *name, void *type, void *data)
{
    const struct part *part = data;
    const char *kind = part->wanted->kind;
    if (!ends_with(name, kind))
        return;
    const char *rest = (char *)name + cpu_length;
    if (strcmp(kind, "machine") && cpu_length &&
        (strncmp(name, cpu, cpu_length) || *rest != '-' || strcmp(rest + 1, kind)))
        return;
    part->call(name, type, part->wanted);
}

/* Whether the caller is one of QEMU's two functions that go through the table of types. */
static bool is_of_types(const char *caller)
{
    static const char *const names[] = {"object_class_foreach", "object_class_get_list"};
    for (int i = 0; i < 2; i++) {
        const char *function = dlsym(RTLD_DEFAULT, names[i]);
        if (function && caller > function && caller < function + LONGEST)
            return true;
    }
    return false;
}

EXPORT void g_hash_table_foreach(void *table, visit *call, void *data)
{
    static walk *real;
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "g_hash_table_foreach");
    struct part part = {call, data};
    if (is_of_types(__builtin_return_address(0)) && part.wanted->kind &&
        (!strcmp(part.wanted->kind, "machine") || ends_with(part.wanted->kind, "-cpu")))
        real(table, visit_possible, &part);
    else
        real(table, call, data);
}
