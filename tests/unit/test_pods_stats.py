"""Statistics of what a guest sends, which may be anything."""

import json

from hypercontainer.cli.stats import binary_size, cpu_percent
from hypercontainer.pods.stats import EMPTY, Sample, number, numbers, stats, titles_and_rows
from tests.unit.test_pods_oci import make

NET = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes packets errs drop
    lo:    10 1 0 0 0 0 0 0 10 1 0 0 0 0 0 0
  eth0: 1000 10 1 2 0 0 0 0 2000 20 3 4 0 0 0 0
"""
FILES = {
    "cpu.stat": "usage_usec 500\nuser_usec 300\nsystem_usec 200\nnr_periods 1\n",
    "memory.current": "4096\n",
    "memory.max": "max\n",
    "memory.stat": "anon 1000\ninactive_file 96\n",
    "pids.current": "3\n",
    "pids.max": "max\n",
    "io.stat": "8:0 rbytes=512 wbytes=1024 rios=1 wios=1\n8:16 \n",
    "net.dev": NET,
}


def test_dockers_form() -> None:
    pod, container = make()
    last = Sample("t0", 10**9, {**FILES, "cpu.stat": "usage_usec 0"}, {})
    this = Sample("t1", 10**9 + 1_000_000, FILES, {"memory_rss": 5})
    found = stats(pod, container, last, this)
    assert json.loads(json.dumps(found)) == found
    assert (found["read"], found["preread"], found["name"]) == ("t1", "t0", "/web_1")
    assert found["cpu_stats"]["cpu_usage"] == {
        "total_usage": 500_000,
        "usage_in_kernelmode": 200_000,
        "usage_in_usermode": 300_000,
    }
    assert cpu_percent(found) == 50.0
    assert found["memory_stats"] == {
        "usage": 4096,
        "limit": 128 << 20,
        "stats": {"anon": 1000, "inactive_file": 96},
    }
    assert found["pids_stats"] == {"current": 3}
    assert [e["value"] for e in found["blkio_stats"]["io_service_bytes_recursive"]] == [
        *(512, 1024),
        *(0, 0),
    ]
    assert found["networks"] == {
        "eth0": {
            "rx_bytes": 1000,
            "rx_packets": 10,
            "rx_errors": 1,
            "rx_dropped": 2,
            "tx_bytes": 2000,
            "tx_packets": 20,
            "tx_errors": 3,
            "tx_dropped": 4,
        }
    }
    assert found["vm"] == {"memory_rss": 5}
    assert cpu_percent(stats(pod, container, EMPTY, this)) == 0.0


def test_rubbish_is_nothing() -> None:
    pod, container = make()
    files = dict.fromkeys(FILES, "\x00 -1 9e99 ٣\n: = x" * 1000)
    found = stats(pod, container, EMPTY, Sample("t", 5, files, {}))
    assert len(json.dumps(found)) < 20_000
    assert number("9" * 20) == (1 << 64) - 1
    assert number("9" * 21) == number("-1") == number("٣") == 0
    assert numbers("a b c\n\x1b[2J 5\nx 7") == {"a": 0, "x": 7}
    assert len(numbers("".join(f"a{n} 1\n" for n in range(10_000)))) == 512


def test_processes() -> None:
    listed = [
        {"pid": 7, "ppid": 1, "uid": 0, "rss": 400, "cpu": 3_661_999, "cmd": "sh -c x"},
        {"pid": "x", "ppid": -4, "cmd": None},
    ]
    titles, rows = titles_and_rows(listed)
    assert titles == ["UID", "PID", "PPID", "RSS", "TIME", "CMD"]
    assert rows == [
        ["0", "7", "1", "400", "01:01:01", "sh -c x"],
        ["0", "0", "0", "0", "00:00:00", "?"],
    ]


def test_sizes() -> None:
    assert [binary_size(n) for n in (0, 1023, 1 << 20, 5 << 29)] == [
        *("0B", "1023B", "1MiB", "2.5GiB"),
    ]
