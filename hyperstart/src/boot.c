#define _GNU_SOURCE
#include "boot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "failure.h"
#include "loop.h"
#include "memory.h"
#include "parameters.h"
#include "path.h"
#include "ports.h"

#define MODULES_DIR "/modules"
#define CONTROL_PORT "sh.hyper.channel.0"
#define STREAM_PORT "sh.hyper.channel.1"
#define PORT_WAIT_MS 10000
#define COMMAND_LINE 4096
#define CONTAINERS_GROUP "/sys/fs/cgroup/containers"
#define RESERVE (12u << 20)

static void mount_on(const char *fstype, const char *target, unsigned long flags,
                     const char *options)
{
    mkdir(target, 0755);
    if (mount(fstype, target, fstype, flags, options) < 0 && errno != EBUSY)
        die("mount of %s on %s: %s", fstype, target, error_text(errno));
}

/* pivot_root needs a root that is a mount with a parent, which the initramfs is
 * not: it is bound onto itself and that is made the root. */
static void make_root_a_mount(void)
{
    mkdir("/root", 0700);
    if (mount("/", "/root", NULL, MS_BIND, NULL) < 0 || chdir("/root") < 0 ||
        mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
        die("root mount: %s", error_text(errno));
}

static void open_console(void)
{
    int console = open("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        die("/dev/null: %s", error_text(errno));
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    dup2(console >= 0 ? console : null, STDERR_FILENO); /* die writes there */
    if (console > 2)
        close(console);
    if (null > 2)
        close(null);
}

void boot_mounts(void)
{
    make_root_a_mount();
    unsigned long safe = MS_NOSUID | MS_NOEXEC | MS_NODEV;
    mount_on("proc", "/proc", safe, NULL);
    mount_on("sysfs", "/sys", safe, NULL);
    mount_on("devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=755");
    mount_on("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666");
    mount_on("tmpfs", "/dev/shm", safe, "mode=1777");
    mount_on("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=755");
    mkdir("/run/hyper", 0711);
    /* Mounts and namespaces come and go with a wait for RCU each: 20 ms at 100 Hz, else. */
    write_file("/sys/kernel/rcu_expedited", "1");
    /* kcompactd would wake an idle VM twice a second. */
    write_file("/proc/sys/vm/compaction_proactiveness", "0");
    /* What is freed is reported to the balloon by 64 KiB: by 2 MiB, as usual, little of it would
     * be. The kernel's argument of that name is forgotten when the balloon's driver comes. */
    write_file("/sys/module/page_reporting/parameters/page_reporting_order", "4");
    open_console();
}

/* Linux sizes the limits of its init for a small system: too few descriptors for
 * hundreds of processes, and too few processes for a container's user. */
void boot_limits(void)
{
    struct rlimit files = {.rlim_cur = 524288, .rlim_max = 524288};
    struct rlimit unlimited = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
    setrlimit(RLIMIT_NOFILE, &files);
    setrlimit(RLIMIT_NPROC, &unlimited);
    setrlimit(RLIMIT_SIGPENDING, &unlimited);
}

static const char *command_line(void)
{
    static SELDOM char line[COMMAND_LINE];
    if (!*line && read_file("/proc/cmdline", line, sizeof line) < 0)
        die("/proc/cmdline: %s", error_text(errno));
    return line;
}

static void load_module(const char *name)
{
    char path[300], parameters[512];
    parameters_of(command_line(), name, parameters, sizeof parameters);
    snprintf(path, sizeof path, MODULES_DIR "/%s", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || (syscall(SYS_finit_module, fd, parameters, 0) < 0 && errno != EEXIST))
        dprintf(STDERR_FILENO, "hyperstart: module %s: %s\n", name, error_text(errno));
    if (fd >= 0)
        close(fd);
}

void boot_modules(void)
{
    struct dirent **entries;
    int count = scandir(MODULES_DIR, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++)
        if (entries[i]->d_name[0] != '.')
            load_module(entries[i]->d_name);
}

static void enable_controllers(const char *group)
{
    char path[128], controllers[512], enable[64], *rest = NULL;
    snprintf(path, sizeof path, "%s/cgroup.controllers", group);
    if (read_file(path, controllers, sizeof controllers) < 0)
        die("cgroup controllers: %s", error_text(errno));
    snprintf(path, sizeof path, "%s/cgroup.subtree_control", group);
    for (char *name = strtok_r(controllers, " \n", &rest); name;
         name = strtok_r(NULL, " \n", &rest)) {
        snprintf(enable, sizeof enable, "+%s", name);
        write_file(path, enable);
    }
}

/*
 * All containers together leave the kernel and us some memory. Else one that takes everything
 * makes the kernel evict and read again, for minutes, the programs that run.
 */
void boot_reserve_memory(void)
{
    struct sysinfo info;
    char limit[32];
    if (sysinfo(&info) < 0)
        die("sysinfo: %s", error_text(errno));
    uint64_t total = (uint64_t)info.totalram * info.mem_unit;
    snprintf(limit, sizeof limit, "%" PRIu64, total > 2 * RESERVE ? total - RESERVE : total);
    write_file(CONTAINERS_GROUP "/memory.max", limit);
}

void boot_cgroups(void)
{
    mount_on("cgroup2", "/sys/fs/cgroup", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL);
    enable_controllers("/sys/fs/cgroup");
    if (mkdir(CONTAINERS_GROUP, 0755) < 0 && errno != EEXIST)
        die("mkdir %s: %s", CONTAINERS_GROUP, error_text(errno));
    enable_controllers(CONTAINERS_GROUP);
    boot_reserve_memory();
}

static int try_port(const char *name)
{
    DIR *ports = opendir("/sys/class/virtio-ports");
    int fd = -1;
    struct dirent *entry;
    while (ports && fd < 0 && (entry = readdir(ports))) {
        char path[512], found[128];
        snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", entry->d_name);
        if (entry->d_name[0] == '.' || read_file(path, found, sizeof found) <= 0)
            continue;
        found[strcspn(found, "\n")] = '\0';
        snprintf(path, sizeof path, "/dev/%s", entry->d_name);
        if (!strcmp(found, name))
            fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    }
    if (ports)
        closedir(ports);
    return fd;
}

static int try_path(const char *path)
{
    return open(path, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

/* Ports come when the kernel has met the other end; -1 when one has not in time. */
static int wait_for(int (*attempt)(const char *), const char *name)
{
    int64_t end = monotonic_ms() + PORT_WAIT_MS;
    for (;;) {
        int fd = attempt(name);
        if (fd >= 0 || monotonic_ms() > end)
            return fd;
        usleep(1000);
    }
}

static int open_port(const char *name)
{
    int fd = wait_for(try_port, name);
    if (fd < 0)
        die("port %s did not appear within %d s", name, PORT_WAIT_MS / 1000);
    return fd;
}

/* A line that is not there opens, but has no settings. */
static int open_line(const char *name)
{
    char path[PORT_NAME + 8];
    struct termios settings;
    snprintf(path, sizeof path, "/dev/%s", name);
    int fd = wait_for(try_path, path);
    if (fd < 0 || tcgetattr(fd, &settings) < 0)
        die("port %s, which the command line names: %s", name, error_text(errno));
    cfmakeraw(&settings);
    settings.c_iflag |= IGNBRK | IGNPAR;
    settings.c_cflag |= CLOCAL | CREAD;
    cfsetspeed(&settings, B115200);
    if (tcsetattr(fd, TCSANOW, &settings) < 0)
        die("port %s: %s", name, error_text(errno));
    return fd;
}

void boot_open_ports(int *control, int *streams, bool *lines)
{
    struct ports ports;
    enum ports_result result = ports_parse(command_line(), &ports);
    if (result == PORTS_MALFORMED)
        die("hyper.ports: not two ports such as ttyS0,ttyS1");
    *control = result == PORTS_NAMED ? open_line(ports.control) : open_port(CONTROL_PORT);
    *streams = result == PORTS_NAMED ? open_line(ports.streams) : open_port(STREAM_PORT);
    *lines = result == PORTS_NAMED && ports.lines;
}
