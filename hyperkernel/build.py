#!/usr/bin/env python3
"""Builds hyperkernel, the guest kernel, from Debian's linux-source package.

The result goes to `CACHE/kernel/KEY/{vmlinux,bzImage,config}`, where KEY is the hash of everything
that the result depends on, and `CACHE/hyperkernel` points there. CACHE is `/var/cache/hyper`, or
what HYPER_CACHE says. When the result for the key exists, nothing is built. See README.md.
"""

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SOURCE_PACKAGE = "linux-source-6.1"
TARBALL = Path(f"/usr/src/{SOURCE_PACKAGE}.tar.xz")
FRAGMENT = Path(__file__).with_name("x86_64.config")
RESULTS = ("vmlinux", "bzImage", "config")
# The unpacked sources and the objects of this configuration.
NEEDED_BYTES = 4 << 30
KEPT_KERNELS = 3
STEP_TIMEOUT = 3600.0
# Xen ELF note type 18, XEN_ELFNOTE_PHYS32_ENTRY: where QEMU enters a PVH kernel.
PVH_NOTE = "0x00000012"

OPTION = re.compile(r"^(CONFIG_\w+)=(.+)$|^# (CONFIG_\w+) is not set$")


class BuildError(Exception):
    """The kernel can't be built; the text says why and what to do."""


def parse_options(text: str) -> dict[str, str]:
    """The options of a kernel configuration or fragment by name; `n` for those not set."""
    options = {}
    for line in text.splitlines():
        if match := OPTION.match(line.strip()):
            name, value, unset = match.groups()
            options[unset or name] = "n" if unset else value
    return options


def dropped_options(fragment: str, config: str) -> list[str]:
    """The options of the fragment that Kconfig did not take, each as `NAME=wanted (is actual)`."""
    built = parse_options(config)
    return [
        f"{name}={wanted} (is {built.get(name, 'n')})"
        for name, wanted in parse_options(fragment).items()
        if built.get(name, "n") != wanted
    ]


def run(*argv: str, cwd: Path | None = None, log: Path | None = None) -> str:
    """Run a step of the build; its output goes to `log`, or is returned. Raises BuildError."""
    environment = {
        **os.environ,
        "LC_ALL": "C",
        "KBUILD_BUILD_TIMESTAMP": time.strftime("%F %T UTC", time.gmtime(source_date())),
        "KBUILD_BUILD_USER": "hyper",
        "KBUILD_BUILD_HOST": "hyper",
        "KBUILD_BUILD_VERSION": "1",
    }
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=STEP_TIMEOUT,
            text=True,
        )
    except FileNotFoundError:
        raise BuildError(f"{argv[0]} not found: run tools/setup kernel") from None
    except subprocess.TimeoutExpired:
        raise BuildError(f"{' '.join(argv)} did not end within {STEP_TIMEOUT:.0f} s") from None
    if log is not None:
        with log.open("a") as file:
            file.write(done.stdout)
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-20:])
        where = f"\nthe whole log is {log}" if log else ""
        raise BuildError(f"{' '.join(argv)} failed:\n{tail}{where}")
    return done.stdout


def source_date() -> float:
    """When Debian packed the sources: the build date that the kernel shows."""
    try:
        return TARBALL.stat().st_mtime
    except FileNotFoundError:
        raise BuildError(f"{TARBALL} not found: run tools/setup kernel") from None


def inputs_key() -> str:
    """The hash of all that the result depends on: sources, compiler, fragment, this script."""
    version = run("dpkg-query", "-W", "-f", "${Version}", SOURCE_PACKAGE)
    compiler = run("gcc", "--version").splitlines()[0]
    digest = hashlib.sha256()
    for part in (version, f"{source_date():.0f}", compiler):
        digest.update(part.encode() + b"\0")
    for file in (FRAGMENT, Path(__file__)):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:20]


