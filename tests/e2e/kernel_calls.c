/* Tries one thing that no program of busybox does; says what failed. `kernel_calls NAME`. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/inet_diag.h>
#include <linux/io_uring.h>
#include <linux/ip_vs.h>
#include <linux/keyctl.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <linux/sock_diag.h>
#include <linux/vm_sockets.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MUST(what)                                             \
    do {                                                       \
        if (!(what)) {                                         \
            printf("%s: %s\n", #what, strerror(errno));        \
            exit(1);                                           \
        }                                                      \
    } while (0)

static void ipc(void)
{
    mqd_t queue = mq_open("/queue", O_CREAT | O_RDWR, 0600, NULL);
    MUST(queue >= 0 && mq_send(queue, "x", 1, 0) == 0);
    int segment = shmget(IPC_PRIVATE, 4096, 0600);
    MUST(segment >= 0 && shmat(segment, NULL, 0) != (void *)-1);
    aio_context_t context = 0;
    MUST(syscall(SYS_io_setup, 1, &context) == 0);
    char from = 'x', to = 0;
    struct iovec local = {&to, 1}, remote = {&from, 1};
    MUST(process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1 && to == 'x');
}

static void io_uring(void)
{
    struct io_uring_params params = {0};
    MUST(syscall(SYS_io_uring_setup, 4, &params) >= 0);
}

static void programs(void)
{
    MUST(inotify_add_watch(inotify_init(), "/", IN_CREATE) >= 0);
    MUST(fanotify_init(FAN_CLASS_NOTIF, O_RDONLY) >= 0);
    MUST(fcntl(open("/", O_RDONLY), F_NOTIFY, DN_CREATE) == 0);
    MUST(memfd_create("memory", 0) >= 0);
    MUST(syscall(SYS_userfaultfd, O_CLOEXEC) >= 0);
    MUST(syscall(SYS_kcmp, getpid(), getpid(), 0, 0, 0) == 0);
    MUST(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "ours") >= 0);
    union {
        struct file_handle handle;
        char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
    } file = {.handle.handle_bytes = MAX_HANDLE_SZ};
    int mount;
    MUST(name_to_handle_at(AT_FDCWD, "/kept/kernel_calls", &file.handle, &mount, 0) == 0);
    MUST(access("/proc/self/pagemap", F_OK) == 0);
    MUST(access("/proc/self/task/1/children", F_OK) == 0 || getpid() != 1);
    MUST(access("/proc/vmstat", F_OK) == 0);
    MUST(access("/proc/sys/kernel/core_pattern", F_OK) == 0);
    char table[8];
    MUST(syscall(SYS_modify_ldt, 0, table, sizeof table) == 0);
}

/* getpid, by the interface for programs of 32 bits. */
static void ia32(void)
{
    long result = 20;
    __asm__ volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
    MUST(result == getpid());
}

static void cgroups(void)
{
    struct bpf_insn program[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1},
        {.code = BPF_JMP | BPF_EXIT},
    };
    union bpf_attr load = {
        .prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
        .insns = (uintptr_t)program,
        .insn_cnt = 2,
        .license = (uintptr_t)"",
    };
    int loaded = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load);
    MUST(loaded >= 0);
    union bpf_attr attach = {
        .target_fd = (uint32_t)open("/sys/fs/cgroup/group", O_RDONLY),
        .attach_bpf_fd = (uint32_t)loaded,
        .attach_type = BPF_CGROUP_DEVICE,
    };
    MUST(syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach) == 0);
}

static void seccomp(void)
{
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {1, &allow};
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static void huge_pages(void)
{
    size_t size = 2 << 20;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB;
    char *page = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);
    MUST(page != MAP_FAILED);
    *page = 1;
    MUST(madvise(mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), size,
                 MADV_HUGEPAGE) == 0);
}

static void namespaces(void)
{
    MUST(unshare(CLONE_NEWUSER) == 0);
    MUST(unshare(CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWNS |
                 CLONE_NEWCGROUP) == 0);
    MUST(syscall(SYS_unshare, 0x80) == 0); /* CLONE_NEWTIME */
}

static void fuse(void)
{
    int device = open("/dev/fuse", O_RDWR);
    char options[80];
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0", device);
    MUST(device >= 0 && mount("fuse", "/mnt", "fuse", 0, options) == 0);
    MUST(umount2("/mnt", MNT_DETACH) == 0);
}

static void vsock(void)
{
    struct sockaddr_vm any = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = 7};
    int sock = socket(AF_VSOCK, SOCK_STREAM, 0);
    MUST(sock >= 0 && bind(sock, (struct sockaddr *)&any, sizeof any) == 0);
    MUST(listen(sock, 1) == 0);
}

static void ipv6(void)
{
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(7)};
    int sock = socket(AF_INET6, SOCK_STREAM, 0);
    MUST(sock >= 0 && bind(sock, (struct sockaddr *)&any, sizeof any) == 0);
}

static void ask_for_sockets(int family, int protocol)
{
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 request;
    } question = {
        .header = {.nlmsg_len = sizeof question,
                   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .request = {.sdiag_family = (uint8_t)family,
                    .sdiag_protocol = (uint8_t)protocol,
                    .idiag_states = ~0U},
    };
    union {
        struct nlmsghdr header;
        char room[8192];
    } answer = {0};
    int sock = socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);
    MUST(sock >= 0 && send(sock, &question, sizeof question, 0) > 0);
    MUST(recv(sock, &answer, sizeof answer, 0) > 0);
    struct nlmsgerr *error = NLMSG_DATA(&answer.header);
    errno = answer.header.nlmsg_type == NLMSG_ERROR ? -error->error : 0;
    MUST(answer.header.nlmsg_type != NLMSG_ERROR);
}

static void diag(void)
{
    ask_for_sockets(AF_INET, IPPROTO_TCP);
    ask_for_sockets(AF_INET, IPPROTO_UDP);
    ask_for_sockets(AF_UNIX, 0);
    ask_for_sockets(AF_PACKET, 0);
}

static void ipvs(void)
{
    struct ip_vs_service_user service = {
        .protocol = IPPROTO_TCP, .addr = htonl(0x0a090001), .port = htons(80), .sched_name = "rr"};
    int sock = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
    MUST(sock >= 0);
    MUST(setsockopt(sock, IPPROTO_IP, IP_VS_SO_SET_ADD, &service, sizeof service) == 0);
    service.protocol = IPPROTO_UDP;
    MUST(setsockopt(sock, IPPROTO_IP, IP_VS_SO_SET_ADD, &service, sizeof service) == 0);
}

static void eject(void)
{
    MUST(iopl(3) == 0);
}

static const struct {
    const char *name;
    void (*try)(void);
} calls[] = {
    {"ipc", ipc},           {"io-uring", io_uring},
    {"programs", programs}, {"ia32", ia32},
    {"cgroups", cgroups},   {"seccomp", seccomp},
    {"huge-pages", huge_pages}, {"namespaces", namespaces},
    {"fuse", fuse},         {"vsock", vsock},
    {"ipv6", ipv6},         {"diag", diag},
    {"ipvs", ipvs},         {"eject", eject},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc == 2 && i < sizeof calls / sizeof *calls; i++) {
        if (!strcmp(calls[i].name, argv[1])) {
            calls[i].try();
            return 0;
        }
    }
    printf("no such call\n");
    return 2;
}
