"""runv's command line: as runc's, errors on stderr and in the log that engines read."""

import fcntl
import json
import os
import re
from pathlib import Path

import pytest

from hypercontainer.errors import BadRequest, Conflict
from hypercontainer.oci import records
from hypercontainer.oci.lifecycle import parse_signal
from hypercontainer.oci.main import main, parser


@pytest.fixture
def root(tmp_path: Path) -> list[str]:
    return ["--root", str(tmp_path / "root")]


def lines(text: str) -> int:
    return len(text.strip().splitlines())


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.match(r"runv version \S+\ncommit: \S+\nspec: 1\.\S+\n", capsys.readouterr().out)


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "create" in capsys.readouterr().out


def test_the_program_of_exec_keeps_its_own_flags() -> None:
    args = parser().parse_args(["exec", "x", "ls", "-t", "--force", "--", "-d"])
    assert (args.args, args.tty, args.detach) == (["ls", "-t", "--force", "--", "-d"], False, False)


@pytest.mark.parametrize("argv", [["state"], ["list", "--format", "xml"], ["--odd"]])
def test_a_wrong_command_line_is_one_line_and_exit_code_1(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("runv: ")
    assert lines(captured.err) == 1


@pytest.mark.parametrize(
    "command",
    [["state"], ["start"], ["kill"], ["delete"], ["pause"], ["resume"], ["ps"], ["exec"]],
)
def test_an_unknown_container(
    root: list[str], command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*root, *command, "missing", *(["true"] if command == ["exec"] else [])]) != 0
    assert capsys.readouterr().err == "runv: container does not exist: missing\n"


def test_delete_with_force_of_what_is_not_there_is_fine(
    root: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*root, "delete", "--force", "missing"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("cid", ["..", ".", "a/b", "../x", "", "a b", "a\n", "ä", "x" * 1025])
@pytest.mark.parametrize("command", [["state"], ["delete", "--force"], ["kill"], ["create"]])
def test_ids_that_are_paths_or_worse_are_refused(
    root: list[str],
    cid: str,
    command: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    (tmp_path / "config.json").write_text(
        '{"ociVersion": "1.0.2", "root": {"path": "."}, "process": {"args": ["x"]}}'
    )
    bundle = ["--bundle", str(tmp_path)] if command == ["create"] else []
    assert main([*root, *command, *bundle, cid]) == 1
    assert "invalid container id format" in capsys.readouterr().err


def test_an_id_longer_than_a_file_name_is_refused(
    root: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*root, "state", "x" * 300]) == 1
    assert lines(capsys.readouterr().err) == 1


@pytest.mark.parametrize("form", ["json", "text"])
def test_errors_go_to_the_log_too(root: list[str], form: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    main([*root, "--log", str(log), "--log-format", form, "state", "missing"])
    before, line = log.read_text().splitlines()
    assert before == "before"
    if form == "json":
        entry = json.loads(line)
        assert entry["level"] == "error"
        assert entry["msg"] == "container does not exist: missing"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", entry["time"])
    else:
        assert 'level=error msg="container does not exist: missing"' in line


def test_a_log_that_can_not_be_written_does_not_hide_the_error(
    root: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*root, "--log", "/nowhere/log", "state", "missing"]) == 1
    err = capsys.readouterr().err
    assert "cannot write the log /nowhere/log" in err
    assert "container does not exist: missing" in err


@pytest.mark.parametrize("command", ["checkpoint", "restore"])
def test_what_a_vm_can_not_says_so(
    root: list[str], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*root, command, "--work-path", "/w", "x"]) == 1
    assert f"{command} is not supported" in capsys.readouterr().err


def test_a_word_that_is_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["fly"], ["--root", "state", "fly", "-h"], ["help", "fly"]):
        assert main(argv) != 0
        captured = capsys.readouterr()
        assert captured.err == "runv: No help topic for 'fly'\n"


def test_each_command_has_help_in_the_form_of_runc(capsys: pytest.CaptureFixture[str]) -> None:
    for command in "create run start exec kill delete state list ps update events spec".split():
        with pytest.raises(SystemExit) as caught:
            main([command, "-h"])
        assert caught.value.code == 0
        shown = capsys.readouterr().out.splitlines()
        assert shown[0] == "NAME:"
        assert f"runv {command} - " in shown[1]
        assert main(["help", command]) == 0
        assert capsys.readouterr().out.splitlines() == shown


@pytest.mark.parametrize("form", [[], ["--format", "json"], ["--quiet"]])
def test_an_empty_list(
    root: list[str], form: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*root, "list", *form]) == 0
    out = capsys.readouterr().out
    assert {"": ["ID"], "json": ["[]"], "--quiet": []}[form[-1] if form else ""] == out.split()[:1]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("9", 9),
        ("64", 64),
        ("KILL", 9),
        ("SIGKILL", 9),
        ("sigterm", 15),
        ("TERM", 15),
        ("WINCH", 28),
        ("RTMIN", 34),
        ("RTMIN+3", 37),
        ("SIGRTMAX", 64),
        ("CHLD", 17),
    ],
)
def test_signals(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize(
    "text", ["65", "-1", "", "SIG", "FOO", "SIG_DFL", "_IGN", "RTMIN+99", "9.5", "٣"]
)
def test_unknown_signals(text: str) -> None:
    with pytest.raises(BadRequest, match="unknown signal"):
        parse_signal(text)


def test_one_command_at_a_time_changes_a_container(tmp_path: Path) -> None:
    lock = records.reserve(str(tmp_path), "x")
    with pytest.raises(Conflict, match="already exists"):
        records.reserve(str(tmp_path), "x")
    os.close(lock)
    with (
        records.locked(str(tmp_path), "x"),
        (tmp_path / "x" / "lock").open() as other,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
