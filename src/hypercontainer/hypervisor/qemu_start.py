"""Starting QEMU: its command line and its process.

Kept free of heavy imports, because the sandbox process starts QEMU first and
imports the rest while QEMU loads.
"""

import os
import shutil
import signal
import sys

from ..errors import VMError
from ..guest.platforms import ARCHITECTURES, NATIVE
from ..system import merging, processes, syscalls
from . import giveback, jail, memory_sizes, starter, virt, virtiofs
from .driver import SHARE_TAG
from .machine import Machine, Vmm, open_channels

PACKAGE = ARCHITECTURES[NATIVE].package
SCSI_BUS = "scsi0.0"

# 9p serves files as the guest names their owners, so QEMU keeps what that takes and no more:
# CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, MKNOD.
_SHARE_CAPABILITIES = (0, 1, 2, 3, 4, 27)
# Told of ERMS, a kernel clears and copies pages by `rep stosb` and `rep movsb`, which is done byte
# by byte here; by words otherwise.
_EMULATED_CPU = "max,erms=off"
# What translations of guest code may take, in MiB. QEMU bounds them by an eighth of the host's
# memory, however small the guest, of which it would be the guest's to use all.
_TCG_OPTIONS = ",tb-size=64"
_FIRMWARE = ("/usr/share/qemu/qboot.rom",)
# Where the firmware looks for what its command line lacks, as docs/specs/fw_cfg.rst of QEMU has
# names of users begin.
_FLASH_ARGUMENTS = "opt/org.hypercontainer/append"
# Not among them, since nothing is gained: `lpj` (the kernel computes it of the TSC's rate and times
# no loop), `nokaslr` (a kernel that is entered by PVH skips the code that would choose an address),
# `mitigations=off` (hyperkernel is built without: emulated CPUs don't speculate, and a guest's
# program could read no more than its own VM; other VMs are the host's to protect).
_KERNEL_ARGUMENTS = (
    # Warnings and worse only: each character of an emulated serial port costs a VM exit.
    " loglevel=4 panic=-1"
    # hyperstart scans for the one LUN that it was told of.
    " scsi_mod.scan=manual"
    " random.trust_cpu=on"
    # hyperstart learns from it that a container only waits for memory, and ends that.
    " psi=1"
    # Units of a few pages instead of 2 MiB, whose second chunk, that the first container needs,
    # has 4 MiB of tables to be zeroed: 10 ms on an emulated CPU, and 4 MiB that no clone shares.
    " percpu_alloc=page"
    # Only the interfaces that somebody asked for.
    " dummy.numdummies=0"
)
_PC_ARGUMENTS = (
    "console=ttyS0"
    # The VM ends by a triple fault, which `-no-reboot` turns into the end of QEMU.
    " reboot=t"
    # An emulated timer needs no check (50 ms), and its clock is the host's.
    " no_timer_check tsc=reliable"
)
# With one emulated CPU, patching the kernel from SMP to UP form takes 0.05 s of a 0.5 s boot.
_UNIPROCESSOR_TCG_ARGUMENTS = " noreplace-smp"
# Calibrating that CPU's own timer takes another 0.1 s. Without it the PIT serves, which wakes an
# idle VM 37 times a second, as its counter is no longer: 1 to 2 % of a core. A template's clones
# have the timer calibrated once for all.
_UNCALIBRATED_TIMER_ARGUMENT = " nolapic_timer"
# The ACPI interpreter takes 0.06 s of an emulated boot on q35, and 0.3 s on `pc`, whose interrupt
# links are AML programs. Cards are hot-plugged without it: hyperstart rescans the bus. Several
# CPUs then need the MP table that qboot makes.
_NO_ACPI_ARGUMENT = " acpi=off"


def binary(guest: str = NATIVE) -> str:
    """The path of the QEMU for guests of an architecture.

    Raises VMError naming the package when it is missing.
    """
    about = ARCHITECTURES[guest]
    own = os.environ.get("HYPER_QEMU") if guest == NATIVE else None
    path = shutil.which(own or about.emulator)
    if path is None:
        package = about.package
        raise VMError(f"{about.emulator} not found: install {package} (apt-get install {package})")
    return path


