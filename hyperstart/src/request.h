/* A request of the host, decoded. Decoding is pure and complete: what is
 * executed later is known to be well-formed (types, bounds, names, paths). */
#ifndef HYPER_REQUEST_H
#define HYPER_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "failure.h"
#include "memory.h"

enum message_code {
    STARTPOD = 1,
    DESTROYPOD = 4,
    EXECCMD = 6,
    READY = 8,
    ACK = 9,
    ERROR = 10,
    WINSIZE = 11,
    PING = 12,
    NEWCONTAINER = 17,
    KILLCONTAINER = 18,
    ONLINECPUMEM = 19,
    SETUPINTERFACE = 20,
    SETUPROUTE = 21,
    REMOVECONTAINER = 22,
    PROCESSEVENT = 23,
    SIGNALPROCESS = 24,
    DELETEINTERFACE = 25,
    STARTCONTAINER = 26,
    LISTPROCESSES = 27,
    UPDATECONTAINER = 28,
    FREEZECONTAINER = 29,
    STATS = 30,
    SETTIME = 31,
    SETSERVICES = 32,
    RENEWCONTAINER = 33,
    LINEGRANT = 34,
};

#define ID_MAX 128
#define INIT_PROCESS "init"

struct pair {
    char *name, *value;
};

struct pairs {
    struct pair *items;
    size_t count;
};

struct disk_address {
    int target, lun;
};

struct disk_spec {
    struct disk_address at;
    char *fstype, *data;
};

enum rootfs_kind { ROOTFS_OVERLAY, ROOTFS_SHARE, ROOTFS_DISK };

struct rootfs_spec {
    enum rootfs_kind kind;
    struct disk_spec *lower; /* top layer first */
    size_t lower_count;
    struct disk_spec *upper; /* the overlay's (NULL: tmpfs) or the root disk */
    char *share_path;
};

struct mount_spec {
    char *share;            /* a bind of this path of the share, */
    struct disk_spec *disk; /* or a disk, */
    char *disk_path;        /* of which this directory is taken, if not NULL */
    char *source, *fstype;  /* or a file system */
    char *target, *data;
    unsigned long flags, propagation;
    uint64_t set_attributes, clear_attributes; /* of mount_setattr(2), recursively */
    bool copy_up; /* a tmpfs, or an empty directory, that starts with what it covers */
};

struct file_spec {
    char *path, *user; /* user: USER[:GROUP], NULL for root */
    const uint8_t *content;
    size_t size;
    mode_t mode;
};

struct device_spec {
    char *path;
    mode_t mode; /* with the type */
    unsigned major, minor;
    uid_t uid;
    gid_t gid;
};

struct capability_sets {
    uint64_t bounding, effective, permitted, inheritable, ambient;
};

struct rlimit_spec {
    int resource;
    int64_t soft, hard; /* -1: infinity */
};

/* struct sched_attr, which only some C libraries know. */
struct scheduler_spec {
    uint32_t policy;
    int32_t nice;
    uint32_t priority;
    uint64_t flags, runtime, deadline, period;
};

enum archive_op { ARCHIVE_STAT, ARCHIVE_GET, ARCHIVE_PUT, ARCHIVE_UPPER, ARCHIVE_CHANGES };

/* Files of a container, read or written by hyperstart itself. */
struct archive_spec {
    enum archive_op op;
    char *path;       /* in the container */
    bool follow;      /* a symlink at its end too */
    bool rootfs_only; /* without what is mounted below it */
};

struct process_spec {
    struct archive_spec *archive; /* instead of a program */
    uint16_t connect;             /* likewise: a port of the loopback; 0: none */
    bool idle;                    /* no program: it waits until it is killed */
    char *id, **args, **env, *cwd;
    size_t args_count, env_count;
    char *user_name; /* NULL: uid and gid count */
    uid_t uid;
    gid_t gid;
    char **groups; /* names or numbers */
    size_t groups_count;
    mode_t umask;
    bool terminal, has_stdin;
    unsigned short rows, cols;
    uint32_t stdio, stderr_stream; /* 0: none */
    struct capability_sets capabilities;
    struct rlimit_spec *rlimits;
    size_t rlimits_count;
    bool no_new_privs, has_oom_score_adj, has_scheduler, has_personality;
    int oom_score_adj, io_priority; /* io_priority 0: unchanged */
    struct scheduler_spec scheduler;
    unsigned long personality;
    uint8_t *seccomp;
    size_t seccomp_size;
    unsigned seccomp_flags;
};

