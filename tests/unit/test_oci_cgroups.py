"""Where a container's control group is on the host."""

import os
from pathlib import Path

import pytest

from hypercontainer.errors import BadRequest
from hypercontainer.oci.cgroups import group_path
from hypercontainer.system import cgroups


@pytest.mark.parametrize(
    ("path", "systemd", "expected"),
    [
        ("/docker/abc", False, "/docker/abc"),
        ("relative/abc", False, "relative/abc"),
        ("", False, "id"),
        ("", True, "id"),
        ("system.slice:docker:abc", True, "/system.slice/docker-abc.scope"),
        (":runv:abc", True, "/system.slice/runv-abc.scope"),
        ("a-b-c.slice:cri:x", True, "/a.slice/a-b.slice/a-b-c.slice/cri-x.scope"),
        ("-.slice:cri:x", True, "/cri-x.scope"),
        ("user.slice::x.slice", True, "/user.slice/x.slice"),
    ],
)
def test_the_path(path: str, systemd: bool, expected: str) -> None:
    assert group_path(path, "id", systemd=systemd) == expected


@pytest.mark.parametrize(
    ("path", "systemd"), [("/a/../../b", False), ("..", False), ("/docker/abc", True)]
)
def test_bad_paths(path: str, systemd: bool) -> None:
    with pytest.raises(BadRequest, match=r"linux\.cgroupsPath"):
        group_path(path, "id", systemd=systemd)


def test_a_group_is_made_and_removed_with_what_is_below(tmp_path: Path) -> None:
    group = [str(tmp_path / "one" / "x"), str(tmp_path / "two" / "x")]
    assert cgroups.create(group) == group
    os.mkdir(f"{group[0]}/below")
    assert cgroups.remove(group, 1.0) == []
    assert not os.path.exists(group[0])
    assert cgroups.remove(group, 1.0) == []


def test_a_group_that_is_in_use_is_left_after_the_bound(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "cgroup.procs").write_text("")
    assert cgroups.remove([str(tmp_path / "x")], 0.0) == [str(tmp_path / "x")]


def test_what_may_not_be_made_is_left_out() -> None:
    assert cgroups.create(["/proc/nothing/x"]) == []
    cgroups.enter(["/proc/nothing/x"], os.getpid())
