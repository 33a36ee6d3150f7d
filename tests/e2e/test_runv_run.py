"""`runv run` and `runv exec`: what a program sees and what comes back."""

import errno
import json
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e import leaks
from tests.e2e.rootfs import make_config, make_tree, process
from tests.e2e.runv_process import BOUND, COMMAND, Runv

_MEMFD_CREATE = 319  # of x86-64


@pytest.fixture(scope="module")
def runv(tmp_path_factory: pytest.TempPathFactory) -> Runv:
    directory = tmp_path_factory.mktemp("runv")
    return Runv(directory, make_tree(tmp_path_factory.mktemp("rootfs") / "root"))


@pytest.fixture(scope="module")
def box(runv: Runv) -> object:
    """A container that sleeps, to execute things in."""
    with runv.running(cid="box") as cid:
        yield cid


def test_exit_code_and_streams(runv: Runv) -> None:
    with leaks.none(runv.root.parent / "root", files=True):
        done = runv.run("sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


def test_stdin(runv: Runv) -> None:
    """Known trouble 13."""
    assert runv.run("cat", stdin=b"123\n").stdout == b"123\n"
    data = os.urandom(1 << 20)
    assert runv.run("cat", stdin=data).stdout == data


def test_a_death_by_signal(runv: Runv) -> None:
    assert runv.run("sh", "-c", "sh -c 'kill -15 $$'; exit $?").returncode == 143


def test_output_in_one_file_is_in_order_and_appended(runv: Runv, tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"before\n")
    bundle = runv.bundle("sh", "-c", "for i in 1 2 3; do echo o$i; echo e$i >&2; sleep 0.1; done")
    with path.open("ab") as file:
        subprocess.run(
            [COMMAND, *runv.flags, "run", "--bundle", bundle, "file"],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            check=True,
            timeout=BOUND,
        )
    assert path.read_bytes() == b"before\no1\ne1\no2\ne2\no3\ne3\n"


@pytest.mark.parametrize("size", [150_000, 500_000])
def test_a_reader_that_sleeps_gets_everything(runv: Runv, size: int) -> None:
    bundle = runv.bundle("sh", "-c", f"head -c {size} /dev/zero; printf E")
    with subprocess.Popen(
        [COMMAND, *runv.flags, "run", "--bundle", bundle, "slow"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as running:
        time.sleep(20)
        assert running.stdout is not None
        data = running.stdout.read()
        assert running.wait(BOUND) == 0
    assert len(data) == size + 1
    assert data.endswith(b"E")


def test_run_and_exec_are_on_the_same_kernel_which_is_not_the_hosts(runv: Runv, box: str) -> None:
    """Known trouble 11."""
    ran = runv.run("uname", "-rv").stdout
    assert ran == runv("exec", box, "uname", "-rv").stdout
    assert platform.release().encode() not in ran.split()


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["nosuch"], b'exec: "nosuch": executable file not found in $PATH'),
        (["/no/such"], b'exec: "/no/such": no such file or directory'),
        (["/etc"], b'exec: "/etc": permission denied'),
    ],
)
def test_a_program_that_can_not_run_leaves_nothing(
    runv: Runv, box: str, args: list[str], text: bytes
) -> None:
    """Known trouble 19."""
    with leaks.none(runv.root, files=False):
        done = runv.run(*args, cid="bad")
        assert done.returncode == 1
        assert text in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert not (runv.root / "bad").exists()
        done = runv("exec", box, *args, check=False)
        assert done.returncode == 255
        assert text in done.stderr


def test_the_pid_file_is_there_before_the_program_runs_and_not_when_it_can_not(
    runv: Runv, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    bundle = Path(runv.bundle("cat", "/mnt/pid"))
    config = json.loads((bundle / "config.json").read_text())
    config["mounts"].append(
        {"destination": "/mnt", "type": "bind", "source": str(tmp_path), "options": ["bind"]}
    )
    (bundle / "config.json").write_text(json.dumps(config))
    done = runv("run", "--pid-file", str(pid_file), "--bundle", str(bundle), "early")
    assert done.stdout == pid_file.read_bytes()
    pid_file.unlink()
    flags = ("run", "--pid-file", str(pid_file), "--bundle", runv.bundle("nosuch"), "none")
    assert runv(*flags, check=False).returncode == 1
    assert not pid_file.exists()


def test_exec_has_the_containers_environment_and_its_own(runv: Runv, box: str) -> None:
    done = runv(
        *("exec", "--env", "A=b c", "--cwd", "/tmp", "--user", "1000:1000", "--no-new-privs"),
        *(box, "sh", "-c", "echo $A; pwd; id -u; grep NoNewPrivs /proc/self/status"),
    )
    assert done.stdout.split() == [b"b", b"c", b"/tmp", b"1000", b"NoNewPrivs:", b"1"]


def test_exec_with_a_process_file(runv: Runv, box: str, tmp_path: Path) -> None:
    path = tmp_path / "process.json"
    path.write_text(json.dumps(process("sh", "-c", "cat; echo err >&2; exit 9")))
    done = runv("exec", "--process", str(path), box, stdin=b"in", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (9, b"in", b"err\n")


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "{}", '{"args": "sh"}'])
def test_a_process_file_that_is_none(runv: Runv, box: str, tmp_path: Path, text: str) -> None:
    path = tmp_path / "process.json"
    path.write_text(text)
    for name in (path, tmp_path / "missing"):
        done = runv("exec", "--process", str(name), box, check=False)
        assert done.returncode != 0
        assert done.stderr.startswith(b"runv: ")
        assert len(done.stderr.splitlines()) == 1, done.stderr


