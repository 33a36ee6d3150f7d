"""Volumes as users have them: named, anonymous, of the host, disks, and what containers see."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hypercontainer.errors import BadRequest, Conflict
from tests.e2e.command_line import Hyper
from tests.e2e.hyperd_process import Hyperd, wait_until
from tests.images import make_image
from tests.tars import Item, folder, make_tar, symlink


@pytest.fixture(scope="module")
def hyper(hyperd: Hyperd) -> Hyper:
    """`hyper` for the module's hyperd."""
    return Hyper(hyperd.socket)


@pytest.fixture(autouse=True)
def no_containers(hyper: Hyper) -> Iterator[None]:
    """No test leaves a container."""
    yield
    for name in hyper.text("list", "-aq").split():
        hyper("rm", "-fv", name)


def test_a_named_volume(hyper: Hyper, hyperd: Hyperd) -> None:
    """Filled from the image with owners; kept; in use; removed."""
    assert hyper.text("volume", "create", "--label", "a=b", "data") == "data"
    hyper.text("run", "--rm", "-v", "data:/etc", "busybox", "sh", "-c", "echo new > /etc/mine")
    listed = hyper.text("run", "--rm", "-v", "data:/d:ro", "busybox", "ls", "-A", "/d").split()
    assert {"group", "passwd", "mine"} <= set(listed)
    done = hyper("run", "--rm", "-v", "data:/d:ro", "busybox", "touch", "/d/x")
    assert done.returncode == 1 and b"Read-only" in done.stderr
    first = ("run", "--rm", "-v", "owned:/home:ro", "busybox", "sh", "-c")
    assert hyper.text(*first, "ls /home; touch /home/x 2>/dev/null || true") == "user"
    hyper.text(
        "run", "--rm", "-v", "bare:/etc:nocopy", "busybox", "sh", "-c", "[ ! -e /etc/passwd ]"
    )
    hyper.text("create", "--name", "user", "-v", "data:/d", "busybox")
    done = hyper("volume", "rm", "data")
    assert done.returncode == 1 and b"in use by container user" in done.stderr
    about = json.loads(hyper.text("volume", "inspect", "data"))[0]
    assert (about["Labels"], about["UsedBy"], about["Driver"]) == ({"a": "b"}, ["user"], "local")
    assert (Path(about["Mountpoint"]) / "mine").read_text() == "new\n"
    assert hyper.text("volume", "ls", "-q", "-f", "label=a=b") == "data"
    hyper.text("rm", "user")
    assert hyper.text("volume", "rm", "data", "owned", "bare").split() == ["data", "owned", "bare"]
    assert hyper("volume", "rm", "data").returncode == 1
    assert hyper("volume", "rm", "-f", "data").returncode == 0
    hyperd.nothing_left()


def test_many_fill_one_volume(hyper: Hyper) -> None:
    """Whoever comes first; the others find it whole."""
    run = ("run", "--rm", "-v", "filled:/bin", "busybox", "sh", "-c", "ls /bin | wc -l")
    with ThreadPoolExecutor(3) as pool:
        found = set(pool.map(lambda _: hyper.text(*run), range(3)))
    assert len(found) == 1 and int(found.pop()) > 100
    hyper.text("volume", "rm", "filled")


def test_anonymous_volumes(hyper: Hyper) -> None:
    """Kept by rm, removed by rm -v and by --rm, pruned; shared by --volumes-from."""

    def volumes() -> list[str]:
        return hyper.text("volume", "ls", "-q").split()

    hyper("run", "--name", "one", "-v", "/a", "busybox", "sh", "-c", "echo from > /a/one")
    assert len(volumes()) == 1
    seen = hyper.text("run", "--rm", "--volumes-from", "one:ro", "busybox", "cat", "/a/one")
    assert seen == "from" and len(volumes()) == 1
    hyper.text("rm", "one")
    assert len(volumes()) == 1
    left = volumes()
    assert hyper.text("volume", "prune", "-f").splitlines()[:-1] == left
    assert volumes() == []
    hyper("run", "--name", "two", "-v", "/a", "busybox", "true")
    hyper.text("rm", "-v", "two")
    hyper.text("run", "--rm", "-v", "/a", "busybox", "true")
    assert volumes() == []


