"""Output and its sinks, and the log in Docker's json-file format."""

import asyncio
import json
import os
import re
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypercontainer.guest.streams import OutputStream, StreamChannel
from hypercontainer.sandbox.logs import JsonFile, LogSink
from hypercontainer.sandbox.stdio import STDERR, STDOUT, Output


class Collector:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.data = b""
        self.ends = 0
        self.is_blocked = False

    def blocked(self, which: int) -> bool:
        return self.is_blocked

    def write(self, which: int, data: bytes) -> None:
        self.data += data

    def end(self, which: int) -> None:
        self.ends += 1


class Stream(OutputStream):
    """An output stream that counts what it grants."""

    def __init__(self) -> None:
        super().__init__(StreamChannel(lambda reason: None), 1)
        self.granted = 0

    def grant(self, count: int) -> None:
        self.granted += count
        super().grant(count)


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_output_that_holds_waits_for_its_first_sink_and_grants_nothing() -> None:
    stream = Stream()
    output = Output(stream, STDOUT, hold=True)
    assert output.waiting
    stream.receive(b"early ")
    assert stream.granted == 0
    sink = Collector()
    output.attach(sink)
    assert not output.waiting
    stream.receive(b"late")
    assert sink.data == b"early late"
    assert stream.granted == 10


def test_a_sink_that_comes_after_the_end_gets_all_and_the_end() -> None:
    stream = Stream()
    output = Output(stream, STDOUT, hold=True)
    stream.receive(b"all")
    stream.receive(b"")
    assert output.waiting
    sink = Collector()
    output.attach(sink)
    assert (sink.data, sink.ends) == (b"all", 1)


def test_output_without_hold_is_dropped_without_a_sink() -> None:
    stream = Stream()
    output = Output(stream, STDOUT, hold=False)
    stream.receive(b"nobody")
    sink = Collector()
    output.attach(sink)
    assert sink.data == b""
    assert stream.granted == 6


def test_each_sink_gets_a_copy_and_one_that_is_blocked_stops_the_stream() -> None:
    stream = Stream()
    output = Output(stream, STDOUT, hold=False)
    free, stuck = Collector(), Collector()
    output.attach(free)
    output.attach(stuck)
    stuck.is_blocked = True
    stream.receive(b"12345")
    assert free.data == stuck.data == b"12345"
    assert stream.granted == 0
    stuck.is_blocked = False
    output.unblocked()
    assert stream.granted == 5


def test_a_blocked_sink_that_leaves_lets_the_stream_go_on() -> None:
    stream = Stream()
    output = Output(stream, STDOUT, hold=False)
    stuck = Collector()
    stuck.is_blocked = True
    output.attach(stuck)
    stream.receive(b"12345")
    output.detach(stuck)
    output.detach(stuck)
    assert stream.granted == 5


@pytest.mark.parametrize("hold", [True, False])
def test_at_the_end_all_is_taken_though_nobody_reads_but_not_without_bound(hold: bool) -> None:
    stream = Stream()
    output = Output(stream, STDOUT, hold=hold)
    stuck = Collector()
    stuck.is_blocked = True
    if not hold:
        output.attach(stuck)
    stream.receive(bytes(65536))
    assert stream.granted == 0
    output.drain()
    sent = 65536
    while stream.granted >= sent:
        stream.receive(bytes(65536))
        sent += 65536
    assert stream.granted == 1 << 20
    if hold:
        output.attach(stuck)
    assert len(stuck.data) == sent


