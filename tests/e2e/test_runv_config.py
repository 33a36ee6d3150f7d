"""Fields of a configuration as a program in the guest finds them, and limits that change."""

import copy
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.rootfs import make_config, make_tree
from tests.e2e.runv_process import Runv, until

ALL = ["CAP_SYS_ADMIN", "CAP_MKNOD", "CAP_SYSLOG", "CAP_SYS_NICE", "CAP_DAC_OVERRIDE"]


@pytest.fixture(scope="module")
def runv(tmp_path_factory: pytest.TempPathFactory) -> Runv:
    tree = make_tree(tmp_path_factory.mktemp("tree") / "rootfs")
    (tree / "below").mkdir()
    (tree / "below" / "file").write_text("from below\n")
    (tree / "below").chmod(0o751)
    return Runv(tmp_path_factory.mktemp("runv"), tree)


def said(runv: Runv, script: str, **changes: Any) -> list[str]:
    """What a script prints in a container; `changes` are merged into its configuration."""
    config = make_config("sh", "-c", script)
    config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), ALL)
    for key, value in copy.deepcopy(changes).items():
        if key == "mounts":
            config["mounts"] += value
        else:
            config[key].update(value)
    done = runv("run", "--bundle", runv.bundle(config=config), "c", check=False)
    assert done.returncode == 0, done
    return done.stdout.decode().splitlines()


def test_devices_that_no_rule_allows(runv: Runv) -> None:
    script = (
        "mknod /dev/mem0 c 1 1; head -c1 /dev/mem0; head -c1 /dev/zero | wc -c; echo x >/dev/tty0"
    )
    config = {"resources": {"devices": [{"allow": False, "access": "rwm"}]}}
    found = said(runv, f"({script}) 2>&1", linux=config)
    assert "head: /dev/mem0: Operation not permitted" in found
    assert "1" in found


