#define _GNU_SOURCE
#include "pod.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#include "boot.h"
#include "loop.h"
#include "mounts.h"
#include "net.h"
#include "path.h"
#include "pci.h"

#define CPUS "/sys/devices/system/cpu"
#define SHARE_WAIT_MS 10000
#define MEMORY_DRIVER "/sys/bus/virtio/drivers/virtio_mem"
#define XEN_BALLOON "/sys/devices/system/xen_memory"
#define XEN_PLUGS "/proc/sys/xen/balloon/hotplug_unpopulated"

/* Mix the host's bytes in, credited, and have the kernel's generator reseed. */
static int add_entropy(const struct pod_spec *spec, struct failure *failure)
{
    struct {
        struct rand_pool_info info;
        uint8_t bytes[sizeof spec->entropy];
    } pool = {.info = {.entropy_count = (int)spec->entropy_size * 8,
                       .buf_size = (int)spec->entropy_size}};
    if (!spec->entropy_size)
        return 0;
    memcpy(pool.bytes, spec->entropy, spec->entropy_size);
    int fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
    int result = fd < 0 ? -1 : ioctl(fd, RNDADDENTROPY, &pool);
    if (!result)
        result = ioctl(fd, RNDRESEEDCRNG);
    if (result < 0)
        fail_errno(failure, "entropy");
    if (fd >= 0)
        close(fd);
    return result;
}

static int set_time(const struct pod_spec *spec, struct failure *failure)
{
    struct timespec now = {.tv_sec = spec->seconds, .tv_nsec = spec->nanoseconds};
    if (spec->has_time && clock_settime(CLOCK_REALTIME, &now) < 0)
        return fail_errno(failure, "clock");
    return 0;
}

static int set_names(const struct pod_spec *spec, struct failure *failure)
{
    if (spec->hostname && sethostname(spec->hostname, strlen(spec->hostname)) < 0)
        return fail_errno(failure, "hostname %s", spec->hostname);
    if (spec->domainname && setdomainname(spec->domainname, strlen(spec->domainname)) < 0)
        return fail_errno(failure, "domain name %s", spec->domainname);
    if (!spec->machine_id)
        return 0;
    int fd = open("/run/hyper/machine-id", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0444);
    if (fd < 0 || dprintf(fd, "%s\n", spec->machine_id) < 0)
        return fail_errno(failure, "machine-id");
    close(fd);
    return 0;
}

/* The device of a share may have been plugged in after the boot: then the bus is looked at. */
static int mount_when_there(const struct pod_spec *spec)
{
    int64_t end = monotonic_ms() + SHARE_WAIT_MS;
    for (bool scanned = false;; scanned = true) {
        int result = mount(spec->share_tag, SHARE_DIR, spec->share_fstype, 0,
                           spec->share_options);
        bool absent = result < 0 && errno == EINVAL && !strcmp(spec->share_fstype, "virtiofs");
        if (!absent || monotonic_ms() > end)
            return result;
        if (!scanned)
            pci_rescan();
        else
            usleep(5000);
    }
}

static int mount_share(const struct pod_spec *spec, struct failure *failure)
{
    if (!spec->share_tag)
        return 0;
    if (make_directories(SHARE_DIR, 0700) < 0)
        return fail_errno(failure, "mkdir " SHARE_DIR);
    if (mount_when_there(spec) < 0)
        return fail_errno(failure, "mount of share %s as %s", spec->share_tag,
                          spec->share_fstype);
    return 0;
}

int pod_setup(const struct pod_spec *spec, struct failure *failure)
{
    if (set_time(spec, failure) < 0 || add_entropy(spec, failure) < 0 ||
        set_names(spec, failure) < 0 || mount_share(spec, failure) < 0)
        return -1;
    return net_loopback_up(failure);
}

/* Write `value` to FILE of every entry of `directory` whose name starts with `prefix`. */
static void write_each(const char *directory, const char *prefix, const char *file,
                       const char *value)
{
    DIR *entries = opendir(directory);
    struct dirent *entry;
    while (entries && (entry = readdir(entries))) {
        char path[512];
        size_t length = strlen(prefix);
        if (strncmp(entry->d_name, prefix, length) != 0 ||
            entry->d_name[length] < '0' || entry->d_name[length] > '9')
            continue;
        snprintf(path, sizeof path, "%s/%s/%s", directory, entry->d_name, file);
        write_file(path, value); /* one that is online already refuses */
    }
    if (entries)
        closedir(entries);
}

int pod_online_cpus(unsigned cpus, struct failure *failure)
{
    for (unsigned i = 1; i < cpus; i++) { /* the first is the one that we run on */
        char path[64];
        snprintf(path, sizeof path, CPUS "/cpu%u/online", i);
        if (access(path, F_OK) < 0)
            return fail(failure, FAIL_SETUP, "the guest kernel knows of %u CPUs, not of %u", i,
                        cpus);
        if (write_file(path, "1") < 0)
            return fail_errno(failure, "CPU %u", i);
    }
    return 0;
}

int pod_online_memory(struct failure *failure)
{
    bool xen = !access(XEN_BALLOON, F_OK);
    pci_rescan_memory();
    write_each("/sys/devices/system/memory", "memory", "state", "online");
    boot_reserve_memory();
    if (xen && access(XEN_PLUGS, F_OK) < 0)
        return fail(failure, FAIL_SETUP, "the guest kernel's balloon of Xen plugs no memory");
    if (!xen && access(MEMORY_DRIVER, F_OK) < 0)
        return fail(failure, FAIL_SETUP, "the guest kernel has no driver of virtio-mem");
    return 0;
}
