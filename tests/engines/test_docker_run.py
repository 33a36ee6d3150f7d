"""`docker run`, `exec` and the rest of a container's life, with runv as the runtime."""

import re
import time

import pytest

from tests.engines.commands import BOUND, Terminal, until
from tests.engines.docker import IMAGE, Docker


def test_output_and_exit_code(docker: Docker) -> None:
    done = docker.run(IMAGE, "sh", "-c", "echo out; echo err >&2; exit 42")
    assert done == (42, "out\n", "err\n")


def test_it_is_a_virtual_machine(docker: Docker) -> None:
    with open("/proc/sys/kernel/osrelease") as file:
        host = file.read()
    name = docker.start(IMAGE, "sleep", "1000")
    inside = docker.check("exec", name, "uname", "-r")
    assert inside != host
    assert docker.run(IMAGE, "uname", "-r").out == inside


@pytest.mark.parametrize(
    ("argv", "code", "text"),
    [
        (["nosuch"], 127, r'"nosuch": executable file not found in \$PATH'),
        (["/etc"], 126, r'"/etc": permission denied|is a directory'),
        (["/no/such"], 127, r'"/no/such": .*no such file or directory'),
    ],
)
def test_a_program_that_cannot_run(docker: Docker, argv: list[str], code: int, text: str) -> None:
    done = docker.run(IMAGE, *argv)
    assert done.code == code
    assert re.search(text, done.err), done.err


def test_stdin(docker: Docker) -> None:
    data = bytes(range(256)) * 4096
    done = docker.run("-i", IMAGE, "md5sum", stdin=data)
    import hashlib

    assert done.out.split()[0] == hashlib.md5(data).hexdigest()


def test_a_lot_of_output(docker: Docker) -> None:
    done = docker.run(IMAGE, "sh", "-c", "seq 1 200000; echo end >&2")
    assert done.code == 0
    assert done.out.endswith("\n199999\n200000\n")
    assert done.out.count("\n") == 200000
    assert done.err == "end\n"


def resize(terminal: Terminal, rows: int, cols: int) -> None:
    """Change the size until the engine has passed it on: its client may not listen yet."""
    for _ in range(20):
        terminal.resize(rows, cols)
        terminal.send("stty size\n")
        if terminal.expect(r"\d+ \d+\r\n").strip() == f"{rows} {cols}":
            return
        time.sleep(0.2)
    raise AssertionError(f"no size {rows} {cols}")


def test_terminal(docker: Docker) -> None:
    terminal = docker.terminal("run", "--rm", "-it", IMAGE, "sh")
    try:
        terminal.expect("# ")
        terminal.send("stty size; tty\n")
        terminal.expect("24 80\r\n/dev/(pts/0|console)\r\n")
        resize(terminal, 40, 132)
        terminal.expect("# ")
        terminal.send("\x04")
        assert terminal.wait() == 0
    finally:
        terminal.close()


def test_interrupt_from_the_terminal(docker: Docker) -> None:
    terminal = docker.terminal("run", "--rm", "-it", IMAGE, "sh", "-c", "echo go; exec sleep 1000")
    try:
        terminal.expect("go")
        time.sleep(0.5)
        # An init gets no signal that it does not handle, so only the shell's child would end.
        terminal.send("\x10\x11")
        assert terminal.wait() in (0, 1)
    finally:
        terminal.close()


def test_logs(docker: Docker) -> None:
    name = docker.start(IMAGE, "sh", "-c", "echo one; echo two >&2; exec sleep 1000")
    until(lambda: "one" in docker.docker("logs", name).out, "the log has a line")
    done = docker.docker("logs", name)
    assert (done.out, done.err) == ("one\n", "two\n")
    assert re.match(r"\d{4}-\S+Z one\n", docker.check("logs", "-t", name))


def test_exec(docker: Docker) -> None:
    name = docker.start("-e", "A=B", "-w", "/tmp", IMAGE, "sleep", "1000")
    assert docker.docker("exec", name, "sh", "-c", "echo $A; pwd; exit 3") == (3, "B\n/tmp\n", "")
    assert docker.docker("exec", "-i", name, "wc", "-c", stdin=b"12345").out == "5\n"
    assert docker.check("exec", "-u", "app", "-w", "/home", name, "sh", "-c", "id -u; pwd") == (
        "1000\n/home\n"
    )
    assert docker.docker("exec", name, "nosuch").code in (126, 127)
    docker.check("exec", "-d", name, "touch", "/tmp/made")
    until(lambda: docker.docker("exec", name, "test", "-e", "/tmp/made").code == 0, "exec -d")


