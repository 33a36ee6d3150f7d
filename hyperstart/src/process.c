#define _GNU_SOURCE
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "memory.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static const char *get_env(char *const *env, const char *name)
{
    size_t length = strlen(name);
    for (; *env; env++)
        if (!strncmp(*env, name, length) && (*env)[length] == '=')
            return *env + length + 1;
    return NULL;
}

/* The environment, with HOME from passwd when it has none. */
static char **complete_env(const struct process_spec *spec, const char *home)
{
    char **env = allocate((spec->env_count + 2) * sizeof *env);
    memcpy(env, spec->env, spec->env_count * sizeof *env);
    if (!get_env(env, "HOME")) {
        size_t size = strlen(home) + sizeof "HOME=";
        env[spec->env_count] = allocate(size);
        snprintf(env[spec->env_count], size, "HOME=%s", home);
    }
    return env;
}

/* 0, or the errno for which it can't be executed. What can is held open, the symlink and what it
 * leads to, until the program runs: on a share, whose names are asked for at each use unless they
 * are in use, executing it takes half as many round trips to the host then. */
static int check_executable(const char *path)
{
    struct stat st;
    int name = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    int file = name < 0 ? -1 : open(path, O_PATH | O_CLOEXEC);
    int number = file < 0 || fstat(file, &st) < 0 ? errno : 0;
    if (!number && !(S_ISREG(st.st_mode) && st.st_mode & 0111))
        number = EACCES;
    if (number && file >= 0)
        close(file);
    if (number && name >= 0)
        close(name);
    return number;
}

static int program_error(const char *name, int number, struct failure *failure)
{
    bool absent = number == ENOENT || number == ENOTDIR;
    return fail(failure, absent ? FAIL_NOT_FOUND : FAIL_NOT_EXECUTABLE, "exec: \"%s\": %s", name,
                error_text(number));
}

/* Whether a directory of PATH may be there. It stays open too: its parents are those of others. */
static bool hold_directory(const char *name, size_t length)
{
    char path[PATH_MAX];
    if (!length)
        return true;
    snprintf(path, sizeof path, "%.*s", (int)length, name);
    return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC) >= 0 ||
           (errno != ENOENT && errno != ENOTDIR);
}

static int find_in_path(const char *name, const char *search, char *path, struct failure *failure)
{
    while (search) {
        size_t length = strcspn(search, ":");
        int size = snprintf(path, PATH_MAX, "%.*s%s%s", (int)length, search, length ? "/" : "",
                            name);
        if (*name && size < PATH_MAX && hold_directory(search, length) &&
            !check_executable(path))
            return 0;
        search = search[length] ? search + length + 1 : NULL;
    }
    return fail(failure, FAIL_NOT_FOUND, "exec: \"%s\": executable file not found in $PATH", name);
}

static int find_program(const struct process_spec *spec, struct program *program,
                        struct failure *failure)
{
    const char *name = spec->args[0];
    if (!strchr(name, '/')) {
        const char *search = get_env(program->env, "PATH");
        return find_in_path(name, search ? search : DEFAULT_PATH, program->path, failure);
    }
    if (strlen(name) >= PATH_MAX)
        return program_error(name, ENAMETOOLONG, failure);
    strcpy(program->path, name);
    int number = check_executable(name);
    return number ? program_error(name, number, failure) : 0;
}

int process_prepare(const struct process_spec *spec, struct program *program,
                    struct failure *failure)
{
    /* On a share, reading one takes ten round trips to the host. */
    bool named = spec->user_name, homeless = !get_env(spec->env, "HOME");
    char *passwd = named || homeless ? users_read_file("/etc/passwd") : allocate(1);
    char *group = named ? users_read_file("/etc/group") : allocate(1);
    program->identity.uid = spec->uid;
    program->identity.gid = spec->gid;
    int result = users_resolve(&program->identity, spec->user_name, spec->groups,
                               spec->groups_count, passwd, group, failure);
    free(passwd);
    free(group);
    if (result < 0)
        return -1;
    program->env = complete_env(spec, program->identity.home);
    if (chdir(spec->cwd) < 0)
        return fail_errno(failure, "chdir to the working directory %s", spec->cwd);
    return find_program(spec, program, failure);
}

/* The defaults of systemd for what the main process has raised for itself. */
static int set_rlimits(const struct process_spec *spec, struct failure *failure)
{
    struct rlimit files = {.rlim_cur = 1024, .rlim_max = 524288};
    setrlimit(RLIMIT_NOFILE, &files);
    for (size_t i = 0; i < spec->rlimits_count; i++) {
        const struct rlimit_spec *from = &spec->rlimits[i];
        struct rlimit limit = {
            .rlim_cur = from->soft < 0 ? RLIM_INFINITY : (rlim_t)from->soft,
            .rlim_max = from->hard < 0 ? RLIM_INFINITY : (rlim_t)from->hard,
        };
        if (setrlimit(from->resource, &limit) < 0)
            return fail_errno(failure, "rlimit %d", from->resource);
    }
    return 0;
}

