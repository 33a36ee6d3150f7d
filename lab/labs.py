"""The labs there are: which system, which processor, what is set up in it, which tests run."""

from typing import NamedTuple

from .image import Wanted, packages_of


class Hypervisor(NamedTuple):
    """What starts before the kernel: a file that a package leaves in /boot, and its arguments."""

    file: str
    arguments: str


class Lab(NamedTuple):
    """A lab. `cpu` is QEMU's -cpu, `set_up` a shell script, `tests` arguments for pytest,
    `environment` what the tests find in theirs."""

    name: str
    packages: tuple[str, ...]
    cpu: str
    memory_mib: int
    set_up: str
    environment: dict[str, str]
    tests: tuple[str, ...]
    hypervisor: Hypervisor | None = None

    def wanted(self) -> Wanted:
        """The system to be built: what the project needs, and what only this lab does."""
        packages = (*packages_of("dev"), *self.packages)
        return Wanted(self.name, packages, (self.hypervisor.file,) if self.hypervisor else ())


# Nested page tables, without which a guest of the emulated machine is too slow for anything.
# What udev would do to the devices, is done by hand.
_KVM = Lab(
    name="kvm",
    packages=(),
    cpu="max,+svm,+npt",
    memory_mib=6144,
    set_up="""\
set -e
modprobe -a kvm_amd vhost_vsock vhost_net tun
groupadd --system --force kvm
chgrp kvm /dev/kvm /dev/vhost-vsock /dev/vhost-net
chmod 660 /dev/kvm /dev/vhost-vsock /dev/vhost-net
""",
    environment={"HYPER_TEST_ACCEL": "kvm"},
    tests=("tests/lab",),
)

# With SMAP, the emulated dom0 dies at once. Xen's tools want what Debian's init script sets up.
_XEN = Lab(
    name="xen",
    packages=("xen-hypervisor-4.17-amd64", "xen-utils-4.17"),
    cpu="max,+svm,+npt,-smap,-smep",
    memory_mib=4096,
    hypervisor=Hypervisor(
        file="xen-4.17-amd64.gz",
        arguments="smap=0 smep=0 dom0_mem=2048M,max:2048M console=com1 loglvl=warning",
    ),
    set_up="""\
set -e
modprobe -a xen-evtchn xen-gntdev xen-gntalloc xen-blkback xen-netback xenfs tun
mount -t xenfs xenfs /proc/xen
mkdir -p /run/xen /var/log/xen
/etc/init.d/xen start
xl info
""",
    environment={},
    tests=("tests/lab",),
)

LABS = {lab.name: lab for lab in (_KVM, _XEN)}