def test_the_log_has_dockers_form(tmp_path: Path) -> None:
    log = LogSink(JsonFile(str(tmp_path / "log")))
    log.write(STDOUT, b"one\ntw")
    log.write(STDERR, b"error\n")
    log.write(STDOUT, b"o\n\n")
    found = entries(tmp_path / "log")
    assert [(e["stream"], e["log"]) for e in found] == [
        ("stdout", "one\n"),
        ("stderr", "error\n"),
        ("stdout", "two\n"),
        ("stdout", "\n"),
    ]
    for entry in found:
        assert list(entry) == ["log", "stream", "time"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", entry["time"])


def test_a_last_line_without_its_end_is_logged_at_the_end(tmp_path: Path) -> None:
    log = LogSink(JsonFile(str(tmp_path / "log")))
    log.write(STDOUT, b"no newline")
    assert entries(tmp_path / "log") == []
    log.end(STDOUT)
    log.end(STDOUT)
    assert [e["log"] for e in entries(tmp_path / "log")] == ["no newline"]


def test_a_long_line_is_cut_at_16_kib(tmp_path: Path) -> None:
    log = LogSink(JsonFile(str(tmp_path / "log")))
    log.write(STDOUT, b"x" * 40_000 + b"\n")
    lengths = [len(e["log"]) for e in entries(tmp_path / "log")]
    assert sum(lengths) == 40_001
    assert max(lengths) <= 16_385


def test_a_cut_never_splits_a_character(tmp_path: Path) -> None:
    text = "x" + "\u20ac" * 20_000
    log = LogSink(JsonFile(str(tmp_path / "log")))
    log.write(STDOUT, text.encode())
    log.end(STDOUT)
    assert "".join(e["log"] for e in entries(tmp_path / "log")) == text


def test_binary_output_is_logged_as_text_that_json_can_hold(tmp_path: Path) -> None:
    log = LogSink(JsonFile(str(tmp_path / "log")))
    log.write(STDOUT, bytes(range(256)) + b"\n")
    assert len(entries(tmp_path / "log")) == 2


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300), st.integers(1, 40))
@settings(deadline=None, max_examples=50)
def test_no_character_is_lost_however_it_comes(
    tmp_path_factory: pytest.TempPathFactory, text: str, size: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    log = LogSink(JsonFile(str(path)))
    data = text.encode()
    for start in range(0, len(data), size):
        log.write(STDOUT, data[start : start + size])
    log.end(STDOUT)
    asyncio.run(log.close())
    assert "".join(e["log"] for e in entries(path)) == text


def test_rotation_keeps_the_newest_and_no_more_files_than_told(tmp_path: Path) -> None:
    log = LogSink(JsonFile(str(tmp_path / "log"), max_size=1000, max_file=3))
    for number in range(100):
        log.write(STDOUT, f"line {number:03}\n".encode())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    kept = [e["log"] for name in ("log.2", "log.1", "log") for e in entries(tmp_path / name)]
    assert kept == [f"line {n:03}\n" for n in range(100 - len(kept), 100)]
    for path in tmp_path.iterdir():
        assert path.stat().st_size <= 1000


def test_rotation_with_one_file_starts_it_anew(tmp_path: Path) -> None:
    log = LogSink(JsonFile(str(tmp_path / "log"), max_size=500, max_file=1))
    for number in range(50):
        log.write(STDOUT, f"line {number:03}\n".encode())
    assert [p.name for p in tmp_path.iterdir()] == ["log"]
    assert entries(tmp_path / "log")[-1]["log"] == "line 049\n"


def test_a_log_that_is_there_already_is_continued(tmp_path: Path) -> None:
    for text in (b"first\n", b"second\n"):
        log = LogSink(JsonFile(str(tmp_path / "log")))
        log.write(STDOUT, text)
        asyncio.run(log.close())
    assert [e["log"] for e in entries(tmp_path / "log")] == ["first\n", "second\n"]


def test_a_rotation_that_fails_loses_lines_and_writes_nowhere_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = LogSink(JsonFile(str(tmp_path / "log"), max_size=200, max_file=2))
    (tmp_path / "log.1").mkdir()
    log.write(STDOUT, b"x" * 100 + b"\n")
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    log.write(STDOUT, b"y" * 100 + b"\n")
    log.write(STDOUT, b"z\n")
    assert os.fstat(other).st_size == 0
    os.close(other)
    (tmp_path / "log.1").rmdir()
    log.write(STDOUT, b"again\n")
    assert entries(tmp_path / "log")[-1]["log"] == "again\n"
    assert "log" in capsys.readouterr().err


def test_a_full_disk_loses_lines_and_raises_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    log = LogSink(JsonFile("/dev/full"))
    log.write(STDOUT, b"a line\n")
    log.end(STDOUT)
    asyncio.run(log.close())
    assert "No space left on device" in capsys.readouterr().err


def test_a_disk_that_fills_up_keeps_whole_lines_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = LogSink(JsonFile(str(tmp_path / "log")))
    log.write(STDOUT, b"first\n")
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "log").stat().st_size + 20, limit[1]))
    try:
        log.write(STDOUT, b"second\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, ignored)
    log.write(STDOUT, b"third\n")
    assert [e["log"] for e in entries(tmp_path / "log")] == ["first\n", "third\n"]
    assert "log" in capsys.readouterr().err
