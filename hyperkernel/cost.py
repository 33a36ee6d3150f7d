"""Measures what each group of the kernel's options costs, in size and in the time of a boot.

    python -m hyperkernel.cost            # builds the kernel, ten minutes; then five more
    python -m hyperkernel.cost --table    # only writes the table of docs/kernel.md

The kernel is built once. For each group Kconfig says which options go with it; Kbuild's makefiles
say which of the linked objects hang on those. What these objects have of code and data, and how
much smaller all objects are compressed without them, is the group's size. Its time is that of its
objects' initcalls, as the kernel itself times them while a VM boots under emulation. What an option
changes inside of other objects (`#ifdef`) is not in the figures; the table names the options that
do nothing else. docs/kernel.md has more on the method.
"""

import argparse
import json
import lzma
import os
import shutil
import sys
from pathlib import Path
from typing import Any, TypedDict

from . import build
from .flavours import QEMU
from .groups import Group, as_fragment, groups, options_of
from .initcalls import times
from .kbuild import gates, linked_objects, read_sections

FIGURES = Path(__file__).with_name("cost.json")
PAGE = Path(__file__).parents[1] / "docs" / "kernel.md"
BEGIN, END = "<!-- begin: written by hyperkernel/cost.py -->", "<!-- end -->"
WHOLE = ""
"""The name in cost.json of the kernel as it is."""
_BOOTS = 9
# What the kernel's own scripts/xz_wrap.sh asks of xz for x86.
_XZ: list[dict[str, Any]] = [
    {"id": lzma.FILTER_X86},
    {"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 32 << 20},
]


class Cost(TypedDict):
    """A group: bytes, milliseconds, and what is not in the figures."""

    stored: int
    zeros: int
    compressed: int
    boot_ms: float
    objects: int
    unseen: list[str]
    """Options of the group that only change other objects."""
    lost: list[str]
    """The groups that Kconfig does not take without this one."""


def needed() -> list[Group]:
    """The groups of the kernel."""
    return groups(QEMU.fragment())


def built_tree(work: Path) -> Path:
    """The tree of the kernel as it is, with all objects; built unless it is there."""
    tree, log = work / "source", work / "build.log"
    if not (tree / "Makefile").exists():
        tree.mkdir(parents=True)
        build.unpack(QEMU, tree, log)
    build.configure(QEMU, tree, log)
    compiler = ["CC=ccache gcc"] if shutil.which("ccache") else []
    jobs = f"-j{len(os.sched_getaffinity(0))}"
    command = build.make(QEMU, *compiler, jobs, "vmlinux", Path(QEMU.image).name)
    build.run("nice", "-n", "15", *command, cwd=tree, log=log)
    return tree


def options_without(name: str, tree: Path, work: Path) -> dict[str, str]:
    """The options that Kconfig makes of the kernel's groups without one."""
    wanted, config = work / "wanted.config", work / "without.config"
    wanted.write_text(as_fragment(options_of([part for part in needed() if part.name != name])))
    files = (f"KCONFIG_ALLCONFIG={wanted}", f"KCONFIG_CONFIG={config}")
    build.run(*build.make(QEMU, *files, "allnoconfig"), cwd=tree)
    return build.parse_options(config.read_text())


def measure(work: Path) -> dict[str, Cost]:
    """The figures of all groups, and of the whole kernel."""
    tree = built_tree(work)
    paths = linked_objects(tree)
    sections = {path: read_sections(tree / path) for path in paths}
    hanging = gates(tree)
    vmlinux = work / "vmlinux"
    build.run("strip", "--strip-all", "-o", str(vmlinux), "vmlinux", cwd=tree)
    took = times(tree, vmlinux, paths, _BOOTS)
    built = build.parse_options((tree / ".config").read_text())
    on = {name for name, value in built.items() if value != "n"}
    seen = {name for path in paths for one in hanging.get(path, []) for name in one}

    def cost(part: Group | None) -> Cost:
        left = options_without(part.name, tree, work) if part else {}
        gone = {name for name in on if left.get(name, "n") == "n"}
        away = {
            path
            for path in paths
            if part is None or (path in hanging and all(one & gone for one in hanging[path]))
        }
        rest = b"".join(sections[path].stored for path in paths if path not in away)
        others = [other for other in needed() if part and other.name != part.name]
        return Cost(
            stored=sum(len(sections[path].stored) for path in away),
            zeros=sum(sections[path].zeros for path in away),
            compressed=whole_compressed - _compressed_size(rest),
            boot_ms=round(sum(took.get(path, 0.0) for path in away), 2),
            objects=len(away),
            unseen=sorted(set(part.options) & gone - seen) if part else [],
            lost=[other.name for other in others if gone & set(other.options)],
        )

    whole_compressed = _compressed_size(b"".join(sections[path].stored for path in paths))
    found = {WHOLE: cost(None)}
    found[WHOLE]["boot_ms"] = round(sum(took.values()), 2)
    for part in needed():
        if part.name != "base":
            found[part.name] = cost(part)
            print(f"{part.name}: {found[part.name]}", flush=True)
    return found


def _compressed_size(data: bytes) -> int:
    """Bytes of code and data compressed as bzImage is."""
    return len(lzma.compress(data, check=lzma.CHECK_CRC32, filters=_XZ))


def table(found: dict[str, Cost]) -> str:
    """The table of docs/kernel.md, in Markdown."""
    whole = found[WHOLE]
    lines = [
        f"All {whole['objects']} objects: {whole['stored'] / 1e3:.0f} kB,"
        f" {whole['compressed'] / 1e3:.0f} kB compressed, {whole['zeros'] / 1e3:.0f} kB of zeros in"
        f" memory; all initcalls: {whole['boot_ms']:.1f} ms.",
        "",
        "| group | what needs it | kB | compressed, kB | boot, ms | only inside of other objects"
        " | goes with it |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(_row(part, found[part.name]) for part in needed() if part.name in found),
    ]
    return "\n".join(lines) + "\n"


def _row(part: Group, cost: Cost) -> str:
    unseen = ", ".join(name.removeprefix("CONFIG_") for name in cost["unseen"])
    cells = [
        *(part.name, part.feature),
        *(f"{cost['stored'] / 1e3:.0f}", f"{cost['compressed'] / 1e3:.0f}"),
        *(f"{cost['boot_ms']:.1f}", unseen, ", ".join(cost["lost"])),
    ]
    return f"| {' | '.join(cells)} |"


def figures() -> dict[str, Cost]:
    """What was measured, by group."""
    found: dict[str, Cost] = json.loads(FIGURES.read_text())
    return found


def page() -> str:
    """docs/kernel.md with the table of the figures that were measured."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(figures())}{END}{after}"


def main() -> int:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(prog="hyperkernel.cost", description="what options cost")
    parser.add_argument("--table", action="store_true", help="only write the table")
    cache = Path(os.environ.get("HYPER_CACHE", "/var/cache/hyper"))
    parser.add_argument("--work", type=Path, default=cache / "kernel-cost", help="keeps 3 GB")
    arguments = parser.parse_args()
    if not arguments.table:
        try:
            found = measure(arguments.work)
        except (build.BuildError, RuntimeError) as error:
            print(f"cost: {error}", file=sys.stderr)
            return 1
        FIGURES.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