def test_the_host_and_the_guest_see_the_same(hyper: Hyper, tmp_path: Path) -> None:
    """Owners, modes, links, attributes, locks, maps, at once on both sides."""
    script = """
cd /d; umask 022
echo guest > g; chown 1000:8 g; chmod 4751 g; ln g hard; ln -s g soft; mkdir dir; chmod 1777 dir
mv dir moved; ln -s /nowhere broken; truncate -s 5000000 sparse
while [ ! -e go ]; do sleep 0.05; done; cat go; echo end
"""
    container = hyper.text("run", "-d", "-v", f"{tmp_path}:/d", "busybox", "sh", "-c", script)
    while not (tmp_path / "sparse").exists():
        pass
    status = (tmp_path / "g").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (1000, 8, 0o4751)
    assert status.st_nlink == 2 and os.readlink(tmp_path / "soft") == "g"
    assert (tmp_path / "moved").stat().st_mode & 0o7777 == 0o1777
    assert (tmp_path / "sparse").stat().st_blocks * 512 < 100000
    (tmp_path / "g").write_text("host")
    assert hyper.text("exec", container, "cat", "/d/g") == "host"
    os.chown(tmp_path / "g", 1, 2)
    assert hyper.text("exec", container, "stat", "-c", "%u:%g", "/d/g") == "1:2"
    (tmp_path / "new").write_text("go\n")
    (tmp_path / "new").rename(tmp_path / "go")
    assert hyper.text("wait", container) == "0"
    assert hyper("logs", container).stdout == b"go\nend\n"


def test_what_programs_do(hyper: Hyper, tmp_path: Path) -> None:
    """Maps, locks, attributes, notification, unlinked files; on the share and on a disk."""
    program = tmp_path / "matrix"
    source = Path(__file__).with_name("share_matrix.c")
    subprocess.run(["musl-gcc", "-static", "-o", program, source], check=True, timeout=60)
    hyper.text("volume", "create", "-d", "disk", "-o", "size=32m", "matrix")
    mounts = ("-v", f"{tmp_path}:/d", "-v", "matrix:/k")
    said = hyper.text(
        *("run", "--rm", *mounts, "busybox", "sh", "-c", "/d/matrix /d; /d/matrix /k")
    )
    assert said.split() == ["all", "all"]
    assert (tmp_path / "map").read_bytes()[4096:4102] == b"mapped"
    assert os.getxattr(tmp_path / "map", "user.test") == b"value"
    hyper.text("volume", "rm", "matrix")


def test_small_files_are_bounded(hyper: Hyper, hyperkernel: None) -> None:
    """Thousands of small files and writes, by a bound that only a broken share passes."""
    script = (
        "mkdir /v/d; cd /v/d; i=0; while [ $i -lt 1000 ]; do : > $i; i=$((i+1)); done;"
        "cd /; rm -r /v/d; dd if=/dev/zero of=/v/x bs=512 count=2000 2>/dev/null; echo end"
    )
    hyper.text("run", "--rm", "-v", "/v", "busybox", "sh", "-c", script)


def test_users_and_groups(hyperd: Hyperd, tmp_path: Path) -> None:
    """What a directory's group may write, a supplementary group of the container may."""
    shared = tmp_path / "d"
    shared.mkdir()
    os.chown(shared, 0, 8)
    shared.chmod(0o2775)
    volumes = [{"path": "/d", "detail": {"source": str(shared)}}]
    for groups, code in (([], 1), (["mail"], 0)):
        user = {"name": "1000", "group": "1000", "additionalGroups": groups}
        container = hyperd.run("touch", "/d/made", user=user, volumes=volumes)
        assert hyperd.client.wait(container) == code
        hyperd.client.remove_container(container)
    made = (shared / "made").stat()
    assert (made.st_uid, made.st_gid) == (1000, 8)


