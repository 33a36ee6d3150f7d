"""Plain command lines mean without argparse what they mean with it; the others are left to it."""

import contextlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.oci.arguments import Arguments, parse_plain
from hypercontainer.oci.options import COMMANDS, FLAG, global_options
from hypercontainer.oci.parser import parse, parser

WORDS = ["x", "y-1", "9", "KILL", "", "-1", "-", "--", "a=b", "json", "5s", "/p", "-x", "-ad"]


def _flags(command: str) -> list[str]:
    options = (*global_options(), *COMMANDS[command].options)
    flags = [flag for option in options for flag in option.flags]
    return [*flags, *(f"{flag}=v" for flag in flags), *(f"{flag}=json" for flag in flags)]


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    command = draw(st.sampled_from(sorted(COMMANDS)))
    word = st.sampled_from([*WORDS, *_flags(command)])
    before = draw(st.lists(word, max_size=3))
    return [*before, command, *draw(st.lists(word, max_size=6))]


def _by_argparse(argv: list[str]) -> Arguments | None:
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            found = parse(argv)
        except SystemExit:
            return None
    return found if isinstance(found, Arguments) else None


@given(command_lines())
def test_whatever_is_taken_for_plain_means_what_argparse_says(argv: list[str]) -> None:
    plain = parse_plain(argv)
    if plain is None:
        return
    other = _by_argparse(argv)
    assert other is not None
    assert vars(plain) == vars(other)


@pytest.mark.parametrize(
    "argv",
    [
        [
            *("--root", "/r", "--log", "/l", "--log-format", "json"),
            *("create", "--bundle", "/b", "--pid-file", "/p", "--console-socket", "/c", "x"),
        ],
        ["--root", "/r", "--systemd-cgroup", "start", "x"],
        ["exec", "--process", "/p", "--detach", "--pid-file", "/q", "x"],
        ["exec", "-t", "-u", "1:2", "-e", "A=B", "--cwd", "/", "x", "sh", "-c", "echo --all"],
        ["kill", "--all", "x", "15"],
        ["kill", "x"],
        ["delete", "--force", "x"],
        ["ps", "--format", "json", "x"],
        ["run", "-d", "--bundle", ".", "x"],
        ["--root=/r", "--log-format=json", "state", "x"],
        ["--root=/r", "--log-format=json", "run", "-d", "--bundle", ".", "x"],
    ],
)
def test_what_engines_call_is_plain(argv: list[str]) -> None:
    assert parser().parse_args(argv).id == "x"
    plain = parse_plain(argv)
    assert plain is not None
    other = _by_argparse(argv)
    assert other is not None
    assert vars(plain) == vars(other)


@pytest.mark.parametrize("value", ["many", "-1", "²"])
def test_a_wrong_number_in_the_environment_is_argparses_to_tell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    monkeypatch.setenv("HYPER_CACHED_VMS", value)
    assert parse_plain(["start", "x"]) is None
    if value != "-1":
        with pytest.raises(SystemExit):
            parse(["start", "x"])
        assert "--cache" in capsys.readouterr().err


def test_every_flag_is_named_once() -> None:
    for command in COMMANDS.values():
        flags = [flag for option in command.options for flag in option.flags]
        assert len(flags) == len(set(flags))
        assert all(option.default is False for option in command.options if option.kind == FLAG)
