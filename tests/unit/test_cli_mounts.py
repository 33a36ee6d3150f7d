"""The options about volumes as specifications."""

from pathlib import Path
from typing import Any

import pytest

from hypercontainer.cli.arguments import UsageError
from hypercontainer.cli.mounts import mount, tmpfs, volume
from hypercontainer.pods.spec import parse_pod
from hypercontainer.pods.spec_volumes import VolumeMount


def parsed(item: dict[str, object]) -> VolumeMount:
    """As hyperd takes it."""
    return parse_pod({"containers": [{"image": "i", "volumes": [item]}]}).containers[0].volumes[0]


def test_volumes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    found = parsed(volume("./x:/p:ro,z"))
    assert (found.volume.kind, found.volume.source) == ("bind", str(tmp_path / "x"))
    assert found.read_only and not found.volume.must_exist
    found = parsed(volume("name:/p:nocopy"))
    assert (found.volume.kind, found.volume.name, found.no_copy) == ("volume", "name", True)
    assert parsed(volume("/p")).anonymous
    for bad in ("/a:/b:rx", "/a:/b:rshared", "a:b", "", "/a:/b:/c:ro", "x:/"):
        with pytest.raises((UsageError, Exception), match=r"--volume|below /"):
            parsed(volume(bad))


def test_mounts() -> None:
    found = parsed(mount("type=bind,src=/s,dst=/p,ro"))
    assert (found.volume.kind, found.volume.must_exist, found.read_only) == ("bind", True, True)
    found = parsed(mount("source=v,target=/p,volume-driver=disk,volume-opt=size=1g,volume-nocopy"))
    assert (found.volume.driver, found.volume.driver_options) == ("disk", {"size": "1g"})
    assert found.no_copy
    nfs = 'target=/p,volume-opt=type=nfs,volume-opt=device=:/e,"volume-opt=o=addr=10.0.0.1,ro"'
    assert parsed(mount(nfs)).volume.driver_options["o"] == "addr=10.0.0.1,ro"
    found = parsed(mount("type=tmpfs,target=/p,tmpfs-size=64m,tmpfs-mode=1777"))
    assert found.volume.options == ("size=64m", "mode=1777")
    found = parsed(mount("type=disk,src=/i,target=/p,format=qcow2,cache=none"))
    assert (found.volume.kind, found.volume.format, found.volume.cache) == (
        "image",
        "qcow2",
        "none",
    )
    assert parsed(tmpfs("/p:size=1m,exec")).volume.options == ("size=1m", "exec")


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ("type=npipe,target=/p", "none of"),
        ("type=bind,target=/p", "source is missing"),
        ("type=bind,source=/s", "absolute path"),
        ("type=bind,source=/s,target=/p,volume-nocopy", "unknown to the type bind"),
        ("type=tmpfs,target=/p,source=x", "unknown to the type tmpfs"),
        ("type=volume,target=/p,readonly=perhaps", "neither true nor false"),
        ("type=bind,source=/s,target=/p,bind-propagation=rshared", "not supported"),
        ("target=/p,target=/q", "twice"),
    ],
)
def test_bad_mounts(item: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        mount(item)


_PARSED: list[tuple[dict[str, Any], str]] = [
    ({"format": "nas", "source": "nohost"}, "HOST:/PATH"),
    ({"format": "nas", "source": "h:/x", "options": "a b"}, "spaces"),
    ({"format": "qcow2"}, "which image"),
    ({"format": "raw", "source": "rel"}, "absolute path"),
    ({"format": "raw", "source": "/i", "cache": "x"}, "none of off"),
    ({"format": "raw", "source": "/i", "fstype": "a/b"}, "file system"),
    ({"source": "/i", "cache": "none"}, "only disk images"),
    ({"format": "tmpfs", "options": "size=x"}, "option of tmpfs"),
    ({"format": "tmpfs", "source": "/x"}, "has none"),
    ({"name": "../x"}, "no name of a volume"),
    ({"name": "v", "create": {"driver": "zfs"}}, "not supported"),
    ({"name": "v", "create": {"driver": "disk", "options": {"size": "1k"}}}, "16m to 64t"),
    ({"name": "v", "create": {"options": {"type": "cifs"}}}, "not supported"),
    ({"name": "v", "create": {"options": {"colour": "red"}}}, "unknown to the driver"),
    ({"source": "/x", "create": {"driver": "disk"}}, "is made"),
    ({"format": "zip"}, "none of raw"),
]


@pytest.mark.parametrize(("detail", "says"), _PARSED)
def test_bad_details(detail: dict[str, Any], says: str) -> None:
    with pytest.raises(Exception, match=says) as caught:
        parsed({"path": "/p", "detail": detail})
    assert str(caught.value).startswith("containers[0].volumes[0].detail")
