"""The engines, which run guests' code, and what people may ask for. Imports nothing."""

# Each belongs to a driver: see `driver.load`.
QEMU = ("kvm", "tcg")
XEN = ("xen", "xenpv")
ENGINES = (*QEMU, *XEN, "vbox", "uml")
# `qemu` is KVM where it works, else TCG; `auto` is Xen on its control domain, else `qemu`.
CHOICES = ("auto", "qemu", *ENGINES)
# What Xen says of the domain that this is; "control_d" is the one that may start others.
_XEN_CAPABILITIES = "/proc/xen/capabilities"
# What guests it runs, such as "xen-3.0-x86_64 hvm-3.0-x86_64".
_XEN_KINDS = "/sys/hypervisor/properties/capabilities"


def is_control_domain() -> bool:
    """Whether this host runs on Xen, as the domain that starts others."""
    try:
        with open(_XEN_CAPABILITIES) as file:
            return "control_d" in file.read()
    except OSError:
        return False


def xen_kinds() -> list[str]:
    """The kinds of guests that Xen runs here; none where there is no Xen."""
    try:
        with open(_XEN_KINDS) as file:
            return file.read().split()
    except OSError:
        return []


def of_xen() -> str:
    """The engine for guests of Xen: `xen` where the CPU runs whole ones, else `xenpv`."""
    return "xen" if "hvm-3.0-x86_64" in xen_kinds() else "xenpv"
