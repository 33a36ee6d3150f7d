"""Limits, users, devices and mounts that `docker run` asks for."""

import json
import os
from pathlib import Path

import pytest

from tests.engines.docker import IMAGE, Docker


def sh(docker: Docker, *options: str, script: str) -> str:
    """What a script in a container with `options` says; it must not fail."""
    done = docker.run(*options, IMAGE, "sh", "-c", script)
    assert done.code == 0, done
    return done.out


def test_memory_is_limited(docker: Docker) -> None:
    assert sh(docker, "-m", "64m", script="cat /sys/fs/cgroup/memory.max") == f"{64 << 20}\n"


def test_too_much_memory_ends_in_an_oom_kill(docker: Docker) -> None:
    name = docker.start("-m", "32m", IMAGE, "sh", "-c", "exec tail /dev/zero")
    assert docker.check("wait", name) == "137\n"
    assert docker.state(name)["OOMKilled"] is True


def test_more_memory_than_the_default_vm_has(docker: Docker) -> None:
    script = "grep MemTotal /proc/meminfo | tr -dc 0-9"
    assert int(sh(docker, "-m", "512m", script=script)) > 500 << 10


def test_cpus(docker: Docker) -> None:
    assert sh(docker, "--cpus", "0.5", script="cat /sys/fs/cgroup/cpu.max") == "50000 100000\n"
    assert sh(docker, "--cpus", "2", script="nproc") == "2\n"


def test_an_update_above_what_the_vm_has(docker: Docker) -> None:
    """It began with 128 MiB and a CPU, and gets what is missing."""
    name = docker.start(IMAGE, "sleep", "1000")
    script = "nproc; awk '/MemTotal/ {print ($2 > 300 * 1024)}' /proc/meminfo"
    assert docker.check("exec", name, "sh", "-c", script) == "1\n0\n"
    docker.check("update", "-m", "300m", "--memory-swap", "300m", "--cpus", "1.5", name)
    assert docker.check("exec", name, "sh", "-c", script) == "2\n1\n"


def test_cpu_shares_and_set_on_the_host(docker: Docker) -> None:
    name = docker.start("--cpu-shares", "512", "--cpuset-cpus", "0", IMAGE, "sleep", "1000")
    with open(f"/proc/{docker.vmm(name)}/status") as file:
        allowed = next(line for line in file if line.startswith("Cpus_allowed_list"))
    assert allowed.split()[1] == "0"


def test_number_of_processes(docker: Docker) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; wait"
    done = docker.run("--pids-limit", "5", IMAGE, "sh", "-c", script)
    assert done.code != 0
    assert "can't fork" in done.err


def test_ulimits(docker: Docker) -> None:
    script = "ulimit -n; ulimit -Hn; ulimit -c"
    options = ("--ulimit", "nofile=100:200", "--ulimit", "core=0")
    assert sh(docker, *options, script=script) == "100\n200\n0\n"


def capabilities(docker: Docker, *options: str) -> int:
    """The effective set of a container's process."""
    return int(sh(docker, *options, script="grep CapEff /proc/self/status").split()[1], 16)


def test_capabilities(docker: Docker) -> None:
    assert capabilities(docker, "--cap-drop", "ALL") == 0
    assert capabilities(docker, "--cap-drop", "ALL", "--cap-add", "NET_ADMIN") == 1 << 12
    usual = capabilities(docker)
    assert capabilities(docker, "--cap-add", "SYS_TIME") == usual | 1 << 25
    assert capabilities(docker, "--cap-drop", "CHOWN") == usual & ~1
    assert docker.run("--cap-drop", "CHOWN", IMAGE, "chown", "1", "/tmp").code != 0


def test_privileged(docker: Docker) -> None:
    mounts = sh(
        docker, "--privileged", script="mount -t tmpfs x /mnt 2>&1 || mount -t tmpfs x /tmp; mount"
    )
    assert "x on /tmp" in mounts or "x on /mnt" in mounts


def test_read_only(docker: Docker) -> None:
    done = docker.run("--read-only", "--tmpfs", "/t:size=1m", IMAGE, "sh", "-c", "touch /t/x /x")
    assert done.code != 0
    assert "/x: Read-only file system" in done.err
    assert "/t/x" not in done.err


def test_tmpfs_and_shared_memory_have_their_sizes(docker: Docker) -> None:
    options = ("--tmpfs", "/t:size=2m,mode=700", "--shm-size", "8m")
    script = "df -k /t /dev/shm | awk 'NR>1 {print $2}'; stat -c %a /t"
    assert sh(docker, *options, script=script) == "2048\n8192\n700\n"


