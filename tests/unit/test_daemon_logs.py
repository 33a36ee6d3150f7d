"""Reading json-file logs: filters, tails, rotation while following."""

import asyncio
import json
import struct
from pathlib import Path

import pytest

from hypercontainer.daemon.logfiles import LogReader, Mark, Query
from hypercontainer.daemon.logs import parse_time, read
from hypercontainer.errors import BadRequest
from hypercontainer.sandbox.logs import JsonFile, LogSink


def entry(text: str, stream: str = "stdout", second: int = 0) -> str:
    time = f"2026-01-02T03:04:{second:02d}.123456789Z"
    return json.dumps({"log": text, "stream": stream, "time": time}) + "\n"


async def whole(path: Path, query: Query, *, raw: bool = True) -> bytes:
    return b"".join([piece async for piece in read(path, query, raw=raw, follow=None)])


async def test_streams_times_and_frames(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text(entry("one\n") + entry("two\n", "stderr", 1) + entry("three", second=2))
    assert await whole(path, Query()) == b"one\ntwo\nthree"
    assert await whole(path, Query(stdout=False)) == b"two\n"
    stamped = await whole(path, Query(stderr=False, timestamps=True))
    assert stamped.startswith(b"2026-01-02T03:04:00.123456789Z one\n")
    framed = await whole(path, Query(), raw=False)
    assert framed[:12] == struct.pack(">BxxxI", 1, 4) + b"one\n"
    assert framed[12:24] == struct.pack(">BxxxI", 2, 4) + b"two\n"


async def test_since_and_tail(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("".join(entry(f"{n}\n", second=n) for n in range(10)))
    since = parse_time("2026-01-02T03:04:07.123456789Z", "since")
    assert await whole(path, Query(since=since)) == b"7\n8\n9\n"
    assert await whole(path, Query(since=since + 1)) == b"8\n9\n"
    assert await whole(path, Query(tail=2)) == b"8\n9\n"
    assert await whole(path, Query(tail=0)) == b""


async def test_rotated_files_come_first_and_torn_lines_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "x.log.10").write_text(entry("a\n"))
    (tmp_path / "x.log.2").write_text(entry("b\n"))
    (tmp_path / "x.log.1").write_text(entry("c\n") + '{"log": "torn')
    (tmp_path / "x.log").write_text("not json\n" + entry("d\n"))
    (tmp_path / "x.log.old").write_text(entry("no\n"))
    assert await whole(tmp_path / "x.log", Query()) == b"a\nb\nc\nd\n"


async def test_a_missing_log_is_empty(tmp_path: Path) -> None:
    assert await whole(tmp_path / "none", Query()) == b""


@pytest.mark.timeout(20)
async def test_following_what_the_sandbox_writes_through_rotations(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    sink = LogSink(JsonFile(str(path), max_size=2000, max_file=3))
    running = True

    async def write_all() -> None:
        nonlocal running
        for number in range(200):
            sink.write(1, b"line %d\n" % number)
            if number % 5 == 0:
                await asyncio.sleep(0.06)
        running = False

    sink.write(1, b"before\n")
    writing = asyncio.create_task(write_all())
    text = b"".join([p async for p in read(path, Query(), raw=True, follow=lambda: running)])
    await writing
    await sink.close()
    lines = text.decode().splitlines()
    assert lines[0] == "before"
    assert lines[1:] == [f"line {n}" for n in range(200)]


def test_a_truncated_file_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text(entry("first\n") * 3)
    reader = LogReader(path, Query())
    assert len(list(reader.lines())) == 3
    with path.open("r+") as file:
        file.truncate(0)
        file.write(entry("second\n"))
    lines = [line.text for line in (*reader.lines(), *reader.lines())]
    reader.close()
    assert lines == ["second\n"]


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("12.5", 12_500_000_000),
        ("1970-01-01T00:00:01Z", 10**9),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:00.000000007Z", 7),
    ],
)
def test_times(text: str, nanoseconds: int) -> None:
    assert parse_time(text, "since") == nanoseconds