def test_detached_exec(runv: Runv, box: str, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    runv.quiet("exec", "--detach", "--pid-file", str(pid_file), box, "sh", "-c", "sleep 0.5")
    pid = int(pid_file.read_text())
    assert Path(f"/proc/{pid}").exists()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{pid}").exists()


def test_a_hundred_execs(runv: Runv, box: str) -> None:
    """Known trouble 12."""
    for number in range(100):
        assert runv("exec", box, "echo", str(number)).stdout == b"%d\n" % number


def test_five_at_a_time(runv: Runv) -> None:
    with leaks.none(runv.root), ThreadPoolExecutor(5) as pool:
        jobs = [
            pool.submit(runv.run, "sh", "-c", f"echo {n}; exit {n}", cid=f"par{n}")
            for n in range(5)
        ]
        for number, job in enumerate(jobs):
            done = job.result(BOUND)
            assert (done.returncode, done.stdout) == (number, b"%d\n" % number), done


def test_where_memfds_are_refused_virtual_machines_boot(
    runv: Runv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known trouble 10: as in a container whose seccomp profile does not know them."""
    templates = tmp_path / "templates"
    templates.mkdir(mode=0o700)
    monkeypatch.setenv("HYPER_TEMPLATES", str(templates))
    for cid in ("first", "second"):
        bundle = runv.bundle("echo", "runs")
        refusing = ("-m", "tests.e2e.refusing", str(_MEMFD_CREATE), str(errno.EPERM))
        done = subprocess.run(
            [sys.executable, *refusing, COMMAND, *runv.flags, "run", "--bundle", bundle, cid],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=BOUND,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"runs\n", b"")
    assert [path for path in templates.iterdir() if path.name[0] != "."] == []
    leaks.drop_templates(templates)


def test_the_program_writes_to_the_bundles_root(runv: Runv) -> None:
    runv.run("sh", "-c", "echo data > /tmp/written; mkdir /tmp/dir; ln -s written /tmp/link")
    assert (runv.rootfs / "tmp" / "written").read_text() == "data\n"
    assert (runv.rootfs / "tmp" / "link").is_symlink()
    assert (runv.rootfs / "tmp" / "dir").is_dir()


def test_a_read_only_root(runv: Runv) -> None:
    config = make_config("sh", "-c", "touch /x; echo $?; touch /dev/y && echo fine")
    bundle = runv.bundle(config=config)
    path = Path(bundle) / "config.json"
    config["root"] = {"path": str(runv.rootfs), "readonly": True}
    path.write_text(json.dumps(config))
    done = runv("run", "--bundle", bundle, "ro")
    assert done.stdout == b"1\nfine\n"
    assert b"Read-only file system" in done.stderr
    assert not (runv.rootfs / "x").exists()


def test_the_default_configuration_runs(runv: Runv, tmp_path: Path) -> None:
    runv("spec", "--bundle", str(tmp_path))
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["root"]["path"] = str(runv.rootfs)
    config["process"]["terminal"] = False
    config["process"]["args"] = ["sh", "-c", "hostname; id -u; cat /proc/kcore | wc -c"]
    path.write_text(json.dumps(config))
    done = runv("run", "--bundle", str(tmp_path), "spec")
    assert done.stdout == b"runv\n0\n0\n"


def test_a_bind_mount(runv: Runv, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("host\n")
    config = make_config("sh", "-c", "cat /mnt/in; echo guest > /mnt/out")
    config["mounts"].append(
        {"destination": "/mnt", "type": "bind", "source": str(tmp_path), "options": ["rbind"]}
    )
    done = runv("run", "--bundle", runv.bundle(config=config), "bind")
    assert done.stdout == b"host\n"
    assert (tmp_path / "out").read_text() == "guest\n"


def test_a_bad_configuration_leaves_nothing(runv: Runv) -> None:
    config = make_config("true")
    config["mounts"].append({"destination": "/x", "type": "tmpfs", "options": ["odd"]})
    with leaks.none(runv.root):
        done = runv("run", "--bundle", runv.bundle(config=config), "bad", check=False)
    assert done.returncode == 1
    assert b"unknown mount option 'odd'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
