#!/bin/busybox sh
# The first program of a VM: tries what the groups of hyperkernel/x86_64.config promise, each by
# using it, and says `feature NAME: ok`, or what failed. test_kernel_features.py gives the VM its
# devices.
/bin/busybox --install -s /bin
export PATH=/bin
mkdir -p /mnt /layer /zlib /zstd /erofs /upper /share /stack
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/mqueue

try() {
    name=$1
    shift
    said=$("$@" 2>&1) && said=ok
    echo "feature $name: $said" | tr '\n' ' '
    echo
}
call() { /kept/kernel_calls "$1"; }
exists() { for path; do ls -d "$path" >/dev/null || return; done; }
# contains FILE WORD...: the file has each of the words as a whole line.
contains() {
    file=$1
    shift
    for word; do
        grep -qxF -- "$word" "$file" || { echo "$file: no $word"; return 1; }
    done
}
# The disk of virtio-scsi with this number.
lun() { ls "/sys/bus/scsi/devices/0:0:0:$1/block" | sed 's,^,/dev/,'; }
base() { mount -t devpts devpts /dev/pts && mount -t tmpfs tmpfs /mnt && umount /mnt; }
# The second can go and come, as those do that are plugged.
smp() {
    [ "$(nproc)" = 2 ] || { nproc; return 1; }
    echo 0 >/sys/devices/system/cpu/cpu1/online && echo 1 >/sys/devices/system/cpu/cpu1/online
}
balloon() {
    # Bit 5 of the features: the host takes reports of free pages (VIRTIO_BALLOON_F_REPORTING).
    exists /sys/bus/virtio/drivers/virtio_balloon/virtio* &&
        cut -c6 /sys/bus/virtio/drivers/virtio_balloon/virtio*/features | grep -q 1
}
# The machine starts with 192 MiB and has 128 MiB more on virtio-mem.
memory_hotplug() {
    for _ in $(seq 100); do
        total=$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)
        [ "$total" -gt 250000 ] && return
        sleep 0.1
    done
    echo "$total kB of memory"
    return 1
}
huge_pages() { echo 1 >/proc/sys/vm/nr_hugepages && call huge-pages; }
# Four, whatever is plugged in; a second one that is written to.
serial() { exists /sys/class/tty/ttyS0 /sys/class/tty/ttyS3 && echo more >/dev/ttyS1; }
random() { contains /sys/class/misc/hw_random/rng_current virtio_rng.0; }
programs() {
    call programs && mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc &&
        exists /proc/sys/fs/binfmt_misc/register
}
ikconfig() { zcat /proc/config.gz >/share/config; }
cgroups() {
    controllers=/sys/fs/cgroup/cgroup.controllers
    mount -t cgroup2 cgroup2 /sys/fs/cgroup && mkdir /sys/fs/cgroup/group &&
        tr ' ' '\n' <$controllers >/controllers &&
        contains /controllers cpuset cpu io memory hugetlb pids && call cgroups &&
        echo 1 >/sys/fs/cgroup/group/cgroup.freeze
}
psi() { echo "some 150000 1000000" >/proc/pressure/memory; }
scsi() { head -c 4096 "$(lun 0)" >/first; }
# The disk with the number 1 is on AHCI too.
ahci() {
    disk=$(grep -l ^ATA /sys/block/*/device/vendor | cut -d/ -f4) && head -c 4096 "$(lun 1)" >/second &&
        [ -s /second ] &&
        head -c 4096 "/dev/$disk" | cmp - /second && exists /sys/module/virtio_pci/parameters/force_legacy
}
# Only a KVM shows more than that it is there: the lab's has its clock.
kvm() {
    contains /share/config CONFIG_KVM_GUEST=y || return
    ! dmesg | grep -q "detected: KVM" ||
        grep -w kvm-clock /sys/devices/system/clocksource/clocksource0/available_clocksource
}
virtio_blk() { head -c 4096 /dev/vda >/third && [ -s /third ] && cmp /third /first; }
virtio_mmio() { exists /sys/bus/platform/drivers/virtio-mmio; }
loop() { losetup -f /share/image && mount -t ext4 /dev/loop0 /mnt && umount /mnt; }
squashfs() {
    mount -t squashfs "$(lun 1)" /layer && mount -t squashfs "$(lun 2)" /zlib &&
        mount -t squashfs "$(lun 3)" /zstd && cmp /layer/bin/busybox /zlib/bin/busybox &&
        cmp /layer/bin/busybox /zstd/bin/busybox
}
erofs() { mount -t erofs "$(lun 4)" /erofs && cmp /layer/bin/busybox /erofs/bin/busybox; }
ext4() { mount -t ext4 "$(lun 0)" /upper && mkdir /upper/work /upper/files && sync; }
overlayfs() {
    mount -t overlay -o lowerdir=/layer,upperdir=/upper/files,workdir=/upper/work overlay /stack &&
        rm /stack/bin/busybox && echo new >/stack/bin/new && exists /layer/bin/busybox &&
        exists /upper/files/bin/busybox
}
share() { mount -t 9p -o trans=virtio,version=9p2000.L hyper /share && exists /share/image; }
file_system() { grep -qw "$1" /proc/filesystems || { cat /proc/filesystems; return 1; }; }
virtiofs() { file_system virtiofs && exists /sys/bus/virtio/drivers/virtiofs; }
card() {
    ip link set eth0 up && ip address add 10.0.2.15/24 dev eth0 && ping -c 1 -W 20 10.0.2.2 &&
        ip link add d7 type dummy
}
policy_routing() {
    ip rule add from 10.9.9.9 table 77 && ip rule | grep -q 77
}
tun() { tunctl -t tap7 && exists /sys/class/net/tap7; }
bridge() {
    brctl addbr br7 && ip link add v0 type veth peer name v1 && brctl addif br7 v0 &&
        exists /proc/sys/net/bridge/bridge-nf-call-iptables
}
netfilter() { exists /proc/sys/net/netfilter/nf_conntrack_max; }
nftables() {
    chroot /layer /usr/sbin/nft -f - <<'RULES'
table inet t {
    chain out {
        type nat hook postrouting priority 100
        oifname "eth0" masquerade
    }
    chain in {
        type nat hook prerouting priority -100
        fib daddr type local tcp dport 80 redirect to :8080
        ip daddr 10.1.1.1 tcp dport 81 dnat ip to 10.1.1.2:81
    }
    chain through {
        type filter hook forward priority 0
        ct state established,related accept
        limit rate 5/second counter accept
        reject with icmpx port-unreachable
    }
}
RULES
}
xtables() {
    contains /proc/net/ip_tables_matches addrtype comment conntrack limit multiport owner state \
        statistic mark && contains /proc/net/ip_tables_targets DNAT SNAT MASQUERADE REDIRECT REJECT \
        MARK && contains /proc/net/ip6_tables_targets MASQUERADE REJECT
}

try base base
try 9p share
try ikconfig ikconfig
for name in smp balloon serial random scsi squashfs erofs ext4 overlayfs loop virtiofs tun \
    bridge netfilter xtables psi cgroups programs nftables; do
    try $name $name
done
try kvm kvm
try ahci ahci
try virtio-blk virtio_blk
try virtio-mmio virtio_mmio
try virtio-net card
try policy-routing policy_routing
try nfs file_system nfs4
try huge-pages huge_pages
try memory-hotplug memory_hotplug
for name in ipc io-uring ia32 seccomp fuse vsock ipv6 diag ipvs namespaces eject; do
    try $name call $name
done
echo "features: all tried"
sync
poweroff -f