@pytest.mark.parametrize("text", ["yesterday", "-1", "1e9", "2026-13-01"])
def test_bad_times(text: str) -> None:
    with pytest.raises(BadRequest, match="since: "):
        parse_time(text, "since")


async def test_a_long_tail_through_files_and_blocks(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    lines = [f"{n} " + "x" * (n * 37 % 3000) + "\n" for n in range(300)]
    streams = ["stderr" if n % 7 == 0 else "stdout" for n in range(300)]
    entries = [entry(t, s) for t, s in zip(lines, streams, strict=True)]
    (tmp_path / "x.log.2").write_text("".join(entries[:100]))
    (tmp_path / "x.log.1").write_text("".join(entries[100:180]) + "torn")
    path.write_text("".join(entries[180:]))
    for tail in (1, 2, 119, 120, 121, 150, 299, 300, 301, 10**6):
        assert (await whole(path, Query(tail=tail))).decode() == "".join(lines[-tail:])
    errors = [t for t, s in zip(lines, streams, strict=True) if s == "stderr"]
    for tail in (1, 20, 43, 44):
        found = (await whole(path, Query(stdout=False, tail=tail))).decode()
        assert found == "".join(errors[-tail:])


async def test_until(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("".join(entry(f"{n}\n", second=n) for n in range(10)))
    until = parse_time("2026-01-02T03:04:03.123456789Z", "until")
    assert await whole(path, Query(until=until)) == b"0\n1\n2\n3\n"
    assert await whole(path, Query(until=until, since=until, tail=5)) == b"3\n"
    assert await whole(path, Query(until=until, tail=1)) == b"3\n"
    assert await whole(path, Query(until=1)) == b""
    pieces = [p async for p in read(path, Query(until=until), raw=True, follow=lambda: True)]
    assert b"".join(pieces) == b"0\n1\n2\n3\n", "following ends at until"


async def test_details(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    sink = LogSink(JsonFile(str(path), attrs={"b": "2,=", "a": "1"}))
    sink.write(1, b"text\n")
    assert await whole(path, Query()) == b"text\n"
    assert await whole(path, Query(details=True)) == b"a=1,b=2%2C%3D text\n"


@pytest.mark.parametrize("files", [1, 3])
async def test_up_to_a_mark_whatever_comes_after(tmp_path: Path, files: int) -> None:
    path = tmp_path / "x.log"
    sink = LogSink(JsonFile(str(path), max_size=1000, max_file=files))
    for number in range(5):
        sink.write(1, b"line %d\n" % number)
    sink.write(1, b"unfin")
    sink.write(2, b"\xffo")
    found = sink.mark()
    mark = Mark(found["inode"], found["size"])
    assert found["unfinished"] == {"stdout": "unfin", "stderr": "\udcffo"}
    for number in range(5 if files == 1 else 14):
        sink.write(1, b"later %d\n" % number)
    pieces = [p async for p in read(path, Query(), raw=True, follow=None, end=mark)]
    assert b"".join(pieces) == b"".join(b"line %d\n" % n for n in range(5))
    pieces = [p async for p in read(path, Query(tail=2), raw=True, follow=None, end=mark)]
    assert b"".join(pieces) == b"line 3\nline 4\n"


async def test_rotated_twice_between_two_looks(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    sink = LogSink(JsonFile(str(path), max_size=300, max_file=4))
    sink.write(1, b"first\n")
    reader = LogReader(path, Query())
    assert [line.text for line in reader.lines()] == ["first\n"]
    for number in range(9):
        sink.write(1, b"%d\n" % number)
    assert len(list(tmp_path.iterdir())) == 4
    assert [line.text for line in reader.lines()] == [f"{n}\n" for n in range(9)]
    reader.close()