def test_missing_paths_and_files(hyper: Hyper, tmp_path: Path) -> None:
    """-v makes a directory, --mount refuses; single files; tmpfs."""
    mount = f"type=bind,source={tmp_path}/none,target=/d"
    done = hyper("run", "--rm", "--mount", mount, "busybox", "true")
    assert done.returncode == 125 and b"does not exist on the host" in done.stderr
    assert not (tmp_path / "none").exists()
    hyper.text("run", "--rm", "-v", f"{tmp_path}/made:/d", "busybox", "true")
    assert (tmp_path / "made").is_dir()
    done = hyper("run", "--rm", "-v", "/dev/null:/d", "busybox", "true")
    assert done.returncode == 125 and b"neither a directory nor a regular file" in done.stderr
    (tmp_path / "file").write_text("a\n")
    arguments = ("-v", f"{tmp_path}/file:/etc/f", "--tmpfs", "/t:size=1m,mode=1700")
    fill = "dd if=/dev/zero of=/t/x bs=1M count=2 2>/dev/null || echo full"
    script = f"echo b >> /etc/f; stat -c %a /t; {fill}"
    assert hyper.text("run", "--rm", *arguments, "busybox", "sh", "-c", script) == "1700\nfull"
    assert (tmp_path / "file").read_text() == "a\nb\n"


def test_disks(hyper: Hyper, hyperd: Hyperd, tmp_path: Path) -> None:
    """A volume of the driver disk, raw and qcow2 images: filled, exclusive, read-only, refused."""
    hyper.text("volume", "create", "-d", "disk", "-o", "size=64m", "fast")
    first = hyper.text("run", "-d", "-v", "fast:/etc", "busybox", "sleep", "1000")
    assert "passwd" in hyper.text("exec", first, "ls", "/etc")
    hyper.text("exec", first, "sh", "-c", "echo kept > /etc/k; sync")
    done = hyper("run", "--rm", "-v", "fast:/d", "busybox", "true")
    assert done.returncode == 125 and b"in use by another virtual machine" in done.stderr
    hyper.text("rm", "-f", first)
    assert hyper.text("run", "--rm", "-v", "fast:/d:ro", "busybox", "cat", "/d/k") == "kept"
    raw, qcow = tmp_path / "raw", tmp_path / "qcow"
    for command in (
        ("mkfs.ext4", "-q", str(raw), "32m"),
        ("qemu-img", "convert", "-q", "-O", "qcow2", str(raw), str(qcow)),
        ("qemu-img", "create", "-q", "-f", "qcow2", "-b", str(raw), "-F", "raw", f"{qcow}2"),
    ):
        subprocess.run(command, check=True, timeout=60)
    for path, kind in ((raw, "raw"), (qcow, "qcow2")):
        mount = f"type=disk,source={path},target=/d,format={kind},cache=none"
        script = "mount | grep -q ' /d type ext4' && echo x >> /d/x && cat /d/x"
        for round_ in (1, 2):
            said = hyper.text("run", "--rm", "--mount", mount, "busybox", "sh", "-c", script)
            assert said == "x\n" * (round_ - 1) + "x"
        done = hyper("run", "--rm", "--mount", mount + ",ro", "busybox", "touch", "/d/y")
        assert b"Read-only" in done.stderr
    mount = f"type=disk,source={qcow}2,target=/d,format=qcow2"
    done = hyper("run", "--rm", "--mount", mount, "busybox", "true")
    assert done.returncode == 125 and b"has a backing file" in done.stderr
    hyper.text("volume", "rm", "fast")
    hyperd.nothing_left()