def command(machine: Machine, fds: dict[str, int]) -> list[str]:
    """QEMU's command line for `machine`; `fds` are QEMU's ends of the channels by name, and as
    `starter` the program that starts the kernel of one that can get CPUs."""
    qemu = binary(machine.architecture)
    argv = [
        qemu,
        *("-name", f"{machine.name},process=hyper-vm"),
        *(_pc(machine) if machine.architecture == NATIVE else virt.arguments(machine.cpus)),
        *("-accel", machine.accel + (_TCG_OPTIONS if machine.accel == "tcg" else "")),
        *("-smp", _cpus(machine), "-m", _memory(machine)),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *_boot(machine, fds.get("starter", 0)),
        *("-chardev", f"socket,id=monitor,fd={fds['monitor']}"),
        *("-mon", "chardev=monitor,mode=control"),
        *("-chardev", f"socket,id=console,fd={fds['console']}", "-serial", "chardev:console"),
        *("-device", "virtio-serial-pci,id=channels,max_ports=3"),
        *("-chardev", f"socket,id=control,fd={fds['control']}"),
        *("-device", "virtserialport,chardev=control,name=sh.hyper.channel.0"),
        *("-chardev", f"socket,id=streams,fd={fds['streams']}"),
        *("-device", "virtserialport,chardev=streams,name=sh.hyper.channel.1"),
        *("-device", "virtio-scsi-pci,id=scsi0,num_queues=1"),
        *giveback.arguments(qemu, machine.accel),
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
    ]
    if machine.memory_fd >= 0:
        # A clone's is private, unless another process serves its share and must see it.
        sharing = "off" if machine.incoming and not machine.has_virtiofs else "on"
        argv += [
            *("-machine", "memory-backend=ram"),
            "-object",
            f"memory-backend-file,id=ram,size={machine.memory_mib}M,share={sharing},"
            f"mem-path=/proc/self/fd/{machine.memory_fd}",
        ]
    if machine.incoming:
        argv += ["-incoming", "defer"]
    if machine.devices_only:
        # What `save_devices` writes has neither a configuration nor a description, and says of
        # each VM that it ran.
        argv += ["-global", "migration.send-configuration=off", "-machine", "suppress-vmdesc=on"]
        argv += ["-S"]
    if machine.served:
        path = machine.served.replace(",", ",,")
        argv += [
            "-fsdev",
            f"local,id=share,path={path},security_model=passthrough,multidevs=remap",
            "-device",
            f"virtio-9p-pci,fsdev=share,mount_tag={SHARE_TAG}",
        ]
    if machine.network == "user":
        argv += ["-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,romfile="]
    return argv


def _cpus(machine: Machine) -> str:
    """How many it starts with, and can have one day."""
    return f"{machine.cpus},maxcpus={machine.most_cpus}" if machine.gets_cpus else str(machine.cpus)


def _memory(machine: Machine) -> str:
    """The size of the RAM, and of the addresses that it may have one day."""
    size = f"{machine.memory_mib}M"
    if machine.architecture != NATIVE:
        return size
    return f"{size},maxmem={memory_sizes.maximum(machine.memory_mib)}M"


def _boot(machine: Machine, starter_fd: int) -> list[str]:
    """What is booted, and how."""
    if not machine.cbfs:
        firmware = machine.bios or (_firmware() if machine.architecture == NATIVE else "")
        kernel = ["-kernel", machine.kernel]
        if machine.gets_cpus:
            file = machine.kernel.replace(",", ",,")
            kernel = ["-kernel", f"/proc/self/fd/{starter_fd}", "-device", f"loader,file={file}"]
        return [
            *(*kernel, "-initrd", machine.initrd),
            *("-append", f"{_arguments(machine)}{_own_arguments(machine)}".strip()),
            *(("-bios", firmware) if firmware else ()),
        ]
    argv = []
    for unit, path in enumerate((machine.bios, machine.cbfs)):
        file = path.replace(",", ",,")
        argv += ["-drive", f"if=pflash,unit={unit},format=raw,readonly=on,file={file}"]
    own = _own_arguments(machine).strip().replace(",", ",,")
    return [*argv, "-fw_cfg", f"name={_FLASH_ARGUMENTS},string={own}"] if own else argv


def _pc(machine: Machine) -> list[str]:
    """The machine and processor of the host's architecture."""
    cpu, hpet = ("host", "off") if machine.accel == "kvm" else (_EMULATED_CPU, "on")
    flash = ",max-fw-size=16M" if machine.cbfs else ""
    return [
        *("-M", f"pc,usb=off,vmport=off,smm=off,mem-merge=off,hpet={hpet}{flash}"),
        *("-cpu", cpu),
    ]


def _firmware() -> str | None:
    return next((path for path in _FIRMWARE if os.path.exists(path)), None)


def flash_arguments() -> str:
    """The kernel's command line in a CBFS: what is the same for each VM that boots from one."""
    return _PC_ARGUMENTS + _KERNEL_ARGUMENTS + _NO_ACPI_ARGUMENT


def tsc_argument() -> str:
    """The argument that tells a kernel the rate of an emulated TSC, which is the host's.

    A guest on a busy host measures it up to 29 times wrong, and its clock then
    runs as fast. The host's kernel made its "bogomips" of it: twice the MHz.
    """
    with open("/proc/cpuinfo") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name.strip() == "bogomips":
                return f" tsc_early_khz={round(float(value) * 500)}"
    return ""


