"""Command lines: values, flags that combine, and where option parsing stops."""

import argparse
from pathlib import Path

import pytest

from hypercontainer.cli import arguments, mounts, run
from hypercontainer.cli.arguments import Parser, UsageError
from hypercontainer.cli.commands import ALIASES, COMMANDS
from hypercontainer.cli.logs import moment
from hypercontainer.cli.main import command_parser, main


@pytest.mark.parametrize(
    ("text", "mib"),
    [
        ("128", 128),
        ("128m", 128),
        ("128MB", 128),
        ("128MiB", 128),
        ("1g", 1024),
        ("1.5G", 1536),
        ("262144k", 256),
        ("134217728b", 128),
        ("1b", 1),
        ("1025k", 2),
        ("1t", 1 << 20),
    ],
)
def test_memory(text: str, mib: int) -> None:
    assert arguments.memory_mib(text) == mib


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "1x", "m", "1 gig", "0.0g", "1e3", "inf", "\u0661"]
)
def test_bad_memory(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a size"):
        arguments.memory_mib(text)


def test_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "from us")
    monkeypatch.delenv("UNSET", raising=False)
    file = tmp_path / "env"
    file.write_text("# a comment\n\nA=file\nB=b=c # kept\n  OURS\nUNSET\n")
    assert arguments.environment(["A=flag", "EMPTY="], [str(file)]) == {
        "A": "flag",
        "B": "b=c # kept",
        "OURS": "from us",
        "EMPTY": "",
    }


@pytest.mark.parametrize("item", ["=x", "", "A B=c"])
def test_bad_environment(item: str) -> None:
    with pytest.raises(UsageError, match="is not NAME=VALUE"):
        arguments.environment([item], [])


def test_env_file_names_itself(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone.*no such file"):
        arguments.environment([], [str(tmp_path / "gone")])
    bad = tmp_path / "bad"
    bad.write_text("A=1\n=2\n")
    with pytest.raises(UsageError, match=r"bad, line 2"):
        arguments.environment([], [str(bad)])


def test_volume(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    vfs = {"source": "/src", "format": "vfs"}
    assert mounts.volume("/src:/data:ro") == {"path": "/data", "readOnly": True, "detail": vfs}
    assert mounts.volume("/src:/data:rw")["readOnly"] is False
    assert mounts.volume("/data") == {"path": "/data", "readOnly": False}
    assert mounts.volume("named:/data")["detail"] == {"name": "named"}
    relative = mounts.volume("./here:/data")["detail"]
    assert relative == {"source": str(tmp_path / "here"), "format": "vfs"}


@pytest.mark.parametrize("item", ["", ":", "a:b", "/a:/b:rx", "/a:/b:ro:ro", "/a:", ":/b", "rel"])
def test_bad_volume(item: str) -> None:
    with pytest.raises(UsageError, match="--volume"):
        mounts.volume(item)


def parse(command: str, *argv: str) -> argparse.Namespace:
    parser = command_parser("hyper", command)
    assert parser is not None
    return parser.parse_args(list(argv))


@pytest.mark.parametrize(
    "inner",
    [
        ["ls", "-l", "--color"],
        ["-it", "--rm"],
        ["sh", "-c", "echo -n $0", "--", "x"],
        ["--", "echo"],
        ["--help"],
        ["echo", "", " ", "-"],
    ],
)
def test_options_end_at_the_image(inner: list[str]) -> None:
    args = parse("run", "-it", "-e", "A=1", "-m1g", "busybox", *inner)
    assert (args.interactive, args.tty, args.env, args.memory) == (True, True, ["A=1"], 1024)
    assert arguments.split_command(args.operands) == ("busybox", inner)


def test_double_dash_before_the_image() -> None:
    args = parse("run", "-i", "--", "busybox", "-x")
    assert arguments.split_command(args.operands) == ("busybox", ["-x"])


def test_exec_keeps_the_flags_of_its_command() -> None:
    args = parse("exec", "-itw/tmp", "-u", "1:2", "web", "sh", "-c", "id", "-u")
    assert (args.workdir, args.user) == ("/tmp", "1:2")
    assert arguments.split_command(args.operands) == ("web", ["sh", "-c", "id", "-u"])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["run", "--fo", "busybox"], "unknown option or argument: --fo"),
        (["run", "--ent", "x", "busybox"], "unknown option or argument: --ent"),
        (["run"], "required: IMAGE"),
        (["run", "-m", "lots", "busybox"], "'lots' is not a size"),
        (["run", "--cpu", "0", "busybox"], "whole number of virtual CPUs"),
        (["run", "--pull", "maybe", "busybox"], "maybe"),
        (["run", "-d", "-a", "stdout", "busybox"], "exclude each other"),
        (["run", "-v", "nowhere", "busybox"], "is not an absolute path"),
        (["exec", "web"], "which command?"),
        (["stop", "-t", "soon", "web"], "is not a number of seconds"),
        (["logs", "--tail", "few", "web"], "neither a number nor 'all'"),
        (["nonsense"], "'nonsense' is not a command"),
        (["lst"], "did you mean 'list'?"),
        (["--bad"], "unknown option or argument: --bad"),
        (["-H", "http://x", "list"], "expected unix:///path or tcp://host:port"),
        (["help", "nonsense"], "is not a command"),
    ],
)
def test_usage_errors(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code = main(argv)
    out, err = capsys.readouterr()
    assert message in err
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("hyper: ")
    assert code == (1 if argv[0] == "-H" else 125)


@pytest.mark.parametrize("command", [*COMMANDS, *ALIASES])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: hyper ")
    if command != "help":
        assert main(["help", command]) == 0
        assert capsys.readouterr().out.strip() == out.strip()


def test_general_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in COMMANDS)
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == out