def test_user(docker: Docker) -> None:
    script = "id -u; id -g; id -G"
    assert sh(docker, "--user", "app", script=script) == "1000\n1000\n1000 2000\n"
    assert sh(docker, "--user", "33:44", "--group-add", "55", script=script) == "33\n44\n44 55\n"
    assert docker.run("--user", "nobody-here", IMAGE, "true").code != 0


def test_devices(docker: Docker) -> None:
    script = "ls -l /dev/mine; echo x > /dev/mine"
    assert "1,   3" in sh(docker, "--device", "/dev/null:/dev/mine", script=script)
    denied = docker.run("--device", "/dev/fuse:/dev/mine:w", IMAGE, "head", "-c1", "/dev/mine")
    assert "Operation not permitted" in denied.err


def test_a_device_that_was_not_given(docker: Docker) -> None:
    done = docker.run(IMAGE, "sh", "-c", "mknod /tmp/kmsg c 1 11; cat /tmp/kmsg")
    assert done.code != 0


def test_init(docker: Docker) -> None:
    assert "docker-init" in sh(docker, "--init", script="cat /proc/1/cmdline")


def test_seccomp(docker: Docker, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    done = docker.run("--security-opt", f"seccomp={profile}", IMAGE, "mkdir", "/tmp/x")
    assert done.code != 0
    assert "Operation not permitted" in done.err
    script = "grep Seccomp: /proc/self/status"
    assert sh(docker, script=script).split()[1] == "2"
    assert sh(docker, "--security-opt", "seccomp=unconfined", script=script).split()[1] == "0"


def test_no_new_privileges(docker: Docker) -> None:
    script = "grep NoNewPrivs /proc/self/status"
    assert sh(docker, "--security-opt", "no-new-privileges", script=script).split()[1] == "1"


def test_sysctl(docker: Docker) -> None:
    script = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax"
    options = ("--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.msgmax=9000")
    assert sh(docker, *options, script=script) == "1\n9000\n"


def test_masked_and_read_only_paths(docker: Docker) -> None:
    assert sh(docker, script="cat /proc/kcore | wc -c") == "0\n"
    assert docker.run(IMAGE, "sh", "-c", "echo 1 > /proc/sysrq-trigger").code != 0


def test_hostname_and_hosts(docker: Docker) -> None:
    options = ("--hostname", "name", "--add-host", "other:10.1.2.3", "--dns", "10.9.9.9")
    script = "hostname; grep other /etc/hosts; grep nameserver /etc/resolv.conf"
    found = sh(docker, *options, script=script).split()
    assert found == ["name", "10.1.2.3", "other", "nameserver", "10.9.9.9"]


def test_bind_mounts(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("host")
    os.chown(tmp_path, 1000, 1000)
    script = "cat /v/file; echo guest > /v/new; id -u; ls -ldn /v | awk '{print $3}'"
    found = sh(docker, "-v", f"{tmp_path}:/v", "-u", "1000", script=script)
    assert found == "host1000\n1000\n"
    assert (tmp_path / "new").read_text() == "guest\n"
    assert (tmp_path / "new").stat().st_uid == 1000
    read_only = docker.run("-v", f"{tmp_path}:/v:ro", IMAGE, "touch", "/v/other")
    assert "Read-only file system" in read_only.err
    assert sh(docker, "-v", f"{tmp_path}/file:/etc/one", script="cat /etc/one") == "host"


def test_named_volumes(docker: Docker) -> None:
    sh(docker, "-v", "data:/data", script="echo kept > /data/file")
    assert sh(docker, "-v", "data:/data", script="cat /data/file") == "kept\n"
    name = docker.start("-v", "data:/data", IMAGE, "sleep", "1000")
    assert sh(docker, "--volumes-from", name, script="cat /data/file") == "kept\n"


def test_a_volume_takes_the_image_s_content_and_owner(docker: Docker) -> None:
    script = "stat -c %u /home/app; touch /home/app/x && echo made"
    assert sh(docker, "-v", "home:/home/app", "-u", "app", script=script) == "1000\nmade\n"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--memory", "1m"], "memory"),
        (["--ulimit", "nosuch=1"], "nosuch"),
        (["--cap-add", "NOSUCH"], "NOSUCH|nosuch|capab"),
        (["--sysctl", "kernel.nosuch=1"], "sysctl|nosuch"),
        (["-v", "relative/path:/x/"], "relative/path|volume"),
        (["--workdir", "relative"], "absolute|working"),
    ],
)
def test_what_is_refused(docker: Docker, options: list[str], text: str) -> None:
    import re

    done = docker.run(*options, IMAGE, "true")
    assert done.code in (1, 125, 126, 127)
    assert re.search(text, done.err), done.err
