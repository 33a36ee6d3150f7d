"""hyperkernel's configuration: what the build checks, and that the built kernel has it all."""

import os
from pathlib import Path

import pytest

from hyperkernel import build
from hyperkernel.flavours import QEMU


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


def test_no_option_stands_twice_in_the_fragment() -> None:
    lines = [line for line in QEMU.fragment().splitlines() if build.OPTION.match(line)]
    assert len(build.parse_options("\n".join(lines))) == len(lines)


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