def test_pod_of_a_command_line() -> None:
    args = parse(
        "run", "-i", "--rm", "--name", "web", "-e", "A=1", "-v", "/s:/d:ro", "--entrypoint", "",
        "-w", "/tmp", "-u", "www:www", "-m", "1g", "--cpus", "2", "--hostname", "h", "-l", "a=b",
        "--read-only", "--stop-signal", "INT", "--stop-timeout", "0", "img", "-x",
    )  # fmt: skip
    image, command = arguments.split_command(args.operands)
    assert run.pod_spec(args, image, command) == {
        "id": "web",
        "hostname": "h",
        "labels": {"a": "b"},
        "autoRemove": True,
        "resource": {"vcpu": 2, "memory": 1024},
        "containers": [
            {
                "image": "img",
                "name": "web",
                "command": ["-x"],
                "entrypoint": [""],
                "envs": [{"env": "A", "value": "1"}],
                "workdir": "/tmp",
                "user": "www:www",
                "labels": {"a": "b"},
                "volumes": [
                    {"path": "/d", "readOnly": True, "detail": {"source": "/s", "format": "vfs"}}
                ],
                "StopSignal": "INT",
                "stopTimeout": 0,
                "readOnly": True,
                "stdin": True,
            }
        ],
    }


def test_a_bare_command_line_leaves_everything_to_the_image() -> None:
    args = parse("run", "img")
    assert run.pod_spec(args, "img", []) == {"containers": [{"image": "img", "stdin": False}]}


def test_since() -> None:
    import time

    assert moment("1700000000.5", "--since") == "1700000000.5"
    assert moment("2023-11-14T22:13:20Z", "--since") == "2023-11-14T22:13:20Z"
    assert abs(float(moment("1h30m", "--since")) - (time.time() - 5400)) < 5
    with pytest.raises(UsageError):
        moment("yesterday", "--since")


def test_parser_has_no_abbreviations() -> None:
    parser = Parser("x")
    parser.add_argument("--memory")
    with pytest.raises(UsageError):
        parser.parse_args(["--mem", "1"])