def _arguments(machine: Machine) -> str:
    """The kernel's command line, but for what is this VM's."""
    if machine.architecture != NATIVE:
        return virt.KERNEL_ARGUMENTS + _KERNEL_ARGUMENTS
    has_table = machine.cpus == 1 or machine.bios or _firmware()
    return _PC_ARGUMENTS + _KERNEL_ARGUMENTS + (_NO_ACPI_ARGUMENT if has_table else "")


def _own_arguments(machine: Machine) -> str:
    # The others that the kernel knows of are not there yet.
    own = f" maxcpus={machine.cpus}" if machine.gets_cpus else ""
    if machine.accel == "tcg" and machine.architecture == NATIVE:
        own += tsc_argument()
        if machine.cpus == 1:
            own += _UNIPROCESSOR_TCG_ARGUMENTS
            if not machine.saved:
                own += _UNCALIBRATED_TIMER_ARGUMENT
    return f"{own} {machine.append}"


def start(machine: Machine) -> Vmm:
    """Start QEMU, and what serves its share, as children of this process, which they don't
    outlive. Raises VMError."""
    channels = open_channels()
    fds = {name: end.fileno() for name, end in channels.theirs._asdict().items()}
    if machine.gets_cpus and not machine.cbfs:
        fds["starter"] = starter.new(machine)
    argv = command(machine, fds)
    errors = channels.errors_write
    server = virtiofs.start(machine.share, errors) if machine.has_virtiofs else None
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        kept = list(fds.values())
        if machine.memory_fd >= 0:
            kept.append(machine.memory_fd)
        _become_qemu(argv, machine, kept, errors, parent)
    if "starter" in fds:
        os.close(fds["starter"])
    return channels.of(pid, server)


def _become_qemu(
    argv: list[str], machine: Machine, fds: list[int], errors: int, parent: int
) -> None:
    """In the forked child: give up what QEMU does not need, then execute it."""
    try:
        processes.stand_alone(errors)
        for fd in fds:
            os.set_inheritable(fd, True)
        if os.geteuid() == 0:
            own_kvm = bool(machine.jail) and _enter_jail(argv, machine)
            _drop_privileges(machine, own_kvm=own_kvm)
        syscalls.die_with_parent(signal.SIGKILL)
        syscalls.no_new_privileges()
        merging.allow(machine.is_merged)
        if os.getppid() != parent:
            os._exit(1)
        os.execve(argv[0], argv, giveback.environment(argv[0]))
    except BaseException as error:
        os.write(2, f"starting {argv[0]}: {error}\n".encode())
    finally:
        sys.stdout = sys.stderr = None
        os._exit(1)


def _enter_jail(argv: list[str], machine: Machine) -> bool:
    """Whether QEMU has a /dev/kvm of its own in there.

    Where mount namespaces are forbidden (an unprivileged container), it goes on without a jail.
    """
    kvm_user = None
    if machine.accel == "kvm" and os.path.exists(jail.KVM):
        kvm_user = 0 if machine.served else machine.user_id
    boots = [path for path in (machine.kernel, machine.initrd, machine.bios) if path]
    files = [argv[0], *boots, *giveback.libraries(argv[0])]
    try:
        return jail.enter(machine.jail, files, machine.served, kvm_user)
    except PermissionError as error:
        os.write(2, f"QEMU runs without a root of its own: {error}\n".encode())
        return False


def _drop_privileges(machine: Machine, *, own_kvm: bool) -> None:
    borrowed = machine.accel == "kvm" and not own_kvm
    groups = _kvm_groups() if borrowed else []
    os.setgroups(groups)
    if machine.served:
        syscalls.keep_only_capabilities(_SHARE_CAPABILITIES)
        return
    syscalls.keep_only_capabilities(())
    if borrowed and not groups and not _kvm_is_public():
        return
    os.setresgid(machine.user_id, machine.user_id, machine.user_id)
    os.setresuid(machine.user_id, machine.user_id, machine.user_id)


def _kvm_groups() -> list[int]:
    """The group that may open /dev/kvm, when one other than root's may."""
    status = _kvm_status()
    if status is None or status.st_mode & 0o060 != 0o060 or not status.st_gid:
        return []
    return [status.st_gid]


def _kvm_is_public() -> bool:
    status = _kvm_status()
    return status is not None and status.st_mode & 0o006 == 0o006


def _kvm_status() -> os.stat_result | None:
    """None where there is no device: then QEMU says so itself."""
    try:
        return os.stat(jail.KVM)
    except FileNotFoundError:
        return None
