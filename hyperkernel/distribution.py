#!/usr/bin/env python3
"""Fetches Debian's kernel for VMs, for those who have not built hyperkernel.

The package is downloaded and unpacked, not installed, so the machine's own boot is left alone:
`CACHE/distribution/` gets `vmlinuz` and `modules/`, and `make initrd` makes `initrd.img` of them.
CACHE is `/var/cache/hyper`, or what HYPER_CACHE says.

It is the generic kernel because the smaller cloud kernel has no 9p. The ELF kernel is taken out of
the compressed image here, once: QEMU starts it by its PVH entry, and under TCG a VM reaches its
init in 1.3 s instead of 3.6 s.
"""

import argparse
import fcntl
import hashlib
import lzma
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGE = "linux-image-amd64"
# What hyperstart and containers need and this kernel has as modules. ext4 and erofs ask for crc32c
# by name when they are used, and nothing in the guest answers.
MODULES = (
    *("crc32c_generic", "virtio_pci", "virtio_console", "virtio_rng", "virtio_scsi", "sd_mod"),
    *("virtio_net", "virtio_blk", "virtio_balloon", "squashfs", "ext4", "overlay", "9p"),
    *("9pnet_virtio", "virtiofs", "erofs", "loop", "vmw_vsock_virtio_transport", "binfmt_misc"),
    # Of guests of Xen.
    *("xen_blkfront", "xen_netfront", "9pnet_xen"),
)
STEP_TIMEOUT = 900.0


class FetchError(Exception):
    """The kernel can't be had; the text says why and what to do."""


def run(*argv: str, cwd: Path | None = None) -> str:
    """The output of a command. Raises FetchError."""
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=STEP_TIMEOUT,
        )
    except FileNotFoundError:
        raise FetchError(f"{argv[0]} not found: run tools/setup run") from None
    except subprocess.TimeoutExpired:
        raise FetchError(f"{' '.join(argv)} did not end within {STEP_TIMEOUT:.0f} s") from None
    if done.returncode:
        raise FetchError(f"{' '.join(argv)} failed: {done.stderr.strip()}")
    return done.stdout


def kernel_package() -> str:
    """The package that holds the current kernel, which PACKAGE depends on."""
    for line in run("apt-cache", "depends", "--important", PACKAGE).splitlines():
        kind, _, name = line.strip().partition(": ")
        if kind == "Depends" and name.startswith("linux-image-"):
            return name
    raise FetchError(f"apt knows no {PACKAGE}: run apt-get update")


def uncompressed(image: bytes) -> bytes:
    """The ELF kernel in a bzImage compressed by xz, at payload_offset of its set-up header.

    Offsets: Documentation/x86/boot.rst of Linux. Raises FetchError for another compression.
    """
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    payload = image[(setup_sectors + 1) * 512 + offset :][:length]
    try:
        # After the xz stream come four bytes, the length of what it unpacks to.
        kernel = lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(payload)
    except lzma.LZMAError as error:
        raise FetchError(f"the kernel image can't be unpacked: {error}") from None
    if kernel[:4] != b"\x7fELF":
        raise FetchError("the kernel image holds no ELF kernel")
    return kernel


def ordered(names: tuple[str, ...], dependencies: str) -> list[str]:
    """The paths of the named modules, each after those it needs.

    `dependencies` is the text of modules.dep: `PATH: PATHS it needs`. Names may be written with
    `-` or `_`; those that the kernel has built in are left out.
    """
    needs: dict[str, list[str]] = {}
    for line in dependencies.splitlines():
        path, _, needed = line.partition(":")
        needs[path] = needed.split()
    by_name = {Path(path).stem.replace("-", "_"): path for path in needs}
    paths: dict[str, None] = {}

    def add(path: str) -> None:
        if path not in paths:
            for needed in reversed(needs[path]):
                add(needed)
            paths[path] = None

    for name in names:
        if found := by_name.get(name.replace("-", "_")):
            add(found)
    return list(paths)


def download(package: str, work: Path) -> Path:
    """The directory in `work` to which a kernel's package is downloaded and unpacked.

    Raises FetchError.
    """
    tree = work / "tree"
    # As root: apt's own user can't write to `work`.
    run("apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package, cwd=work)
    run("dpkg-deb", "-x", str(next(work.glob("*.deb"))), str(tree))
    run("depmod", "-b", str(tree), package.removeprefix("linux-image-"))
    return tree


def copy_modules(base: Path, names: tuple[str, ...], target: Path) -> None:
    """Copy the named modules of the tree `base` to a directory, as hyperstart loads them."""
    for number, path in enumerate(ordered(names, (base / "modules.dep").read_text())):
        module = base / path
        shutil.copyfile(module, target / f"{number:02}-{module.name}")


def unpack(package: str, work: Path) -> Path:
    """What `distribution/` is to hold, made in `work`."""
    release = package.removeprefix("linux-image-")
    tree = download(package, work)
    result = work / "result"
    (result / "modules").mkdir(parents=True)
    image = (tree / f"boot/vmlinuz-{release}").read_bytes()
    (result / "vmlinuz").write_bytes(uncompressed(image))
    copy_modules(tree / "lib/modules" / release, MODULES, result / "modules")
    (result / "release").write_text(f"{release}\n")
    return result


def fetch(cache: Path) -> None:
    """Leave the distribution's kernel in the cache, unless this script left it there before."""
    target = cache / "distribution"
    inputs = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".distribution.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = target / ".inputs"
        if stamp.exists() and stamp.read_text() == inputs:
            return
        package = kernel_package()
        print(f"distribution kernel: downloading {package}", flush=True)
        with tempfile.TemporaryDirectory(prefix=".distribution.", dir=cache) as work:
            result = unpack(package, Path(work))
            (result / ".inputs").write_text(inputs)
            if target.exists():
                target.rename(Path(work, "old"))
            result.rename(target)


def main() -> int:
    """Fetch the kernel unless it is there."""
    parser = argparse.ArgumentParser(description="fetch Debian's kernel for VMs")
    parser.add_argument(
        "--cache", type=Path, default=Path(os.environ.get("HYPER_CACHE", "/var/cache/hyper"))
    )
    try:
        fetch(parser.parse_args().cache)
    except (FetchError, OSError) as error:
        print(f"distribution kernel: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
