"""What `ctr` does with a container, whichever shim runs it."""

import re
import time

from tests.engines.commands import until
from tests.engines.containerd import Containerd


def test_run(containerd: Containerd) -> None:
    done = containerd.run("sh", "-c", "echo out; echo err >&2; exit 42")
    assert done.code == 42
    assert (done.out, done.err.splitlines()[0]) == ("out\n", "err")
    with open("/proc/sys/kernel/osrelease") as file:
        assert containerd.run("uname", "-r").out != file.read()


def test_a_missing_program(containerd: Containerd) -> None:
    done = containerd.run("nosuch")
    assert done.code != 0
    assert '"nosuch": executable file not found in $PATH' in done.err


def test_exec(containerd: Containerd) -> None:
    cid = containerd.start("sleep", "1000")
    done = containerd.ctr("task", "exec", "--exec-id", "x", cid, "sh", "-c", "echo in; exit 3")
    assert (done.code, done.out) == (3, "in\n")
    piped = containerd.ctr("task", "exec", "--exec-id", "y", cid, "cat", stdin=b"123\n")
    assert piped.out == "123\n"


def memory_usage(containerd: Containerd, cid: str) -> int:
    """Bytes, as `ctr task metrics` tells them."""
    metrics = containerd.check("task", "metrics", cid)
    usage = re.search(r"memory.usage_in_bytes\s+(\d+)|memory.usage\s+(\d+)", metrics)
    assert usage, metrics
    return int(usage.group(1) or usage.group(2))


def test_ps(containerd: Containerd) -> None:
    cid = containerd.start("sleep", "1000")
    listed = re.search(rf"{cid}\s+(\d+)\s+RUNNING", containerd.check("task", "ls"))
    assert listed
    assert listed.group(1) in containerd.check("task", "ps", cid).split()


def test_kill_and_delete(containerd: Containerd) -> None:
    cid = containerd.start("sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.1; done")
    time.sleep(1)
    containerd.check("task", "kill", "-s", "TERM", cid)
    until(lambda: "STOPPED" in containerd.check("task", "ls"), "the end")
    assert "exit code 9" in containerd.ctr("task", "delete", cid).err
    containerd.check("container", "rm", cid)


def test_pause(containerd: Containerd) -> None:
    cid = containerd.start("sleep", "1000")
    containerd.check("task", "pause", cid)
    assert "PAUSED" in containerd.check("task", "ls")
    containerd.check("task", "resume", cid)
    assert "RUNNING" in containerd.check("task", "ls")


def test_terminal(containerd: Containerd) -> None:
    cid = containerd.new_id()
    terminal = containerd.terminal(*containerd.run_arguments(cid, "-t", "--rm"), "sh")
    try:
        terminal.expect("# ")
        for _ in range(20):
            terminal.resize(40, 132)
            terminal.send("stty size\n")
            if terminal.expect(r"\d+ \d+\r+\n|standard input").strip() == "40 132":
                break
            time.sleep(0.2)
        else:
            raise AssertionError("no resize")
        terminal.send("exit 5\n")
        assert terminal.wait() == 5
    finally:
        terminal.close()


def test_exec_with_a_terminal(containerd: Containerd) -> None:
    cid = containerd.start("sleep", "1000")
    terminal = containerd.terminal("task", "exec", "-t", "--exec-id", "t", cid, "sh")
    try:
        terminal.expect("# ")
        terminal.send("tty; exit 6\n")
        terminal.expect("/dev/pts/0")
        assert terminal.wait() == 6
    finally:
        terminal.close()


def test_limits(containerd: Containerd) -> None:
    mount = ("--mount", "type=cgroup,src=cgroup,dst=/sys/fs/cgroup,options=ro")
    options = ("--memory-limit", str(64 << 20), "--cpus", "0.5", *mount)
    done = containerd.run(
        "sh", "-c", "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max", options=options
    )
    assert done.out == f"{64 << 20}\n50000 100000\n", done