/* The kinds of namespace, in the order of `namespace_kinds`. */
enum { NS_PID, NS_MOUNT, NS_IPC, NS_UTS, NS_CGROUP, NS_NETWORK, NS_TIME, NS_COUNT };
struct namespace_kind {
    const char *name, *file; /* file: under /proc/PID/ns */
    int flag;
};
extern const struct namespace_kind namespace_kinds[NS_COUNT];

struct time_offset {
    int clock;
    int64_t seconds, nanoseconds;
};

/* Instructions of a BPF program of the kind BPF_PROG_TYPE_CGROUP_DEVICE. */
struct device_rules {
    uint8_t *code; /* NULL: none */
    size_t size;
};

struct container_spec {
    char *id;
    struct rootfs_spec rootfs;
    bool readonly;
    char *hostname, *domainname;
    int unshare;          /* CLONE_NEW* */
    char *join[NS_COUNT]; /* container whose namespace is shared */
    unsigned long propagation;
    struct mount_spec *mounts;
    size_t mounts_count;
    struct file_spec *files;
    size_t files_count;
    struct device_spec *devices;
    size_t devices_count;
    char **masked, **readonly_paths;
    size_t masked_count, readonly_count;
    struct pairs sysctl, cgroup;
    struct device_rules device_rules;
    struct time_offset *time_offsets;
    size_t time_offsets_count;
    struct process_spec process;
};

/* What a container of a VM that goes on as another has of its own; NULL: as it is. */
struct renewal_spec {
    char *hostname, *machine_id, *boot_id;
    struct file_spec *files; /* new contents */
    size_t files_count;
};

struct pod_spec {
    char *hostname, *domainname, *machine_id;
    bool has_time;
    int64_t seconds, nanoseconds;
    uint8_t entropy[512];
    size_t entropy_size;
    char *share_tag, *share_fstype, *share_options; /* tag NULL: no share */
};

struct interface_spec {
    char *device, *mac, *name, *new_mac;
    unsigned mtu; /* 0: unchanged */
    char **addresses, **neighbours;
    size_t addresses_count, neighbours_count;
    bool up;
};

struct route_spec {
    char *destination, *gateway, *device;
};

struct socket_address {
    uint32_t address; /* IPv4, in network order */
    uint16_t port;    /* in host order */
};

struct service_spec {
    struct socket_address at, *backends;
    size_t backends_count;
    bool udp;
};

struct request {
    uint32_t code;
    uint64_t seq; /* 0: unknown, the message can't even be answered */
    struct arena arena;
    char *container, *process; /* of the requests that name them */
    int signal;
    unsigned short rows, cols;
    bool frozen;
    unsigned cpus; /* ONLINECPUMEM: 0 for memory */
    struct device_rules device_rules; /* UPDATECONTAINER */
    union {
        struct pod_spec pod; /* STARTPOD, SETTIME */
        struct container_spec new_container;
        struct process_spec exec;
        struct interface_spec interface; /* SETUPINTERFACE, DELETEINTERFACE */
        struct {
            struct route_spec *items;
            size_t count;
        } routes;
        struct {
            struct service_spec *items;
            size_t count;
        } services;
        struct renewal_spec renewal; /* RENEWCONTAINER */
        struct pairs cgroup; /* UPDATECONTAINER */
    };
};

/* Returns 0, or -1 with a failure. `request` is to be freed in either case. */
int request_decode(struct request *request, uint32_t code, const char *json, size_t size,
                   struct failure *failure);
void request_free(struct request *request);

/* The header of a record that is put into a container (archive.h). */
enum { ENTRY_XATTRS_MAX = 64 };
struct entry_xattr {
    char *name;
    uint8_t *value;
    size_t size;
};
struct entry_spec {
    char *path, *target; /* target of a symlink, or of a hard link */
    char type;           /* f, d, l, h, c, b or p */
    mode_t mode;
    uid_t uid;
    gid_t gid;
    int64_t size, seconds, nanoseconds;
    unsigned major, minor;
    struct entry_xattr xattrs[ENTRY_XATTRS_MAX];
    size_t xattrs_count;
};
int entry_decode(struct entry_spec *entry, struct arena *arena, const char *json, size_t size,
                 struct failure *failure);

/* Pieces of it, for the tests. */
bool valid_id(const char *id);
bool valid_cgroup_file(const char *name);
bool parse_disk_address(const char *text, struct disk_address *address);
bool parse_hex64(const char *text, uint64_t *value);
bool path_stays_below(const char *path); /* relative or absolute, no ".." component */

#endif