def configure(tree: Path, log: Path) -> None:
    """`allnoconfig` plus the fragment. Raises BuildError when Kconfig dropped an option."""
    run("make", "allnoconfig", cwd=tree, log=log)
    run("scripts/kconfig/merge_config.sh", "-m", ".config", str(FRAGMENT), cwd=tree, log=log)
    run("make", "olddefconfig", cwd=tree, log=log)
    dropped = dropped_options(FRAGMENT.read_text(), (tree / ".config").read_text())
    if dropped:
        lines = "\n  ".join(dropped)
        raise BuildError(f"options of {FRAGMENT.name} that Kconfig did not take:\n  {lines}")


def compile_kernel(work: Path, results: Path, log: Path) -> None:
    """Unpack, configure and compile in `work`; leave the results in the directory `results`."""
    tree = work / "source"
    tree.mkdir()
    run("tar", "-xf", str(TARBALL), "-C", str(tree), "--strip-components=1", log=log)
    configure(tree, log)
    jobs = len(os.sched_getaffinity(0))
    run("make", f"-j{jobs}", "vmlinux", "bzImage", cwd=tree, log=log)
    results.mkdir()
    vmlinux = results / "vmlinux"
    run("strip", "--strip-all", "-o", str(vmlinux), "vmlinux", cwd=tree, log=log)
    if PVH_NOTE not in run("readelf", "--notes", str(vmlinux)):
        raise BuildError(f"{vmlinux} has no PVH note: QEMU could not start it")
    shutil.copyfile(tree / "arch/x86/boot/bzImage", results / "bzImage")
    shutil.copyfile(tree / ".config", results / "config")


def point_to(link: Path, target: str) -> None:
    """Make the symlink `link` point to `target`, in one step."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.symlink_to(target)
    temporary.replace(link)


def forget_old_kernels(kernels: Path, current: str) -> None:
    """Remove all but the newest few kernels; the current one always stays."""
    others = [path for path in kernels.iterdir() if path.is_dir() and path.name != current]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[KEPT_KERNELS - 1 :]:
        shutil.rmtree(path)


def complete(directory: Path) -> bool:
    return all((directory / name).is_file() for name in RESULTS)


def build(cache: Path) -> Path:
    """The directory of the kernel for the current inputs; built when the cache lacks it."""
    key = inputs_key()
    kernels = cache / "kernel"
    kernels.mkdir(parents=True, exist_ok=True)
    results = kernels / key
    with (cache / ".kernel.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("hyperkernel: another build is running, waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete(results):
            build_into(cache, results)
        point_to(cache / "hyperkernel", f"kernel/{key}")
        forget_old_kernels(kernels, key)
    return results


def build_into(cache: Path, results: Path) -> None:
    """Build under the lock, in a directory of the cache that is removed afterwards."""
    for stale in cache.glob("kernel-build.*/"):
        shutil.rmtree(stale)
    free = shutil.disk_usage(cache).free
    if free < NEEDED_BYTES:
        raise BuildError(
            f"{cache} has {free >> 20} MiB free and the build needs {NEEDED_BYTES >> 20}:"
            " make room, or set HYPER_CACHE"
        )
    print(f"hyperkernel: building {results} (about 5 minutes on 2 idle cores)", flush=True)
    start = time.monotonic()
    log = cache / "kernel-build.log"
    log.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="kernel-build.", dir=cache) as work:
        finished = Path(work, "results")
        compile_kernel(Path(work), finished, log)
        if results.exists():
            shutil.rmtree(results)
        finished.rename(results)
    size = (results / "vmlinux").stat().st_size / 1e6
    print(f"hyperkernel: built in {time.monotonic() - start:.0f} s, vmlinux {size:.1f} MB")


def main() -> int:
    """Build, or with `--key` only print the key of the inputs."""
    parser = argparse.ArgumentParser(description="build the guest kernel, unless it is built")
    parser.add_argument("--key", action="store_true", help="print the hash of the inputs and stop")
    parser.add_argument(
        "--cache", type=Path, default=Path(os.environ.get("HYPER_CACHE", "/var/cache/hyper"))
    )
    arguments = parser.parse_args()
    try:
        if arguments.key:
            print(inputs_key())
        else:
            print(f"hyperkernel: {build(arguments.cache)}")
    except (BuildError, OSError) as error:
        print(f"hyperkernel: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
