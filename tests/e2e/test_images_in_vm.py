"""What a guest sees of stacked layers: the overlay of our disk images, in a real VM."""

import os
import random
import tarfile
from pathlib import Path
from typing import Any

import pytest

from hypercontainer.images import busybox
from tests.e2e.hyperd_process import Hyperd
from tests.images import make_image
from tests.tars import Item, folder, hardlink, make_tar, symlink

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="hyperd needs root")


def busybox_layer(scratch: Path) -> bytes:
    """The one layer of the busybox image."""
    busybox.build(scratch / "busybox.tar")
    with tarfile.open(scratch / "busybox.tar") as tar:
        large = max(tar.getmembers(), key=lambda member: member.size)
        file = tar.extractfile(large)
        assert file is not None
        return file.read()


def load(hyperd: Hyperd, archive: Path) -> None:
    with archive.open("rb") as file:
        for _ in hyperd.client.load(file):
            pass


def run(hyperd: Hyperd, image: str, script: str, **keys: Any) -> str:
    """The output of a shell script in a container of an image."""
    spec = {"containers": [{"image": image, "command": ["sh", "-c", script], **keys}]}
    container = hyperd.client.create_pod(spec)["Containers"][0]
    hyperd.client.start_container(container)
    code = hyperd.client.wait(container)
    output = hyperd.output_of(container)
    hyperd.client.remove_container(container, force=True)
    assert code == 0, output
    return output


def test_stacked_layers(hyperd: Hyperd, tmp_path: Path) -> None:
    lower = make_tar(
        [
            folder("d", 0o755),
            *(Item(f"d/{name}", b"lower") for name in ("keep", "gone", "changed")),
            folder("hidden"),
            Item("hidden/old", b"lower"),
            folder("whole"),
            Item("whole/f", b"lower"),
            Item("owned", b"x", mode=0o4750, owner=1234),
            hardlink("linked", "owned"),
            symlink("to-keep", "d/keep"),
        ]
    )
    upper = make_tar(
        [
            Item("d/changed", b"upper"),
            Item("d/.wh.gone"),
            Item("hidden/new", b"upper"),
            Item("hidden/.wh..wh..opq"),
            Item(".wh.whole"),
            folder("d", 0o711),
        ]
    )
    make_image(tmp_path / "i.tar", [busybox_layer(tmp_path), lower, upper], "docker.io/l/a:1")
    load(hyperd, tmp_path / "i.tar")
    output = run(
        hyperd,
        "l/a:1",
        "ls d hidden; cat d/changed to-keep; ls whole 2>/dev/null;"
        " stat -c ' %a %u %h' owned linked; stat -c %a d /;"
        " echo more >>d/keep && rm d/changed && mkdir whole && ls whole d",
    )
    assert output.split() == [
        *("d:", "changed", "keep", "hidden:", "new", "upperlower"),
        *("4750", "1234", "2", "4750", "1234", "2", "711", "755"),
        *("d:", "keep", "whole:"),
    ]


@pytest.mark.usefixtures("hyperkernel")
def test_many_layers(hyperd: Hyperd, tmp_path: Path) -> None:
    layers = [make_tar([Item(f"many/f{i}", b"%d\n" % i), Item("last", b"%d" % i)])
              for i in range(59)]  # fmt: skip
    make_image(tmp_path / "i.tar", [busybox_layer(tmp_path), *layers], "docker.io/l/many:1")
    load(hyperd, tmp_path / "i.tar")
    output = run(hyperd, "l/many:1", "ls many | wc -l; cat last; cat many/f0")
    assert output.split() == ["59", "580"]


def test_content_arrives_whole(hyperd: Hyperd, tmp_path: Path) -> None:
    from hashlib import sha256

    data = [random.Random(i).randbytes(size) for i, size in enumerate((0, 1, 131_072, 5_000_001))]
    layer = make_tar(Item(f"x/{i}", part) for i, part in enumerate(data))
    make_image(tmp_path / "i.tar", [busybox_layer(tmp_path), layer], "docker.io/l/sums:1")
    load(hyperd, tmp_path / "i.tar")
    output = run(hyperd, "l/sums:1", "sha256sum x/*")
    assert [line.split()[0] for line in output.splitlines()] == [
        sha256(part).hexdigest() for part in data
    ]


def test_our_busybox_has_its_users(hyperd: Hyperd, tmp_path: Path) -> None:
    busybox.build(tmp_path / "b.tar", name="docker.io/library/ours:latest")
    load(hyperd, tmp_path / "b.tar")
    output = run(hyperd, "ours", "id -un; pwd; stat -c %a /tmp /root; /usr/bin/env | grep ^PATH")
    assert output.split()[:4] == ["root", "/", "1777", "700"]
    assert run(hyperd, "ours", "id", user={"name": "www-data"}).startswith(
        "uid=33(www-data) gid=33"
    )
