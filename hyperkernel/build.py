"""Builds hyperkernel, the guest kernel, from Debian's linux-source package.

The result goes to `CACHE/kernel/KEY/{vmlinux,bzImage,config}`, where KEY is the hash of everything
that the result depends on, and `CACHE/hyperkernel` points there. CACHE is `/var/cache/hyper`, or
what HYPER_CACHE says. When the result for the key exists, nothing is built. `--flavour NAME` builds
another kernel of flavours.py, and the link is `CACHE/hyperkernel-NAME`. See README.md.
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

from .flavours import FLAVOURS, QEMU, Flavour

SOURCE_PACKAGE = "linux-source-6.1"
TARBALL = Path(f"/usr/src/{SOURCE_PACKAGE}.tar.xz")
# The unpacked sources and the objects of this configuration.
NEEDED_BYTES = 4 << 30
KEPT_KERNELS = 6
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


def inputs_key(flavour: Flavour = QEMU) -> str:
    """The hash of all that the result depends on: sources, compiler, options, this script."""
    version = run("dpkg-query", "-W", "-f", "${Version}", SOURCE_PACKAGE)
    compiler = run(f"{flavour.cross}gcc", "--version").splitlines()[0]
    digest = hashlib.sha256()
    options = (repr(flavour), flavour.fragment(), *flavour.fast_objects())
    for part in (version, f"{source_date():.0f}", compiler, *options):
        digest.update(part.encode() + b"\0")
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()[:20]


def make(flavour: Flavour, *targets: str) -> list[str]:
    """The command that makes something in the sources for the flavour's machine."""
    machine = (f"ARCH={flavour.arch}", f"CROSS_COMPILE={flavour.cross}")
    return ["make", *machine, *flavour.settings, *targets]


def unpack(flavour: Flavour, tree: Path, log: Path) -> None:
    """Debian's sources into the directory `tree`, for the flavour."""
    run("tar", "-xf", str(TARBALL), "-C", str(tree), "--strip-components=1", log=log)
    speed_up(flavour, tree)


def speed_up(flavour: Flavour, tree: Path) -> None:
    """Have the fast objects of a flavour compiled so. Raises BuildError for one that is none."""
    for path in flavour.fast_objects():
        source = (tree / path).with_suffix(".c")
        if not source.is_file():
            raise BuildError(f"{flavour.fast}: {path}: the sources have no such file")
        with (source.parent / "Makefile").open("a") as makefile:
            makefile.write(f"\nCFLAGS_{source.stem}.o += -O2\n")


def configure(flavour: Flavour, tree: Path, log: Path) -> None:
    """Set the options of the flavour, all others to no. Raises BuildError if Kconfig drops one."""
    wanted = tree / "wanted.config"
    wanted.write_text(flavour.fragment())
    # Not merge_config.sh, after which options that only experts see keep their defaults.
    run(*make(flavour, f"KCONFIG_ALLCONFIG={wanted}", "allnoconfig"), cwd=tree, log=log)
    dropped = dropped_options(flavour.fragment(), (tree / ".config").read_text())
    if dropped:
        lines = "\n  ".join(dropped)
        names = ", ".join(flavour.fragments)
        raise BuildError(f"options of {names} that Kconfig did not take:\n  {lines}")


def compile_kernel(flavour: Flavour, work: Path, results: Path, log: Path) -> None:
    """Unpack, configure and compile in `work`; leave the results in the directory `results`."""
    tree = work / "source"
    tree.mkdir()
    unpack(flavour, tree, log)
    configure(flavour, tree, log)
    jobs = f"-j{len(os.sched_getaffinity(0))}"
    image = Path(flavour.image)
    run(*make(flavour, jobs, "vmlinux", image.name), cwd=tree, log=log)
    results.mkdir()
    vmlinux = results / "vmlinux"
    strip = (f"{flavour.cross}strip", "--strip-all")
    run(*strip, "-o", str(vmlinux), "vmlinux", cwd=tree, log=log)
    if flavour.entered_by_pvh and PVH_NOTE not in run("readelf", "--notes", str(vmlinux)):
        raise BuildError(f"{vmlinux} has no PVH note: QEMU could not start it")
    shutil.copyfile(tree / image, results / image.name)
    shutil.copyfile(tree / ".config", results / "config")


def point_to(link: Path, target: str) -> None:
    """Make the symlink `link` point to `target`, in one step."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.symlink_to(target)
    temporary.replace(link)


def forget_old_kernels(cache: Path) -> None:
    """Remove all but the newest few kernels; those that a link points to always stay."""
    linked = {link.resolve() for link in cache.glob("hyperkernel*") if link.is_symlink()}
    kernels = [path for path in (cache / "kernel").resolve().iterdir() if path.is_dir()]
    others = [path for path in kernels if path not in linked]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[KEPT_KERNELS:]:
        shutil.rmtree(path)


def complete(directory: Path, flavour: Flavour) -> bool:
    return all((directory / name).is_file() for name in flavour.results)


def build(cache: Path, flavour: Flavour = QEMU) -> Path:
    """The directory of the kernel for the current inputs; built when the cache lacks it."""
    key = inputs_key(flavour)
    kernels = cache / "kernel"
    kernels.mkdir(parents=True, exist_ok=True)
    results = kernels / key
    with (cache / ".kernel.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("hyperkernel: another build is running, waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete(results, flavour):
            build_into(cache, flavour, results)
        point_to(cache / flavour.link, f"kernel/{key}")
        forget_old_kernels(cache)
    return results


def build_into(cache: Path, flavour: Flavour, results: Path) -> None:
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
        compile_kernel(flavour, Path(work), finished, log)
        if results.exists():
            shutil.rmtree(results)
        finished.rename(results)
    sizes = [f"{name} {(results / name).stat().st_size:,} bytes" for name in flavour.results[:2]]
    print(f"hyperkernel: built in {time.monotonic() - start:.0f} s: {', '.join(sizes)}")


def main() -> int:
    """Build, or with `--key` only print the key of the inputs."""
    parser = argparse.ArgumentParser(description="build the guest kernel, unless it is built")
    parser.add_argument(
        "--flavour", choices=FLAVOURS, default=QEMU.name, help="another kernel than QEMU's"
    )
    parser.add_argument("--key", action="store_true", help="print the hash of the inputs and stop")
    parser.add_argument(
        "--cache", type=Path, default=Path(os.environ.get("HYPER_CACHE", "/var/cache/hyper"))
    )
    arguments = parser.parse_args()
    flavour = FLAVOURS[arguments.flavour]
    try:
        if arguments.key:
            print(inputs_key(flavour))
        else:
            print(f"hyperkernel: {build(arguments.cache, flavour)}")
    except (BuildError, OSError) as error:
        print(f"hyperkernel: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
