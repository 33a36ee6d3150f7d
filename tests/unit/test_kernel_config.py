"""hyperkernel's configuration: what the build checks, and that the built kernel has it all."""

import os
import subprocess
from pathlib import Path

import pytest

from hyperkernel import build, cost, flavours, kbuild
from hyperkernel.flavours import FLAVOURS, QEMU, Flavour
from hyperkernel.groups import Group, as_fragment, groups


def test_options_are_read_in_each_of_their_forms() -> None:
    text = '# a comment\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C="-hyper"\n\nCONFIG_D=64\n'
    assert build.parse_options(text) == {
        "CONFIG_A": "y",
        "CONFIG_B": "n",
        "CONFIG_C": '"-hyper"',
        "CONFIG_D": "64",
    }


@pytest.mark.parametrize(
    ("fragment", "config", "dropped"),
    [
        ("CONFIG_A=y", "CONFIG_A=y", []),
        ("CONFIG_A=y", "# CONFIG_A is not set", ["CONFIG_A=y (is n)"]),
        ("CONFIG_A=y", "", ["CONFIG_A=y (is n)"]),
        ("CONFIG_A=n", "", []),
        ("# CONFIG_A is not set", "CONFIG_A=y", ["CONFIG_A=n (is y)"]),
        ('CONFIG_S="x"', 'CONFIG_S="y"', ['CONFIG_S="x" (is "y")']),
        ("CONFIG_N=64", "CONFIG_N=1\nCONFIG_M=64", ["CONFIG_N=64 (is 1)"]),
    ],
)
def test_an_option_that_kconfig_dropped_is_named(
    fragment: str, config: str, dropped: list[str]
) -> None:
    assert build.dropped_options(fragment, config) == dropped


@pytest.mark.parametrize("flavour", FLAVOURS.values(), ids=FLAVOURS)
def test_no_option_and_no_group_stands_twice(flavour: Flavour) -> None:
    lines = [line for line in flavour.fragment().splitlines() if build.OPTION.match(line)]
    assert len(build.parse_options("\n".join(lines))) == len(lines)
    names = [part.name for part in groups(flavour.fragment())]
    assert len(set(names)) == len(names)


def test_groups_are_read_in_their_order() -> None:
    text = "# why\n\n# -- first: a feature\nCONFIG_A=y\n# a remark\nCONFIG_B=n\n# -- 9p: another\n"
    first = Group("first", "a feature", {"CONFIG_A": "y", "CONFIG_B": "n"})
    assert groups(text) == [first, Group("9p", "another", {})]
    assert as_fragment(first.options) == "CONFIG_A=y\n"


def test_an_option_outside_of_a_group_is_an_error() -> None:
    with pytest.raises(ValueError, match="CONFIG_A=y is before the first group"):
        groups("CONFIG_A=y\n# -- first: a feature\n")


def test_an_object_hangs_on_the_options_of_its_directories_and_of_what_it_is_linked_into(
    tmp_path: Path,
) -> None:
    files = {
        "Kbuild": "obj-y += core/\nobj-$(CONFIG_NET) += net/\n",
        "core/Makefile": "obj-y := a.o \\\n  b.o\nifdef CONFIG_SMP\nobj-y += smp.o\nendif\n",
        "net/Makefile": (
            "obj-y += sock.o\nobj-$(CONFIG_SIX) += six.o\nobj-$(CONFIG_FOUR) += both.o\n"
            "obj-$(CONFIG_SIX) += both.o\nsix-y := one.o\nsix-$(CONFIG_DEEP) += deep.o\n"
        ),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    net = "CONFIG_NET"
    assert kbuild.gates(tmp_path) == {
        "core/a.o": [frozenset()],
        "core/b.o": [frozenset()],
        "core/smp.o": [frozenset({"CONFIG_SMP"})],
        "net/sock.o": [frozenset({net})],
        "net/one.o": [frozenset({net, "CONFIG_SIX"})],
        "net/deep.o": [frozenset({net, "CONFIG_SIX", "CONFIG_DEEP"})],
        "net/both.o": [frozenset({net, "CONFIG_FOUR"}), frozenset({net, "CONFIG_SIX"})],
    }


def test_sections_of_an_object_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text('char zeros[4096]; const char text[] = "stored";\n')
    subprocess.run(["gcc", "-c", "a.c"], cwd=tmp_path, check=True, timeout=60)
    found = kbuild.read_sections(tmp_path / "a.o")
    assert found.zeros == 4096 and b"stored\0" in found.stored
    with pytest.raises(ValueError, match=r"a\.c is no ELF file"):
        kbuild.read_sections(tmp_path / "a.c")


def test_the_table_of_costs_is_that_of_the_figures_and_has_every_group() -> None:
    assert cost.PAGE.read_text() == cost.page(), "run `python -m hyperkernel.cost --table`"
    assert set(cost.figures()) == {part.name for part in cost.needed()} - {"base"} | {cost.WHOLE}


def test_the_built_kernel_has_every_option_of_the_fragment() -> None:
    cache = Path(os.environ.get("HYPER_CACHE", "/var/cache/hyper"))
    try:
        config = cache / "kernel" / build.inputs_key() / "config"
    except build.BuildError as error:
        pytest.skip(f"hyperkernel can't be built here: {error}")
    if not config.exists():
        pytest.skip("hyperkernel is not built: run `make hyperkernel`")
    assert build.dropped_options(QEMU.fragment(), config.read_text()) == []


def test_old_kernels_go_but_never_one_that_is_linked(tmp_path: Path) -> None:
    for number in range(10):
        directory = tmp_path / "kernel" / f"k{number}"
        directory.mkdir(parents=True)
        os.utime(directory, (number, number))
    build.point_to(tmp_path / "hyperkernel", "kernel/k9")
    build.point_to(tmp_path / "hyperkernel-other", "kernel/k0")
    build.forget_old_kernels(tmp_path)
    left = {path.name for path in (tmp_path / "kernel").iterdir()}
    assert left == {"k0", "k3", "k4", "k5", "k6", "k7", "k8", "k9"}


def test_what_is_to_be_fast_is_told_to_its_own_makefile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mm/slub.c", "mm/Makefile", "fs/slub.c", "fs/Makefile"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("obj-y += slub.o")
    monkeypatch.setattr(flavours, "FRAGMENTS", tmp_path)
    flavour = Flavour("f", (), fast="list")
    (tmp_path / "list").write_text("# why\n\nmm/slub.o\n")
    build.speed_up(flavour, tmp_path)
    assert (tmp_path / "mm/Makefile").read_text() == "obj-y += slub.o\nCFLAGS_slub.o += -O2\n"
    assert (tmp_path / "fs/Makefile").read_text() == "obj-y += slub.o"
    (tmp_path / "list").write_text("mm/slob.o\n")
    with pytest.raises(build.BuildError, match=r"list: mm/slob\.o: the sources have no such file"):
        build.speed_up(flavour, tmp_path)


@pytest.mark.parametrize("flavour", FLAVOURS.values(), ids=FLAVOURS)
def test_no_object_is_to_be_fast_twice(flavour: Flavour) -> None:
    objects = flavour.fast_objects()
    assert objects == sorted(set(objects))
    assert all(path.endswith(".o") for path in objects)
