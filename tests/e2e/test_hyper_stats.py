"""What containers use and run: `hyper stats`, `hyper top`."""

import json

import pytest

from tests.e2e.command_line import Hyper, until
from tests.e2e.hyperd_process import Hyperd

pytestmark = pytest.mark.timeout(120)


def test_stats_and_top(hyperd: Hyperd) -> None:
    hyper, client = Hyper(hyperd.socket), hyperd.client
    script = "dd if=/dev/zero of=/dev/shm/x bs=1M count=8 2>/dev/null; echo up; while :; do :; done"
    busy = hyper.text("run", "-d", "--name=busy", "busybox", "sh", "-c", script)
    hyper.text("run", "-d", "--name=idle", "busybox", "sleep", "1000")
    until(lambda: hyper("logs", "busy").stdout == b"up\n")

    stream = client.stats(["busy", "idle"])
    used = [0, 0]
    while not used[0] > 10 * used[1]:
        first, second = next(stream)
        assert (first["name"], second["name"]) == ("/busy", "/idle")
        assert first["preread"] < first["read"]
        used = [
            s["cpu_stats"]["cpu_usage"]["total_usage"]
            - s["precpu_stats"]["cpu_usage"]["total_usage"]
            for s in (first, second)
        ]
    assert 8 << 20 < first["memory_stats"]["usage"] <= first["memory_stats"]["limit"] == 128 << 20
    assert first["pids_stats"]["current"] == 1
    assert first["vm"]["memory_rss"] > 16 << 20
    (line,) = client._http.request(
        "GET", "/container/stats", {"container": "busy", "stream": False, "one-shot": True}
    ).lines()
    assert line["id"] == busy and not line["precpu_stats"]["system_cpu_usage"]

    header, *lines = hyper.text("stats", "--no-stream").splitlines()
    assert header.split("  ")[0] == "CONTAINER ID" and "MEM USAGE / LIMIT" in header
    assert sorted(line.split()[1] for line in lines) == ["busy", "idle"]
    (text,) = hyper.text("stats", "--no-stream", "--format=json", "busy").splitlines()
    shown = json.loads(text)
    assert shown["ID"] == busy[:12] and float(shown["CPUPerc"].rstrip("%")) > 0
    assert shown["MemUsage"].endswith(" / 128MiB")
    terminal = hyper.on_terminal("stats", "busy", columns=150)
    try:
        terminal.expect(b"MEM USAGE / LIMIT")
        terminal.expect(b"/ 128MiB")
        terminal.send(b"\x03")
        assert terminal.end() == 130
    finally:
        terminal.close()

    pod = client._get("/pod/stats", {"podId": "busy"})
    assert pod["memory"]["usage"] > 8 << 20 and len(pod["containersStats"]) == 1

    exec_id = client.create_exec("idle", ["sleep", "777"], detach=True)
    client.start_exec_detached("idle", exec_id)
    header, *rows = hyper.text("top", "idle").splitlines()
    assert header.split() == ["UID", "PID", "PPID", "RSS", "TIME", "CMD"]
    assert sorted(row.split(maxsplit=5)[5] for row in rows) == ["sleep 1000", "sleep 777"]
    refused = hyper("top", "idle", "-ef")
    assert refused.returncode == 125 and b"ps is not used" in refused.stderr

    hyper.text("pause", "idle")
    (line,) = next(client.stats(["idle"], stream=False))
    assert line["memory_stats"] == {}
    stopped = hyper("top", "idle")
    assert stopped.returncode == 1 and b"container idle is paused" in stopped.stderr
    hyper.text("rm", "-f", "busy", "idle")
    assert hyper.text("stats", "--no-stream", "--format=json") == ""
