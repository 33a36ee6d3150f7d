"""The labs there are: which system, which processor, what is set up in it, which tests run."""

from typing import NamedTuple

from .image import Wanted, packages_of


class Hypervisor(NamedTuple):
    """What starts before the kernel: a file that a package leaves in /boot (there with .gz), and
    its arguments."""

    file: str
    arguments: str


class Lab(NamedTuple):
    """A lab. `cpu` is QEMU's -cpu, whose `threads` are multi (one for each CPU) or single, `set_up`
    a shell script, `tests` arguments for pytest, `environment` what the tests find in theirs,
    `kernels` the flavours of guest kernels there."""

    name: str
    packages: tuple[str, ...]
    cpu: str
    memory_mib: int
    set_up: str
    environment: dict[str, str]
    tests: tuple[str, ...]
    hypervisor: Hypervisor | None = None
    kernels: tuple[str, ...] = ("",)
    threads: str = "multi"

    def wanted(self) -> Wanted:
        """The system to be built: what the project needs, and what only this lab does."""
        packages = (*packages_of("dev"), *self.packages)
        return Wanted(self.name, packages, (self.hypervisor.file,) if self.hypervisor else ())


# The core under KVM: each front door, a clone, a network, and what goes wrong. Starting a VM there
# takes ten seconds and more, so it is one test of a kind.
_CORE = (
    "tests/lab/test_kvm.py",
    "tests/e2e/test_accel.py",
    *(
        f"tests/e2e/test_runv_run.py::test_{name}"
        for name in (
            *("exit_code_and_streams", "stdin", "a_death_by_signal", "a_bind_mount"),
            "exec_has_the_containers_environment_and_its_own",
        )
    ),
    *(
        f"tests/e2e/test_runv_lifecycle.py::test_{name}"
        for name in ("create_start_state_kill_delete", "kill_all", "pause_and_resume")
    ),
    *(
        f"tests/e2e/test_hyper_run.py::test_{name}"
        for name in ("exit_code_and_separate_streams", "a_lost_vm_is_told")
    ),
    "tests/e2e/test_hyper_exec.py::test_exec_is_in_the_guest",
    "tests/e2e/test_pods_containers.py::test_containers_join_and_leave_a_running_pod",
    "tests/e2e/test_sandbox_network.py::test_what_the_engine_made_is_in_the_guest",
    *(
        f"tests/e2e/test_sandbox_template.py::test_{name}"
        for name in ("clones_differ_where_they_must", "a_cold_start_makes_the_template_of_the_next")
    ),
    *(
        f"tests/e2e/test_sandbox_faults.py::test_{name}"
        for name in (
            "a_guest_that_misbehaves_at_the_boot",
            "a_killed_vmm_unblocks_everybody_with_the_reason",
            "qemu_has_no_more_rights_than_it_needs",
        )
    ),
)

# Nested page tables, without which a guest of the emulated machine is too slow for anything.
# What udev would do to the devices, is done by hand. Polling takes time from the emulation.
_KVM = Lab(
    name="kvm",
    packages=(),
    cpu="max,+svm,+npt",
    memory_mib=6144,
    set_up="""\
set -e
modprobe -a kvm_amd vhost_vsock vhost_net tun
echo 0 >/sys/module/kvm/parameters/halt_poll_ns
groupadd --system --force kvm
chgrp kvm /dev/kvm /dev/vhost-vsock /dev/vhost-net
chmod 660 /dev/kvm /dev/vhost-vsock /dev/vhost-net
""",
    environment={"HYPER_TEST_ACCEL": "kvm"},
    tests=_CORE,
)

# With SMAP on, the emulated dom0 dies at once. QEMU's XSAVE and XRSTOR don't heed CR0.TS, by which
# Xen would learn that a guest's registers of the FPU are to be brought back. With a thread
# for each CPU it now and then finds nothing in a PVH guest's page tables right after VMRUN: one
# guest of five ended by a triple fault.
_XEN = Lab(
    name="xen",
    packages=("xen-hypervisor-4.17-amd64", "xen-utils-4.17", "qemu-system-xen"),
    cpu="max,+svm,+npt,-smap,-smep",
    memory_mib=4096,
    hypervisor=Hypervisor(
        file="xen-4.17-amd64",
        arguments="smap=0 smep=0 spec-ctrl=eager-fpu dom0_mem=2048M,max:2048M"
        " console=com1 com1=115200,8n1",
    ),
    set_up="""\
set -e
modprobe -a xen-evtchn xen-gntdev xen-gntalloc xen-blkback xen-netback xenfs tun loop
modprobe -a sch_ingress sch_htb cls_u32 act_mirred nf_tables nft_chain_nat nft_masq nft_ct
mount -t xenfs xenfs /proc/xen
mkdir -p /run/xen /var/log/xen
/etc/init.d/xen start
xl info >/dev/null
""",
    environment={},
    tests=("tests/lab/test_xen.py",),
    kernels=("", "xen"),
    threads="single",
)

LABS = {lab.name: lab for lab in (_KVM, _XEN)}
