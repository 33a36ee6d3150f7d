#define _GNU_SOURCE
#include "device_program.h"

#include <errno.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "memory.h"

#define KEPT 4

static struct kept {
    struct device_rules rules;
    int program;
} kept[KEPT];
static unsigned next;

static int bpf(int command, union bpf_attr *attributes)
{
    return (int)syscall(SYS_bpf, command, attributes, sizeof *attributes);
}

int device_program_load(const struct device_rules *rules)
{
    union bpf_attr load = {.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
                           .insns = (uint64_t)(uintptr_t)rules->code,
                           .insn_cnt = (uint32_t)(rules->size / sizeof(struct bpf_insn)),
                           .license = (uint64_t)(uintptr_t) "GPL"};
    return bpf(BPF_PROG_LOAD, &load);
}

int device_program_kept(const struct device_rules *rules)
{
    for (unsigned i = 0; i < KEPT; i++)
        if (kept[i].rules.size == rules->size &&
            !memcmp(kept[i].rules.code, rules->code, rules->size))
            return kept[i].program;
    int program = device_program_load(rules);
    if (program < 0)
        return -1;
    struct kept *place = &kept[next++ % KEPT];
    if (place->rules.code) {
        free(place->rules.code);
        close(place->program);
    }
    place->rules.code = allocate(rules->size);
    memcpy(place->rules.code, rules->code, rules->size);
    place->rules.size = rules->size;
    place->program = program;
    return program;
}

/* The id of the program of a group that decides on devices; 0 without one. */
static uint32_t attached(int group)
{
    uint32_t id = 0;
    union bpf_attr query = {.query = {.target_fd = (uint32_t)group,
                                      .attach_type = BPF_CGROUP_DEVICE,
                                      .prog_ids = (uint64_t)(uintptr_t)&id,
                                      .prog_cnt = 1}};
    return bpf(BPF_PROG_QUERY, &query) < 0 ? 0 : id;
}

static void detach(int group, uint32_t id)
{
    union bpf_attr get = {.prog_id = id};
    int program = bpf(BPF_PROG_GET_FD_BY_ID, &get);
    union bpf_attr detach = {.target_fd = (uint32_t)group,
                             .attach_bpf_fd = (uint32_t)program,
                             .attach_type = BPF_CGROUP_DEVICE};
    if (program >= 0) {
        bpf(BPF_PROG_DETACH, &detach);
        close(program);
    }
}

int device_program_attach(int program, int group)
{
    uint32_t former = attached(group);
    /* Groups below, which a container may make, can have further programs. */
    union bpf_attr attach = {.target_fd = (uint32_t)group,
                             .attach_bpf_fd = (uint32_t)program,
                             .attach_type = BPF_CGROUP_DEVICE,
                             .attach_flags = BPF_F_ALLOW_MULTI};
    if (bpf(BPF_PROG_ATTACH, &attach) < 0)
        return -1;
    if (former)
        detach(group, former);
    return 0;
}