def test_exec_with_a_terminal(docker: Docker) -> None:
    name = docker.start(IMAGE, "sleep", "1000")
    terminal = docker.terminal("exec", "-it", name, "sh")
    try:
        terminal.expect("# ")
        resize(terminal, 33, 99)
        terminal.send("exit 7\n")
        assert terminal.wait() == 7
    finally:
        terminal.close()


def test_many_execs(docker: Docker) -> None:
    name = docker.start(IMAGE, "sleep", "1000")
    for number in range(15):
        assert docker.check("exec", name, "echo", str(number)) == f"{number}\n"


def test_attach(docker: Docker) -> None:
    name = docker.start("-i", IMAGE, "sh", "-c", "read x; echo got $x")
    client = docker.client("attach", name)
    try:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(b"word\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"got word\n"
        assert client.wait(BOUND) == 0
    finally:
        client.kill()
        client.communicate()


def test_top_and_its_pids(docker: Docker) -> None:
    name = docker.start(IMAGE, "sleep", "1234")
    docker.check("exec", "-d", name, "sleep", "4321")
    lines = docker.check("top", name).splitlines()
    assert [line.split(None, 7)[7] for line in lines[1:]] == ["sleep 1234", "sleep 4321"]
    assert docker.state(name)["Pid"] == int(lines[1].split()[1])


def test_stats_are_those_of_the_virtual_machine(docker: Docker) -> None:
    name = docker.start(IMAGE, "sh", "-c", "while :; do :; done")
    time.sleep(2)
    text = docker.check(
        "stats", "--no-stream", "--format", "{{.CPUPerc}} {{.MemUsage}} {{.PIDs}}", name
    )
    cpu, used, *_, pids = text.split()
    assert float(cpu.rstrip("%")) > 20
    assert used.endswith("MiB")
    # What a ready VM had taken before is not the container's (docs/templates.md).
    assert 5 < float(used.removesuffix("MiB")) < 400
    assert int(pids) > 2


def test_copy(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("cp")
    (directory / "in").write_text("content")
    name = docker.start(IMAGE, "sleep", "1000")
    docker.check("cp", str(directory / "in"), f"{name}:/tmp/file")
    assert docker.check("exec", name, "cat", "/tmp/file") == "content"
    docker.check("exec", name, "sh", "-c", "echo made > /tmp/out")
    docker.check("cp", f"{name}:/tmp/out", str(directory / "out"))
    assert (directory / "out").read_text() == "made\n"


def test_changes_and_commit(docker: Docker) -> None:
    name = docker.start(IMAGE, "sh", "-c", "echo new > /root/new; rm /etc/group; sleep 1000")
    until(lambda: "D /etc/group" in docker.check("diff", name), "diff")
    assert "A /root/new" in docker.check("diff", name)
    docker.check("commit", name, "made")
    assert docker.run("made", "cat", "/root/new").out == "new\n"
    docker.check("rm", "-f", name)
    docker.check("rmi", "made")


def test_create_start_wait(docker: Docker) -> None:
    name = docker.check("create", IMAGE, "sh", "-c", "exit 5").strip()
    docker.check("start", name)
    assert docker.check("wait", name) == "5\n"
    docker.check("start", name)
    assert docker.check("wait", name) == "5\n"


def test_inspect(docker: Docker) -> None:
    name = docker.start(IMAGE, "sleep", "1000")
    state = docker.state(name)
    assert (state["Status"], state["Running"], state["OOMKilled"]) == ("running", True, False)
    docker.check("rm", "-f", name)
    assert docker.docker("inspect", name).code == 1


def test_update(docker: Docker) -> None:
    name = docker.start("--memory", "64m", IMAGE, "sleep", "1000")
    docker.check("update", "--memory", "48m", "--memory-swap", "48m", name)
    assert docker.check("exec", name, "cat", "/sys/fs/cgroup/memory.max") == f"{48 << 20}\n"