def test_injected_files(hyperd: Hyperd, tmp_path: Path) -> None:
    """Binary content, a URI, owners by name, a path that is a directory."""
    (tmp_path / "secret").write_bytes(bytes(range(256)))
    files = [
        {"name": "b", "encoding": "base64", "content": "AAH/"},
        {"name": "u", "uri": f"file://{tmp_path}/secret"},
    ]
    uses = [
        {"path": "/etc/conf.d/", "filename": "b", "perm": "0640", "user": "user", "group": "mail"},
        {"path": "/root/u", "filename": "u"},
        {"path": "/root/i", "detail": {"name": "i", "content": "text\n"}, "perm": "0600"},
    ]
    script = (
        "stat -c '%u:%g %a' /etc/conf.d/b /root/u; od -An -tx1 /etc/conf.d/b;"
        "md5sum < /root/u; cat /root/i"
    )
    container = hyperd.run("sh", "-c", script, files=uses, pod_files=files)
    assert hyperd.client.wait(container) == 0
    assert hyperd.output_of(container).split() == [
        *("1000:8", "640", "0:0", "755", "00", "01", "ff"),
        *("e2c865db4162bed963bfaa9ef6ac18f0", "-", "text"),
    ]
    hyperd.client.remove_container(container)
    container = hyperd.create(
        "true", files=uses, pod_files=[files[0], {**files[1], "uri": "file:///no"}]
    )
    with pytest.raises(Exception, match="does not exist on hyperd's host"):
        hyperd.client.start_container(container)
    hyperd.client.remove_container(container)


def test_volume_in_use(hyperd: Hyperd) -> None:
    """By a stopped container too; the name of a volume with other options."""
    container = hyperd.create("true", volumes=[{"path": "/v", "detail": {"name": "busy"}}])
    with pytest.raises(Conflict, match="in use by container"):
        hyperd.client.remove_volume("busy")
    with pytest.raises(Conflict, match="other options"):
        hyperd.client.create_volume("busy", driver="disk")
    assert hyperd.client.prune_volumes(everything=True)["VolumesDeleted"] == []
    hyperd.client.remove_container(container)
    assert hyperd.client.prune_volumes(everything=True)["VolumesDeleted"] == ["busy"]


GANESHA = """
NFS_CORE_PARAM {{ Protocols = 4; NFS_Port = {port}; Bind_addr = 127.0.0.1; Enable_NLM = false;
    Enable_RQUOTA = false; Enable_UDP = false; }}
NFSV4 {{ Graceless = true; RecoveryRoot = {root}/recovery; Only_Numeric_Owners = true; }}
EXPORT {{ Export_Id = 1; Path = {root}/export; Pseudo = /export; Protocols = 4; Access_Type = RW;
    Squash = No_Root_Squash; SecType = sys; Transports = TCP; FSAL {{ Name = VFS; }} }}
"""


@pytest.fixture
def nfs(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """The directory that an NFS server on loopback exports as /export, and its port."""
    program = shutil.which("ganesha.nfsd")
    if program is None:
        pytest.skip("an NFS server is needed: apt-get install nfs-ganesha-vfs")
    (tmp_path / "export").mkdir()
    (tmp_path / "recovery").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "conf").write_text(GANESHA.format(root=tmp_path, port=port))
    paths = ("-f", tmp_path / "conf", "-L", tmp_path / "log", "-p", tmp_path / "pid")
    server = subprocess.Popen([program, "-F", *paths], stderr=subprocess.DEVNULL)
    try:
        log = tmp_path / "log"
        wait_until(lambda: log.exists() and "INITIALIZED" in log.read_text(), "the NFS server", 60)
        yield tmp_path / "export", port
    finally:
        server.kill()
        server.wait(timeout=10)


def test_nfs(hyper: Hyper, nfs: tuple[Path, int]) -> None:
    """Mounted in the guest, over the user-mode network, where 10.0.2.2 is this host."""
    export, port = nfs
    (export / "file").write_text("from the server\n")
    option = f'"volume-opt=o=port={port},soft"'
    mount = (
        f"source=shared,target=/n,volume-opt=type=nfs,volume-opt=device=10.0.2.2:/export,{option}"
    )
    script = "cat /n/file; echo guest > /n/g; chown 1000:8 /n/g; sync"
    run = ("run", "--rm", "--network", "user")
    assert hyper.text(*run, "--mount", mount, "busybox", "sh", "-c", script) == "from the server"
    assert (export / "g").read_text() == "guest\n" and (export / "g").stat().st_uid == 1000
    done = hyper(*run, "-v", "shared:/n:ro", "busybox", "touch", "/n/x")
    assert done.returncode == 1 and b"Read-only" in done.stderr
    done = hyper("run", "--rm", "--network", "none", "-v", "shared:/n", "busybox", "true")
    assert done.returncode == 125 and b"mount of nfs4 on /n" in done.stderr
    hyper.text("volume", "rm", "shared")


