"""The Debian system of a lab machine: its root, kernel and initramfs, made once and kept.

The root is mmdebstrap's tar stream as a squashfs. The kernel is Debian's own, unpacked and not
installed, so that no initramfs is made that nothing starts from.
"""

import hashlib
import re
import shlex
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO, NamedTuple

from hyperkernel import distribution
from hyperkernel.initrd import DIRECTORIES, Entry, archive, without_signature

from . import layers
from .cache import Cache
from .errors import LabError

RELEASE = "bookworm"
# To be counted up when an image is made in another way.
_RECIPE = 1
REPOSITORY = Path(__file__).parents[1]
_BUSYBOX = Path("/bin/busybox")
_GUEST = Path(__file__).with_name("guest")
_DIRECTORIES = ("bin", "lab", "layers", "modules", "root", "scratch")
# What the machine needs for mounting its root.
_MODULES = (
    *("virtio_pci", "virtio_blk", "squashfs", "overlay", "ext4", "crc32c_generic"),
    *("virtio_console", "tun"),
)
# Sources for Debian that are not Debian's, as tools/fresh-machine knows them.
_OTHERS = re.compile(r"^(deb|URIs:).*(cloud|node|docker)", re.M)
_UNUSED = ("man", "doc", "locale", "info", "lintian", "bug")


class Wanted(NamedTuple):
    """A system: Debian packages, and files of /boot to be had outside, such as a hypervisor, by
    their names without `.gz`."""

    name: str
    packages: tuple[str, ...]
    boot_files: tuple[str, ...] = ()


class Image(NamedTuple):
    """A system that was made: `root.squashfs`, `vmlinux`, `modules` and the boot files."""

    directory: Path

    @property
    def root(self) -> Path:
        """The lowest layer of the root."""
        return self.directory / "root.squashfs"

    @property
    def kernel(self) -> Path:
        """Debian's kernel, uncompressed."""
        return self.directory / "vmlinux"

    def initramfs(self) -> bytes:
        """What mounts the root, and brings the lab's own part of the guest."""
        entries = [Entry(name, stat.S_IFDIR | 0o755) for name in (*DIRECTORIES, *_DIRECTORIES)]
        entries.append(Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)))
        files = {"bin/busybox": _BUSYBOX, "init": _GUEST / "initramfs"}
        files |= {f"lab/{path.name}": path for path in sorted(_GUEST.iterdir())}
        files |= {f"modules/{path.name}": path for path in sorted(self._modules.iterdir())}
        for name, path in files.items():
            entries.append(Entry(name, stat.S_IFREG | 0o755, path.read_bytes()))
        return archive(entries)

    @property
    def _modules(self) -> Path:
        return self.directory / "modules"


def packages_of(part: str) -> tuple[str, ...]:
    """The Debian packages that tools/setup installs for one of its parts. Raises LabError."""
    tool = REPOSITORY / "tools" / "setup"
    done = subprocess.run([tool, "--packages", part], capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise LabError(f"{tool} has no packages of {part}: {done.stderr.strip()}")
    return tuple(done.stdout.split())


def build(cache: Cache, wanted: Wanted) -> Image:
    """The image of `wanted`; made when the cache lacks it. Raises LabError."""

    def make(directory: Path) -> None:
        print(f"lab: making the Debian system `{wanted.name}` (minutes, once)", flush=True)
        begin = time.monotonic()
        _make(wanted, directory)
        size = sum(path.stat().st_size for path in directory.iterdir()) >> 20
        print(f"lab: made in {time.monotonic() - begin:.0f} s, {size} MiB", flush=True)

    return Image(cache.get(wanted.name, _key(wanted), make))


def _key(wanted: Wanted) -> str:
    inputs = (_RECIPE, RELEASE, wanted, _MODULES, _UNUSED)
    return hashlib.sha256(repr(inputs).encode()).hexdigest()[:20]


def _make(wanted: Wanted, result: Path) -> None:
    with tempfile.TemporaryDirectory(dir=result.parent) as name:
        try:
            package = distribution.kernel_package()
            release = package.removeprefix("linux-image-")
            tree = distribution.download(package, Path(name))
            image = (tree / f"boot/vmlinuz-{release}").read_bytes()
            (result / "vmlinux").write_bytes(distribution.uncompressed(image))
        except distribution.FetchError as error:
            raise LabError(str(error)) from error
        modules = tree / "lib/modules" / release
        _copy_modules(modules, result / "modules")
        _make_root(wanted, modules, result)


def _copy_modules(modules: Path, target: Path) -> None:
    """Those that the initramfs loads, named in their order."""
    target.mkdir()
    paths = distribution.ordered(_MODULES, (modules / "modules.dep").read_text())
    for number, path in enumerate(paths):
        module = modules / path
        data = without_signature(module.read_bytes())
        (target / f"{number:02}-{module.name}").write_bytes(data)


def _make_root(wanted: Wanted, modules: Path, result: Path) -> None:
    """mmdebstrap's tar stream as a squashfs, with the modules; the boot files beside it."""
    kept, source = shlex.quote(str(result)), shlex.quote(str(modules))
    hooks = [f"mkdir -p $1/usr/lib/modules && cp -a {source} $1/usr/lib/modules/"]
    # QEMU starts no hypervisor that is compressed.
    hooks += [f"gzip -dc $1/boot/{name}.gz >{kept}/{name}" for name in wanted.boot_files]
    argv = [
        *("mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", "--format=tar"),
        f"--include={','.join(wanted.packages)}",
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _UNUSED),
        *(f"--customize-hook={hook}" for hook in hooks),
        *(RELEASE, "-", *_debian_sources()),
    ]

    def write(stream: IO[bytes]) -> None:
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.PIPE,
                timeout=layers.BOUND,
            )
        except FileNotFoundError:
            raise LabError("mmdebstrap not found: run tools/setup lab") from None
        except subprocess.TimeoutExpired:
            raise LabError(f"mmdebstrap did not end within {layers.BOUND:.0f} s") from None
        if done.returncode:
            raise LabError(f"mmdebstrap failed: {done.stderr.decode(errors='replace')[-1500:]}")

    layers.make(result / "root.squashfs", write)


def _debian_sources() -> list[str]:
    """The files of /etc/apt that lead to Debian's own packages. Raises LabError."""
    found = []
    parts = Path("/etc/apt/sources.list.d")
    for path in (
        Path("/etc/apt/sources.list"),
        *sorted(parts.glob("*.list")),
        *sorted(parts.glob("*.sources")),
    ):
        text = path.read_text() if path.exists() else ""
        debians = RELEASE in text or "debian-archive-keyring" in text
        if debians and not _OTHERS.search(text):
            found.append(str(path))
    if not found:
        raise LabError(f"no apt source of Debian's {RELEASE} in /etc/apt: add one")
    return found
