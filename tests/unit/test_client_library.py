"""What the Python client offers, and how it takes what a hostile container sends."""

import inspect
import io
import tarfile
from collections.abc import Iterator
from typing import Any, cast

import pytest

import hypercontainer
from hypercontainer.client import AsyncClient, AsyncContainer, Client, Container, TooLarge
from hypercontainer.client.files import BodyFile
from hypercontainer.client.filesets import unpacked
from hypercontainer.client.options import described, memory_mib
from hypercontainer.errors import BadRequest

# Sockets and files: of the synchronous client only, as its documentation says.
SYNCHRONOUS = {"attach", "start_exec", "get_archive", "export", "save"}


def public(kind: type) -> set[str]:
    return {name for name, item in inspect.getmembers(kind, callable) if name[0] != "_"}


def test_both_clients_have_the_same_methods() -> None:
    assert public(Client) - public(AsyncClient) == SYNCHRONOUS, "add it to client/aio.py"
    assert public(AsyncClient) - public(Client) == {"close"}
    assert public(Container) == public(AsyncContainer)


def test_what_the_package_exports() -> None:
    for name in hypercontainer.__all__:
        assert getattr(hypercontainer, name)
    with pytest.raises(AttributeError):
        _ = hypercontainer.nonsense


@pytest.mark.parametrize(
    ("value", "mib"), [(64, 64), ("64", 64), ("64m", 64), ("2g", 2048), ("1GiB", 1024)]
)
def test_memory(value: int | str, mib: int) -> None:
    assert memory_mib(value) == mib


@pytest.mark.parametrize("value", ["", 0, -1, "1t", "m", "1.5g", 1.5])
def test_bad_memory(value: Any) -> None:
    with pytest.raises(BadRequest, match=r"^memory: "):
        memory_mib(value)


def test_the_specification() -> None:
    spec = described(
        "image",
        ["a"],
        {"volumes": {"/v": "name:ro", "/w": "/host"}, "files": {"/f": b"\0"}},
        name="n",
        stdin=False,
    )
    assert (spec["network"], spec["resource"]) == ("none", {"vcpu": 1, "memory": 128})
    (container,) = spec["containers"]
    assert container["volumes"] == [
        {"path": "/v", "readOnly": True, "detail": {"name": "name"}},
        {"path": "/w", "readOnly": False, "detail": {"source": "/host"}},
    ]
    assert container["files"][0]["detail"]["content"] == "AA=="


class Archive:
    """Stands for a response whose body a container chose."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def chunks(self) -> Iterator[bytes]:
        yield self._data

    def close(self) -> None:
        self._data = b""


def archive(*members: tuple[str, bytes, str]) -> bytes:
    """A tar archive of (name, content, link target)."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content, link in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            if link:
                entry.type, entry.linkname = tarfile.LNKTYPE, link
            tar.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def files_of(data: bytes, *, max_bytes: int = 100, max_files: int = 3) -> dict[str, bytes]:
    body = BodyFile(cast(Any, Archive(data)))
    return unpacked(body, "/out", max_bytes=max_bytes, max_files=max_files)


def test_files_that_came() -> None:
    found = files_of(
        archive(("out/a", b"1", ""), ("out/b", b"", "out/a"), ("out/c", b"", "/etc/x"))
    )
    assert found == {"/out/a": b"1", "/out/b": b"1"}


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (archive(("out/a", b"1" * 60, ""), ("out/b", b"1" * 41, "")), TooLarge),
        (archive(*[(f"out/{n}", b"", "") for n in range(4)]), TooLarge),
        (archive(("out/../../etc/passwd", b"", "")), BadRequest),
        (b"nonsense" * 1000, BadRequest),
    ],
)
def test_hostile_archives(data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        files_of(data)


def test_an_archive_whose_headers_have_no_end() -> None:
    entry = tarfile.TarInfo("out/a")
    entry.type, entry.size = tarfile.XHDTYPE, 1 << 32
    with pytest.raises(TooLarge):
        files_of(entry.tobuf(tarfile.USTAR_FORMAT) + b"9" * (1 << 20))