def test_volumes_of_a_running_pod(hyperd: Hyperd, tmp_path: Path) -> None:
    """Disks are added to any; directories where the VM has a share, else the error says why."""
    client = hyperd.client
    directory = [{"path": "/d", "detail": {"source": str(tmp_path)}}]
    disk = [{"path": "/k", "detail": {"name": "hot", "format": "raw"}}]
    first = {"image": "busybox", "name": "first", "command": ["sleep", "1000"], "stopTimeout": 0}
    for share in (False, True):
        pod = client.create_pod({"id": "hot", "containers": [first], "share": share})["ID"]
        client.start_pod(pod)
        for name in ("k1", "k2"):
            command = ["sh", "-c", f"echo {name} >> /k/f; cat /k/f; sleep 1000"]
            spec = {"image": "busybox", "name": name, "command": command, "volumes": disk}
            client.start_container(client.create_container(pod, {**spec, "stopTimeout": 0}))
        wait_until(lambda: hyperd.output_of("k2").endswith("k1\nk2\n"), "both on one disk")
        spec = {"image": "busybox", "name": "dir", "command": ["touch", "/d/made"]}
        client.create_container(pod, {**spec, "volumes": directory})
        if share:
            client.start_container("dir")
            assert client.wait("dir") == 0 and (tmp_path / "made").exists()
        else:
            with pytest.raises(BadRequest, match="share: true"):
                client.start_container("dir")
            assert client.inspect_container("first")["State"]["Running"]
        client.remove_pod(pod, force=True)
    client.remove_volume("hot")
    hyperd.nothing_left()


def test_the_images_volumes(hyper: Hyper, hyperd: Hyperd, tmp_path: Path) -> None:
    """A VOLUME is an anonymous volume with the image's content, owners and attributes.

    What links in the image say is of the guest only.
    """
    busybox = Path(shutil.which("busybox") or "").read_bytes()
    outside = tmp_path / "outside"
    outside.mkdir()
    applets = [symlink(f"bin/{name}", "busybox") for name in ("sh", "stat", "cat", "touch", "ls")]
    layer = make_tar(
        [
            Item("bin/busybox", busybox, mode=0o755),
            *applets,
            folder("data", 0o2750, owner=1000),
            Item("data/f", b"of the image", mode=0o640, owner=1000, xattrs={"user.a": "b"}),
            symlink("data/up", "../../../../../.." + str(outside)),
            symlink("evil", "../../../../../.." + str(outside)),
        ]
    )
    config = {
        "Cmd": ["sh"],
        "User": "1000",
        "Volumes": {"/data": {}, "/": {}, "": {}},
    }
    archive = tmp_path / "image"
    make_image(archive, [layer], "docker.io/library/volumes:latest", config=config)
    assert hyper("load", "-i", str(archive)).returncode == 0
    script = "cat /data/f; touch /data/new; stat -c ' %u:%g %a' /data; ls /data/up 2>&1"
    said = hyper("run", "--name", "owner", "-v", "e:/evil", "volumes", "sh", "-c", script)
    assert said.stdout.decode().startswith("of the image 1000:1000 2750\n"), said
    mounts = hyperd.client.inspect_container("owner")["Mounts"]
    assert [m["Destination"] for m in mounts] == ["/evil", "/data"]
    data = Path(mounts[1]["Source"])
    status = data.stat()
    assert (status.st_uid, status.st_mode & 0o7777) == (1000, 0o2750)
    assert (
        os.getxattr(data / "f", "user.a") == b"b" and (data / "f").stat().st_mode & 0o777 == 0o640
    )
    assert os.readlink(data / "up").endswith("outside") and (data / "new").exists()
    assert list(outside.iterdir()) == []
    hyper.text("rm", "-v", "owner")
    assert hyper.text("volume", "rm", "e") == "e" and not data.exists()