def test_a_device_that_a_rule_allows(runv: Runv) -> None:
    rules = [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rw"},
    ]
    node = {"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o600}
    script = "stat -c '%a %t %T' /dev/kmsg; echo hello > /dev/kmsg && echo written"
    linux = {"resources": {"devices": rules}, "devices": [node]}
    assert said(runv, script, linux=linux) == ["600 1 b", "written"]


def test_a_device_node_outside_dev(runv: Runv) -> None:
    node = {"path": "/data/zero", "type": "c", "major": 1, "minor": 5, "uid": 7}
    script = "stat -c '%F %u' /data/zero; head -c2 /data/zero | wc -c"
    found = said(runv, script, linux={"devices": [node]})
    assert found == ["character special file 7", "2"]


def test_clocks_of_a_time_namespace(runv: Runv) -> None:
    linux = make_config()["linux"]
    linux["namespaces"].append({"type": "time"})
    linux["timeOffsets"] = {"boottime": {"secs": 100_000}, "monotonic": {"secs": 5}}
    found = said(runv, "cut -d. -f1 /proc/uptime", linux=linux)
    assert 100_000 <= int(found[0]) < 100_600


def test_scheduler_and_personality(runv: Runv) -> None:
    process = {
        "scheduler": {"policy": "SCHED_BATCH", "nice": 7},
        "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0},
    }
    script = "cut -d' ' -f19,41 /proc/self/stat; ionice -p $$; uname -m"
    found = said(
        runv, script, process=process, linux={"personality": {"domain": "LINUX32", "flags": []}}
    )
    assert found[0] == "7 3"
    assert "idle" in found[1]
    assert found[2] == "i686"


def test_a_tmpfs_that_starts_with_what_it_covers(runv: Runv) -> None:
    options = ["tmpcopyup", "size=1m", "ro"]
    mounts = [{"destination": "/below", "type": "tmpfs", "source": "x", "options": options}]
    script = "cat /below/file; stat -c %a /below; touch /below/new 2>/dev/null || echo read-only"
    assert said(runv, script, mounts=mounts) == ["from below", "751", "read-only"]


def test_a_read_only_dev_has_its_nodes(runv: Runv) -> None:
    config = make_config("sh", "-c", "ls /dev/null /dev/pts/ptmx; touch /dev/x || echo read-only")
    config["mounts"][1]["options"].append("ro")
    done = runv("run", "--bundle", runv.bundle(config=config), "c")
    assert done.stdout.split() == [b"/dev/null", b"/dev/pts/ptmx", b"read-only"]


def test_recursive_options(runv: Runv, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    mount = {
        "destination": "/data",
        "source": str(tmp_path),
        "options": ["rbind", "rro", "rnoexec"],
    }
    script = "touch /data/f 2>/dev/null || echo read-only; grep ' /data ' /proc/mounts"
    found = said(runv, script, mounts=[mount])
    assert found[0] == "read-only"
    assert "noexec" in found[1]


def test_files_of_the_group_as_they_are(runv: Runv) -> None:
    mounts = [{"destination": "/cg", "type": "cgroup", "source": "cgroup"}]
    unified = {"memory.high": "50331648", "pids.max": "77"}
    limits = {"unified": unified, "cpu": {"quota": 30000, "period": 60000, "burst": 1000}}
    script = "cd /cg && cat memory.high pids.max cpu.max cpu.max.burst"
    found = said(runv, script, mounts=mounts, linux={"resources": limits})
    assert found == ["50331648", "77", "30000 60000", "1000"]


def test_start_container_hooks(runv: Runv) -> None:
    config = make_config("cat", "/tmp/state")
    hook = {
        "path": "/bin/sh",
        "args": ["sh", "-c", "cat > /tmp/state; hostname >> /tmp/state; echo $A >> /tmp/state"],
        "env": ["A=b", "PATH=/bin"],
    }
    config["hooks"] = {"startContainer": [hook]}
    done = runv("run", "--bundle", runv.bundle(config=config), "c")
    state, _, rest = done.stdout.decode().rpartition("}")
    found = json.loads(state + "}")
    assert (found["id"], found["status"]) == ("c", "created")
    assert rest.split() == ["box", "b"]


def test_a_start_container_hook_that_fails_ends_the_container(runv: Runv) -> None:
    config = make_config("echo", "never")
    config["hooks"] = {
        "startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "echo no; exit 3"]}]
    }
    done = runv("run", "--bundle", runv.bundle(config=config), "c", check=False)
    assert done.returncode == 1
    assert b"error running hook #0 of startContainer: exit status 3, output: no" in done.stderr
    assert b"never" not in done.stdout


@pytest.fixture
def limited(runv: Runv) -> Iterator[str]:
    config = make_config("sleep", "3600")
    config["mounts"].append({"destination": "/cg", "type": "cgroup", "source": "cgroup"})
    limits = {"cpu": {"quota": 50000, "period": 100000}, "memory": {"limit": 64 << 20}}
    config["linux"]["resources"] = limits
    runv.quiet("create", "--bundle", runv.bundle(config=config), "limited")
    runv("start", "limited")
    yield "limited"
    runv("delete", "--force", "limited")


def test_limits_that_change(runv: Runv, limited: str) -> None:
    def group() -> list[bytes]:
        script = "cd /cg && cat cpu.max pids.max memory.max"
        return runv("exec", limited, "sh", "-c", script).stdout.splitlines()

    runv("update", "--cpu-quota", "20000", "--pids-limit", "50", limited)
    assert group() == [b"20000 100000", b"50", b"67108864"]
    changes = {"memory": {"limit": 48 << 20}, "cpu": {"period": 50000}, "blockIO": {"weight": 0}}
    runv("update", "--resources", "-", limited, stdin=json.dumps(changes).encode())
    assert group() == [b"20000 50000", b"50", b"50331648"]
    done = runv("update", "--memory", "800T", limited, check=False)
    assert done.returncode == 1
    assert b"MiB that this machine has" in done.stderr
    assert group()[2] == b"50331648"


@pytest.mark.usefixtures("two_cpus", "virtio_mem")
def test_limits_above_what_the_vm_has(runv: Runv) -> None:
    """It gets what is missing; it began with 128 MiB and a CPU."""
    config = make_config("sleep", "3600")
    runv.quiet("create", "--bundle", runv.bundle(config=config), "grown")
    runv("start", "grown")
    script = "nproc; awk '/MemTotal/ {print ($2 > 200 * 1024)}' /proc/meminfo"
    assert runv("exec", "grown", "sh", "-c", script).stdout == b"1\n0\n"
    runv("update", "--cpu-quota", "150000", "--memory", "200M", "grown")
    assert runv("exec", "grown", "sh", "-c", script).stdout == b"2\n1\n"
    runv("delete", "--force", "grown")


def test_statistics(runv: Runv, limited: str) -> None:
    event = json.loads(runv("events", "--stats", limited).stdout)
    assert (event["type"], event["id"]) == ("stats", limited)
    assert event["data"]["memory"]["usage"]["limit"] == 64 << 20
    assert event["data"]["pids"]["current"] == 1


def test_an_exec_waits_for_the_resumption(runv: Runv, limited: str) -> None:
    runv("pause", limited)
    done = runv("exec", limited, "true", check=False)
    assert (done.returncode, b"paused container" in done.stderr) == (255, True)
    runv("resume", limited)
    assert runv("exec", "--ignore-paused", limited, "echo", "ok").stdout == b"ok\n"


def test_what_ran_out_of_memory_is_told_and_ends_alone(runv: Runv, limited: str) -> None:
    done = runv("exec", limited, "tail", "/dev/zero", check=False)
    assert done.returncode == 137
    time.sleep(0.2)
    assert runv.state(limited)["status"] == "running"
    until(lambda: runv("exec", limited, "true", check=False).returncode == 0)
