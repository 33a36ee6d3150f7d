"""Dockerfiles as they are read: lines, words, instructions, and what is wrong with them."""

from typing import Any

import pytest

from hypercontainer.build.dockerfile import parse
from hypercontainer.build.instructions import (
    Command,
    Copy,
    From,
    Healthcheck,
    Instruction,
    Program,
    Run,
)
from hypercontainer.build.settings import changed, with_changes
from hypercontainer.build.words import expand, split
from hypercontainer.errors import BadRequest, NotSupported


def instructions(text: str) -> list[Instruction]:
    """Those after a FROM."""
    return list(parse(f"FROM scratch\n{text}".encode()).instructions[1:])


def one(text: str) -> Any:
    (found,) = instructions(text)
    return found


def test_lines() -> None:
    text = (
        "# syntax=docker/dockerfile:1.4\r\n\r\n# a comment\r\nARG V=1\r\n"
        "from base:${V} as Build\r\n"
        'RUN echo a && \\\r\n  # between\r\n\r\n  echo b\r\nCMD ["x", "y z"]'
    )
    file = parse(text.encode())
    assert file.arguments[0].arguments == (("V", "1"),)
    first, run, cmd = file.instructions
    assert first == From(5, "FROM base:${V} as Build", "base:${V}", "build")
    assert isinstance(run, Run) and run.line == 6
    assert run.command == Command(script="echo a &&   echo b")
    assert isinstance(cmd, Program) and cmd.command == Command(("x", "y z"))


def test_another_escape() -> None:
    file = parse(b"# escape=`\nFROM scratch\nRUN a `\n b\nENV x=c:\\\\d\n")
    assert file.escape == "`"
    run, env = file.instructions[1:]
    assert isinstance(run, Run) and run.command.script == "a  b"
    assert changed({}, env, {}, file.escape)["Env"] == ["x=c:\\\\d"]


def test_here_documents() -> None:
    run = one("RUN <<EOF\necho a\n# no comment\n\techo $b\nEOF")
    assert run.command.script == "echo a\n# no comment\n\techo $b\n"
    run = one("RUN python3 <<-'X' > /out\n\tprint(1)\n\tX")
    assert run.command.script == "python3 <<-'X' > /out\nprint(1)\nX\n"
    copy = one("COPY <<a.txt <<b.txt /to/\n1\na.txt\n2\nb.txt")
    assert [(h.name, h.content) for h in copy.heredocs] == [("a.txt", "1\n"), ("b.txt", "2\n")]
    assert (copy.sources, copy.target) == ((), "/to/")


def test_copies() -> None:
    copy = one('COPY --from=build --chown=1:2 --chmod=0755 a "b c" /to/')
    assert isinstance(copy, Copy)
    assert (copy.stage, copy.chown, copy.chmod) == ("build", "1:2", "0755")
    assert copy.sources == ("a", '"b c"')
    add = one('ADD ["a b", "/x y"]')
    assert (add.add, add.sources, add.target) == (True, ("a b",), "/x y")


def test_a_health_check() -> None:
    check = one("HEALTHCHECK --interval=1m30s --retries=2 CMD test -e /x")
    assert check.times == {"Interval": 90 * 10**9} and check.retries == 2
    assert changed({}, check, {})["Healthcheck"] == {
        "Test": ["CMD-SHELL", "test -e /x"],
        "Interval": 90 * 10**9,
        "Retries": 2,
    }
    assert isinstance(one("HEALTHCHECK NONE"), Healthcheck)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no FROM"),
        ("RUN x", "line 1: the first instruction must be FROM"),
        ("FROM a b", "line 1: FROM takes IMAGE, or IMAGE AS NAME"),
        ("FROM a\n\nRUM x", "line 3: unknown instruction: RUM (did you mean RUN?)"),
        ("FROM a\nRUN", "line 2: RUN needs an argument"),
        ("FROM a\nRUN --mount=type=cache,target=/x y", "line 2: RUN --mount: not supported"),
        ("FROM a\nCOPY --link a b", "line 2: COPY --link: not supported"),
        ("FROM a\nCOPY --what=1 a b", "line 2: COPY has no option --what"),
        ("FROM a\nCOPY a", "line 2: COPY needs a source and a target"),
        ("FROM a\nADD https://x/y /z", "addresses are not supported as sources"),
        ("FROM a\nRUN <<EOF\nx", "line 2: the here-document EOF has no end"),
        ("FROM a\nENV x", "line 2: ENV needs NAME=VALUE"),
        ("FROM a\nENV x=1 y", "line 2: ENV: 'y' is not NAME=VALUE"),
        ("FROM a\nLABEL a='b", "line 2: a quotation mark ' is not closed"),
        ("FROM a\nSHELL sh", "line 2: SHELL needs a JSON array"),
        ("FROM a\nONBUILD FROM b", "line 2: ONBUILD FROM is not allowed"),
        ("FROM a\nHEALTHCHECK --interval=x CMD y", "'x' is not a duration"),
        ("# escape=x\nFROM a", "line 1: escape=x"),
        ("# syntax=evil/front\nFROM a", "line 1: syntax=evil/front"),
    ],
)
def test_what_is_wrong(text: str, reason: str) -> None:
    with pytest.raises((BadRequest, NotSupported)) as caught:
        parse(text.encode())
    assert reason in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$A-${A}b", "1-1b"),
        ("${B:-x}${B-y}${C:+z}${A:+w}${N:-n$A}", "xyw" + "n1"),
        ("'$A' \"$A\" \\$A", "$A 1 $A"),
        ('"a\\n" $', "a\\n $"),
        ("a\\ b", "a b"),
        ("$", "$"),
    ],
)
def test_variables(text: str, result: str) -> None:
    assert expand(text, {"A": "1", "C": "", "E": ""}) == result


@pytest.mark.parametrize("text", ["${", "${A", "${A:-", "${A!x}", "'a", "${B?no}", "${" * 50])
def test_bad_variables(text: str) -> None:
    with pytest.raises(BadRequest):
        expand(text, {"A": "1"})


def test_words() -> None:
    assert split("a 'b c'  d\\ e \"f g\"h") == ["a", "'b c'", "d\\ e", '"f g"h']


def test_changes() -> None:
    config: dict[str, Any] = {"Env": ["PATH=/bin", "A=1"], "WorkingDir": "/w"}
    new = with_changes(
        config,
        [
            "ENV A=2 B=${A}3",
            "WORKDIR x/../y",
            "EXPOSE 80 90-91/udp",
            "VOLUME /v w",
            "CMD echo $A",
            "LABEL a=b c='d e'",
            "user 1000:1000",
            "STOPSIGNAL SIGINT",
        ],
    )
    assert new["Env"] == ["PATH=/bin", "A=2", "B=13"]
    assert new["WorkingDir"] == "/w/y"
    assert list(new["ExposedPorts"]) == ["80/tcp", "90/udp", "91/udp"]
    assert list(new["Volumes"]) == ["/v", "/w/y/w"]
    assert new["Cmd"] == ["/bin/sh", "-c", "echo $A"]
    assert new["Labels"] == {"a": "b", "c": "d e"}
    assert (new["User"], new["StopSignal"]) == ("1000:1000", "SIGINT")
    assert config == {"Env": ["PATH=/bin", "A=1"], "WorkingDir": "/w"}
    for bad in ("RUN x", "EXPOSE 99999", "STOPSIGNAL NOPE", "ENV", "FROM x"):
        with pytest.raises(BadRequest, match=bad.split()[0]):
            with_changes({}, [bad])
