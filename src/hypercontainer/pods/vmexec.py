"""Processes in a pod's VM outside its containers: in the namespaces of the guest's init.

They have a root of their own, which holds the host's static busybox; the VM's
is at /vm (a link to /proc/1/root). To the sandbox they are an auxiliary
container, which does not keep the VM alive.
"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import NotSupported
from ..guest.platforms import ARCHITECTURES, NATIVE
from ..images.tools import FSTYPE, make_tools
from ..sandbox import SandboxClient, read_state
from .oci import MOUNTS

if TYPE_CHECKING:
    from .execs import Exec

_PATH = "/bin:/sbin:/usr/bin:/usr/sbin"


def vm_process(args: list[str], *, tty: bool, env: list[str], workdir: str) -> dict[str, Any]:
    """The OCI process object: as root, with all capabilities."""
    variables = {"PATH": _PATH, "HOME": "/root", **({"TERM": "xterm"} if tty else {})}
    given = dict(entry.partition("=")[::2] for entry in env)
    return {
        "args": args,
        "env": [f"{name}={value}" for name, value in {**variables, **given}.items()],
        "cwd": workdir or "/",
        "terminal": tty,
        "user": {"uid": 0, "gid": 0},
    }


async def create_in_vm(client: SandboxClient, exec_: "Exec", tools: Path) -> None:
    """Create the auxiliary container of an exec, up to the point before its program runs.

    Raises NotSupported when the host has no static busybox for the VM, ProgramError.
    """
    guest = (read_state(client.state_dir) or {}).get("architecture", NATIVE)
    if guest != NATIVE:
        raise NotSupported(
            f"exec in the virtual machine of {ARCHITECTURES[guest].platform}: the host's busybox"
            f" does not run there: exec in one of its containers"
        )
    disk = await asyncio.to_thread(make_tools, tools)
    config = {
        "ociVersion": "1.1.0",
        "process": exec_.process,
        "root": {"path": "rootfs", "readonly": False},
        "mounts": list(MOUNTS),
        "linux": {"namespaces": [{"type": "mount"}], "resources": {}},
    }
    rootfs = {"kind": "overlay", "lower": [{"path": str(disk), "fstype": FSTYPE}]}
    await client.create_container(
        exec_.id,
        config,
        rootfs,
        log={"path": ""} if exec_.detach else None,  # thrown away, or kept for who attaches
        stdin=exec_.stdin,
        auxiliary=True,
    )
