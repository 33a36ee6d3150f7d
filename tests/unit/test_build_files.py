"""Contexts and layers of builds: .dockerignore, sources, links, owners."""

import io
import tarfile
from pathlib import Path

import pytest

from hypercontainer.build.copying import NewLayer, Owner, select
from hypercontainer.build.dockerfile import parse
from hypercontainer.build.ignore import Ignore
from hypercontainer.build.stages import needed, split_stages
from hypercontainer.build.tree import Node, context_tree, image_tree, lookup, resolve
from hypercontainer.build.users import owner_of
from hypercontainer.errors import BadRequest
from tests.tars import Item, folder, hardlink, make_tar, symlink


@pytest.mark.parametrize(
    ("text", "ignored", "kept"),
    [
        ("a\n# c\nb/*.o", ["a", "a/x", "b/x.o"], ["b/x.c", "c/b/x.o", "# c"]),
        ("**/x", ["x", "a/x", "a/b/x/c"], ["xy", "a/xy"]),
        ("*\n!keep\n!d/e", ["a", "d/f"], ["keep", "keep/x", "d/e"]),
        ("/a/\n./b", ["a", "b"], ["c/a"]),
        ("a?[bc]", ["axb", "axc"], ["axd", "a/b"]),
        ("a/**", ["a/b", "a/b/c"], ["b"]),
        ("docs\n!docs/*.md\ndocs/x.md", ["docs/a", "docs/x.md"], ["docs/a.md"]),
    ],
)
def test_ignored_files(text: str, ignored: list[str], kept: list[str]) -> None:
    ignore = Ignore(text)
    assert [path for path in ignored if not ignore.ignores(path)] == []
    assert [path for path in kept if ignore.ignores(path)] == []


def tree_of(tmp_path: Path, *items: Item) -> Node:
    path = tmp_path / "context.plain"
    path.write_bytes(make_tar(items))
    return context_tree(path, "the context")


def entries(layer: NewLayer) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(layer.tar()))) as tar:
        return {entry.name: entry for entry in tar}


def test_layers_of_images(tmp_path: Path) -> None:
    layers = [
        [folder("a", 0o700), Item("a/x", b"1"), Item("a/y"), Item("b/z"), Item("c/k")],
        [Item("a/.wh.x"), Item("b/.wh..wh..opq"), Item("b/new"), hardlink("b/same", "b/new")],
        [Item("a/x", b"22"), Item(".wh.c"), symlink("l", "a")],
    ]
    blobs = []
    for number, items in enumerate(layers):
        blobs.append(tmp_path / f"{number}.tar")
        blobs[-1].write_bytes(make_tar(items))
    root = image_tree(blobs)
    found = {
        name for name in (b"a/x", b"a/y", b"b/z", b"b/new", b"b/same", b"c") if lookup(root, name)
    }
    assert found == {b"a/x", b"a/y", b"b/new", b"b/same"}
    assert lookup(root, b"b/new") is lookup(root, b"b/same")
    path, node = resolve(root, b"l/x")
    assert (path, node and node.size) == (b"a/x", 2)


def test_links_stay_inside(tmp_path: Path) -> None:
    root = tree_of(
        tmp_path,
        symlink("up", "../../../etc"),
        symlink("root", "/etc"),
        symlink("loop", "loop"),
        Item("etc/passwd", b"mine"),
    )
    for name in ("up/passwd", "root/passwd"):
        ((_, node),) = select(root, name, "the context")
        assert node.size == 4
    for name in ("../etc/passwd", "etc/none", "loop"):
        with pytest.raises(BadRequest):
            select(root, name, "the context")


def test_a_new_layer(tmp_path: Path) -> None:
    below = tree_of(tmp_path, folder("usr/lib", 0o751), symlink("lib", "usr/lib"), Item("f"))
    source = Node(b"0", 0o640, 0, 0, 5)
    layer = NewLayer(below, Owner(3, 4), None)
    layer.add(source, b"lib/x/y")
    seen = entries(layer)
    assert (seen["usr/lib"].mode, seen["usr/lib"].uid) == (0o751, 0)
    assert (seen["usr/lib/x"].mode, seen["usr/lib/x"].uid) == (0o755, 3)
    assert (seen["usr/lib/x/y"].gid, seen["usr/lib/x/y"].mtime) == (4, 5)
    for path in (b"f/below", b"usr", b"lib/x", b"d/.wh.x", b".wh.d/x"):
        with pytest.raises(BadRequest):
            layer.add(source, path)


def test_a_whiteout_in_a_context_is_only_a_file(tmp_path: Path) -> None:
    root = tree_of(tmp_path, Item("keep"), Item(".wh.keep"))
    assert lookup(root, b"keep") is not None
    with pytest.raises(BadRequest, match=r"begin with \.wh\."):
        NewLayer(root, None, None).add(root, b"x")


def test_owners() -> None:
    passwd, group = b"web:x:33:44::/:/x\n", b"adm:x:55:\n"
    assert owner_of("web", passwd, group) == Owner(33, 44)
    assert owner_of("web:adm", passwd, group) == Owner(33, 55)
    assert owner_of("7", passwd, group) == Owner(7, 7)
    assert owner_of("7:8", b"", b"") == Owner(7, 8)
    for bad in ("who", "web:who", "99999999999"):
        with pytest.raises(BadRequest):
            owner_of(bad, passwd, group)


def test_the_stages_that_are_needed() -> None:
    text = b"FROM a AS one\nFROM b AS two\nRUN x\nFROM one AS three\nCOPY --from=1 x y\nFROM d\n"
    stages = split_stages(parse(text).instructions)
    bases = [stage.begin.image for stage in stages]

    def numbers(target: str) -> list[int]:
        return [stage.number for stage in needed(stages, target, bases)]

    assert (numbers(""), numbers("three"), numbers("Two")) == ([3], [0, 1, 2], [1])
    with pytest.raises(BadRequest, match="no stage 'x'"):
        numbers("x")
