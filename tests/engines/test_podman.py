"""Podman with runv as its runtime."""

import time
from pathlib import Path

from tests.engines.commands import until
from tests.engines.podman import IMAGE, Podman


def test_output_and_exit_code(podman: Podman) -> None:
    done = podman.run(IMAGE, "sh", "-c", "echo out; echo err >&2; exit 42")
    assert done == (42, "out\n", "err\n")
    assert podman.run(IMAGE, "nosuch").code == 127
    assert podman.run(IMAGE, "/etc").code == 126


def test_it_is_a_virtual_machine(podman: Podman) -> None:
    with open("/proc/sys/kernel/osrelease") as file:
        assert podman.run(IMAGE, "uname", "-r").out != file.read()


def test_stdin(podman: Podman) -> None:
    assert podman.run("-i", IMAGE, "wc", "-c", stdin=b"x" * 100000).out == "100000\n"


def test_terminal(podman: Podman) -> None:
    terminal = podman.terminal("run", "--rm", "-it", *podman.group, IMAGE, "sh")
    try:
        terminal.expect("# ")
        for _ in range(20):
            terminal.resize(40, 132)
            terminal.send("stty size\n")
            if terminal.expect(r"\d+ \d+\r\n").strip() == "40 132":
                break
            time.sleep(0.2)
        else:
            raise AssertionError("no resize")
        terminal.send("exit 3\n")
        assert terminal.wait() == 3
    finally:
        terminal.close()


def test_exec(podman: Podman) -> None:
    name = podman.start("-e", "A=B", IMAGE, "sleep", "1000")
    assert podman.podman("exec", name, "sh", "-c", "echo $A; exit 3") == (3, "B\n", "")
    assert podman.podman("exec", "-i", name, "wc", "-c", stdin=b"12345").out == "5\n"
    assert podman.check("exec", "-u", "app", name, "id", "-u") == "1000\n"
    terminal = podman.terminal("exec", "-it", name, "sh")
    try:
        terminal.expect("# ")
        terminal.send("exit 7\n")
        assert terminal.wait() == 7
    finally:
        terminal.close()


def test_stop_kill_and_logs(podman: Podman) -> None:
    script = "trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.2; done"
    name = podman.start(IMAGE, "sh", "-c", script)
    until(lambda: "ready" in podman.check("logs", name), "the trap")
    podman.check("stop", name)
    assert podman.state(name)["ExitCode"] == 9
    assert podman.check("logs", name) == "ready\nbye\n"
    podman.check("start", name)
    podman.check("kill", name)
    assert podman.check("wait", name) == "137\n"
    podman.check("rm", name)


def test_pause_and_top(podman: Podman) -> None:
    name = podman.start(IMAGE, "sleep", "1234")
    assert "sleep 1234" in podman.check("top", name)
    podman.check("pause", name)
    assert podman.state(name)["Status"] == "paused"
    podman.check("unpause", name)
    assert podman.state(name)["Status"] == "running"


def test_copy(podman: Podman, tmp_path: Path) -> None:
    """Podman enters the mount namespace of the container's process: not the host's."""
    (tmp_path / "in").write_text("content\n")
    name = podman.start(IMAGE, "sleep", "1000")
    target = f"/tmp/{podman.name}"
    podman.check("cp", str(tmp_path / "in"), f"{name}:{target}")
    assert podman.check("exec", name, "cat", target) == "content\n"
    assert not Path(target).exists()
    podman.check("cp", f"{name}:{target}", str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "content\n"


def test_limits(podman: Podman) -> None:
    options = ("-m", "64m", "--pids-limit", "77", "--cpus", "0.5", "--ulimit", "nofile=100:200")
    script = "cd /sys/fs/cgroup; cat memory.max pids.max cpu.max; ulimit -n"
    assert podman.run(*options, IMAGE, "sh", "-c", script).out == (
        f"{64 << 20}\n77\n50000 100000\n100\n"
    )


def test_options(podman: Podman, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "file").write_text("host\n")
    options = ("--read-only", "--tmpfs", "/t", "--cap-drop", "all", "--user", "app", "--init")
    script = "cat /v/file; id -u; grep CapEff /proc/self/status; touch /t/x; touch /x"
    done = podman.run(*options, "-v", f"{tmp_path}:/v", IMAGE, "sh", "-c", script)
    assert done.out.split() == ["host", "1000", "CapEff:", "0" * 16]
    assert "Read-only file system" in done.err


def test_network(podman: Podman) -> None:
    name = podman.start(IMAGE, "sleep", "1000")
    assert "eth0" in podman.check("exec", name, "ip", "addr")
    route = podman.check("exec", name, "ip", "route")
    gateway = next(line.split()[2] for line in route.splitlines() if line.startswith("default"))
    podman.check("exec", name, "ping", "-c", "1", "-w", "20", gateway)
    assert "eth0" not in podman.run("--network", "none", IMAGE, "ip", "addr").out


def test_a_pod_shares_its_machine(podman: Podman) -> None:
    pod = podman.check("pod", "create", "--share", "ipc,net,uts", *podman.group).strip()
    server = "mkdir /tmp/w; echo page > /tmp/w/index.html; exec httpd -f -p 80 -h /tmp/w"
    first = podman.check("run", "-d", "--pod", pod, IMAGE, "sh", "-c", server).strip()
    fetch = r"sleep 1; printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 9 127.0.0.1 80; sleep 1000"
    second = podman.check("run", "-d", "--pod", pod, IMAGE, "sh", "-c", fetch).strip()
    until(lambda: "page" in podman.check("logs", second), "the page over localhost")
    podman.check("exec", first, "sh", "-c", "echo shared > /dev/shm/file")
    assert podman.check("exec", second, "cat", "/dev/shm/file") == "shared\n"
    names = {podman.check("exec", c, "hostname") for c in (first, second)}
    boots = {
        podman.check("exec", c, "cat", "/proc/sys/kernel/random/boot_id") for c in (first, second)
    }
    assert len(names) == len(boots) == 1
    podman.check("stop", "-t", "0", first)
    podman.check("exec", second, "true")
    # Podman 4.3 can't remove its own directories where version 1 lacks a controller.
    podman.podman("pod", "rm", "-f", "-t", "0", pod)
    assert podman.check("ps", "-aq") == ""


def test_remove_by_force(podman: Podman) -> None:
    names = [podman.start(IMAGE, "sleep", "1000") for _ in range(2)]
    podman.check("rm", "-f", "-t", "0", *names)
    assert podman.check("ps", "-aq") == ""
