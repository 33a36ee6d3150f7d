"""Files of containers: copied out and in, exported, compared, running and stopped."""

import asyncio
import io
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hypercontainer.errors import BadRequest, NotFound
from hypercontainer.images import ImageStore
from hypercontainer.networks import Networks, NetworkStore, Settings
from hypercontainer.pods.filesystem import ContainerFiles
from hypercontainer.pods.layout import Layout
from hypercontainer.pods.model import Container
from hypercontainer.pods.plans import Defaults
from hypercontainer.pods.service import PodService
from hypercontainer.pods.store import Store
from tests.e2e.hyperd_process import busybox_archive, wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCRIPT = """
mkdir -p /data/sub /new; echo one > /data/a; ln /data/a /data/hard; ln -s ../data/a /data/link
printf '%0300d' 7 > /data/sub/long; chown 1000:8 /data/sub; chmod 2751 /data/sub
mkfifo /data/pipe; rm /etc/group; echo more >> /etc/passwd; rm -r /home; mkdir /home
touch -d @1234567890 /data/a; echo done; sleep 1000
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PodService]:
    root = tmp_path_factory.mktemp("files")
    layout = Layout(root / "root", root / "state")
    layout.root.mkdir()
    layout.sandboxes.mkdir(parents=True)
    images = ImageStore(layout.root / "images")
    await images.load(busybox_archive(root / "busybox.tar"))
    networks = Networks(NetworkStore(layout.database), Settings(root, root, bridge="none"))
    service = PodService(layout, Store(layout.database), images, Defaults(), networks)
    await service.open()
    try:
        yield service
    finally:
        for pod in list(service.pods.values()):
            await service.remove(pod, force=True)
        await service.close()
        images.close()


async def container_of(service: PodService, *command: str, **keys: Any) -> Container:
    item = {"image": "busybox", "command": list(command), "stopTimeout": 0, **keys}
    pod = service.create({"containers": [item]})
    return pod.containers[0]


class Found(tarfile.TarInfo):
    """A member of an archive with what is in it."""

    data = b""


async def whole(pieces: AsyncIterator[bytes]) -> dict[str, Found]:
    data = b"".join([piece async for piece in pieces])
    with tarfile.open(fileobj=io.BytesIO(data), tarinfo=Found) as tar:
        found: dict[str, Found] = {}
        for info in tar:
            assert isinstance(info, Found)
            found[info.name] = info
            if info.isreg():
                file = tar.extractfile(info)
                assert file is not None
                info.data = file.read()
        return found


def content(found: Found) -> bytes:
    return found.data


async def archive(*members: tuple[tarfile.TarInfo, bytes]) -> AsyncIterator[bytes]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    yield buffer.getvalue()


def member(name: str, **attributes: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info


async def look(files: ContainerFiles) -> None:
    """What the script has left, running or not."""
    found = await whole(files.get("/data"))
    assert set(found) >= {
        *("data", "data/a", "data/hard", "data/link", "data/pipe", "data/sub", "data/sub/long")
    }
    first, second = sorted((found["data/a"], found["data/hard"]), key=lambda i: i.islnk())
    assert content(first) == b"one\n" and first.mtime == 1234567890
    assert second.islnk() and second.linkname == first.name
    assert found["data/link"].linkname == "../data/a"
    assert found["data/pipe"].isfifo()
    sub = found["data/sub"]
    assert (sub.uid, sub.gid, sub.mode) == (1000, 8, 0o2751)
    assert content(found["data/sub/long"]) == b"%0300d" % 7
    assert set(await whole(files.get("/data/sub/."))) >= {".", "./long"}
    assert content((await whole(files.get("/data/link", follow=True)))["link"]) == b"one\n"
    assert (await whole(files.get("/data/link")))["link"].issym()
    stat = await files.stat("/data/link")
    assert (stat.type, stat.target) == ("l", "../data/a")
    with pytest.raises(NotFound, match="/nothing: no such file"):
        await files.stat("/nothing")
    with pytest.raises(NotFound):
        await whole(files.get("/nothing"))
    changes = {change.path: change.kind for change in await files.changes()}
    assert changes["/data"] == "A" and changes["/data/sub/long"] == "A"
    assert changes["/etc/passwd"] == "C" and changes["/etc/group"] == "D"
    assert changes["/home"] == "C" and changes["/home/user"] == "D"
    assert changes["/etc"] == "C"
    assert "/etc/hosts" not in changes and "/bin" not in changes and "/proc" not in changes
    layer = await whole(files.layer())
    assert "etc/.wh.group" in layer and "etc/passwd" in layer and "data/sub/long" in layer
    assert "home/.wh..wh..opq" in layer
    assert not any(name.startswith(("proc", "dev", "bin")) for name in layer)
    exported = await whole(files.export())
    assert "etc/group" not in exported and "data/a" in exported and exported["bin/sh"].issym()
    assert not any(name.startswith("proc/") for name in exported)


async def test_files_of_a_container(service: PodService, tmp_path: Path) -> None:
    container = await container_of(service, "sh", "-c", SCRIPT)
    pod = service.pod_of(container)
    await service.start(pod)
    await printed(service, container, "done")
    async with service.files.open(pod, container) as files:
        await look(files)
        await files.put("/tmp", archive((member("gone"), b"")))
        await files.put(
            "/data/sub",
            archive(
                (member("d", type=tarfile.DIRTYPE, mode=0o1777, uid=5, mtime=99), b""),
                (member("d/file", mode=0o4755, uid=1, gid=2, mtime=1.5), b"x" * 200000),
                (member("abs", type=tarfile.SYMTYPE, linkname="/etc/passwd"), b""),
                (member("d/other", type=tarfile.LNKTYPE, linkname="d/file"), b""),
            ),
        )
        found = await whole(files.get("/data/sub/d"))
        assert (found["d"].mode, found["d"].uid, found["d"].mtime) == (0o1777, 5, 99)
        assert (found["d/file"].mode, found["d/file"].gid) == (0o4755, 2)
        assert found["d/file"].mtime == 1.5
        assert {found["d/file"].islnk(), found["d/other"].islnk()} == {False, True}
        assert content((await whole(files.get("/data/sub/d/file")))["file"]) == b"x" * 200000
        await refusals(files)
    await service.stop(pod, None, 0)
    async with service.files.open(pod, container) as files:
        await look(files)
        await files.put("/data/sub", archive((member("d/file"), b"again")))
    async with service.files.open(pod, container) as files:
        assert content((await whole(files.get("/data/sub/d/file")))["file"]) == b"again"
    async with service.files.open(pod, container, volumes=False) as files:
        assert "A" in {c.kind for c in await files.changes()}
    assert not list(service.layout.sandboxes.glob("*+files"))


async def refusals(files: ContainerFiles) -> None:
    bad: list[tuple[str, tuple[tarfile.TarInfo, bytes], Callable[..., object], str]] = [
        ("/nothing", (member("a"), b""), NotFound, "no such file"),
        ("/etc/passwd", (member("a"), b""), BadRequest, "not a directory"),
        ("/data", (member("../a"), b""), BadRequest, "leads out"),
        ("/", (member("data"), b"x"), Exception, "cannot overwrite directory"),
        ("/data", (member("a", type=tarfile.DIRTYPE), b""), Exception, "cannot overwrite non-"),
    ]
    for path, item, kind, text in bad:
        with pytest.raises(kind, match=text):  # type: ignore[call-overload]
            await files.put(path, archive(item))

    async def rubbish() -> AsyncIterator[bytes]:
        yield b"x" * 5000

    with pytest.raises(BadRequest, match="archive"):
        await files.put("/data", rubbish())


async def printed(service: PodService, container: Container, text: str) -> None:
    log = service.layout.log(container.pod_id, container.id)
    await asyncio.to_thread(
        wait_until, lambda: log.exists() and text in log.read_text(), f"{text} in the log", 60.0
    )