/* The first part of the kernel's struct sched_attr, which is what all versions have. */
struct sched_attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

static int set_scheduling(const struct process_spec *spec, struct failure *failure)
{
    const struct scheduler_spec *from = &spec->scheduler;
    struct sched_attributes attributes = {
        .size = sizeof attributes,
        .policy = from->policy,
        .flags = from->flags,
        .nice = from->nice,
        .priority = from->priority,
        .runtime = from->runtime,
        .deadline = from->deadline,
        .period = from->period,
    };
    if (spec->has_scheduler && syscall(SYS_sched_setattr, 0, &attributes, 0) < 0)
        return fail_errno(failure, "scheduler");
    if (spec->io_priority && syscall(SYS_ioprio_set, 1 /* a process */, 0, spec->io_priority) < 0)
        return fail_errno(failure, "I/O priority");
    if (spec->has_personality && personality(spec->personality) < 0)
        return fail_errno(failure, "personality");
    return 0;
}

static int set_seccomp(const struct process_spec *spec, struct failure *failure)
{
    struct sock_fprog filter = {
        .len = (unsigned short)(spec->seccomp_size / sizeof(struct sock_filter)),
        .filter = (struct sock_filter *)(void *)spec->seccomp,
    };
    if (spec->seccomp &&
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, spec->seccomp_flags, &filter) < 0)
        return fail_errno(failure, "seccomp");
    return 0;
}

static int drop_bounding(uint64_t keep, struct failure *failure)
{
    for (int cap = 0; cap < 64; cap++) {
        if (keep >> cap & 1 || !prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
            continue;
        if (errno == EINVAL) /* it is above the kernel's last */
            break;
        return fail_errno(failure, "capability bounding set");
    }
    return 0;
}

static int set_user(const struct identity *identity, struct failure *failure)
{
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
        return fail_errno(failure, "keepcaps");
    if (setgroups(identity->groups_count, identity->groups) < 0)
        return fail_errno(failure, "setgroups");
    if (setresgid(identity->gid, identity->gid, identity->gid) < 0)
        return fail_errno(failure, "setgid %u", identity->gid);
    if (setresuid(identity->uid, identity->uid, identity->uid) < 0)
        return fail_errno(failure, "setuid %u", identity->uid);
    if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0)
        return fail_errno(failure, "keepcaps");
    return 0;
}

static int set_capabilities(const struct capability_sets *sets, struct failure *failure)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) < 0)
        return fail_errno(failure, "capget");
    uint64_t have = data[0].permitted | (uint64_t)data[1].permitted << 32;
    uint64_t permitted = sets->permitted & have;
    uint64_t effective = sets->effective & permitted;
    uint64_t inheritable = sets->inheritable & sets->bounding & have;
    for (int i = 0; i < 2; i++) {
        data[i].permitted = (uint32_t)(permitted >> 32 * i);
        data[i].effective = (uint32_t)(effective >> 32 * i);
        data[i].inheritable = (uint32_t)(inheritable >> 32 * i);
    }
    if (syscall(SYS_capset, &header, data) < 0)
        return fail_errno(failure, "capset");
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    uint64_t ambient = sets->ambient & permitted & inheritable;
    for (int cap = 0; cap < 64; cap++)
        if (ambient >> cap & 1 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
            return fail_errno(failure, "ambient capability %d", cap);
    return 0;
}

/* A filter without no_new_privs needs a privilege, so it comes before the
 * capabilities go; with it, as late as possible. */
int process_confine(const struct process_spec *spec, const struct program *program,
                    struct failure *failure)
{
    if (set_rlimits(spec, failure) < 0 || set_scheduling(spec, failure) < 0)
        return -1;
    if (!spec->no_new_privs && set_seccomp(spec, failure) < 0)
        return -1;
    if (drop_bounding(spec->capabilities.bounding, failure) < 0 ||
        set_user(&program->identity, failure) < 0 ||
        set_capabilities(&spec->capabilities, failure) < 0)
        return -1;
    umask(spec->umask);
    if (!spec->no_new_privs)
        return 0;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return fail_errno(failure, "no_new_privs");
    return set_seccomp(spec, failure);
}

int process_execute(const struct process_spec *spec, const struct program *program,
                    struct failure *failure)
{
    execve(program->path, spec->args, program->env);
    return program_error(spec->args[0], errno, failure);
}
