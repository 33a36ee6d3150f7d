"""The tar reader and the layer rewriter, against Python's tarfile and a model of unpacking."""

import io
import tarfile
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypercontainer.images.failures import BadImage
from hypercontainer.images.layer import Facts, NeedsPlan, rewrite
from hypercontainer.images.layerentries import Limits, Tree
from hypercontainer.images.layerplan import make_plan
from hypercontainer.images.tarstream import ChunkSource, Entry
from tests.tars import Item, folder, hardlink, make_tar, symlink

LIMITS = Limits(entries=1000, bytes=1 << 20, held=1 << 20)


class _Sink:
    def __init__(self) -> None:
        self.root: Entry | None = None
        self.data = bytearray()

    def begin(self, root: Entry) -> None:
        assert self.root is None
        self.root = root

    def write(self, data: bytes | memoryview) -> None:
        self.data += data


def _source(data: bytes, step: int = 700) -> ChunkSource:
    return ChunkSource(data[i : i + step] for i in range(0, len(data), step))


def convert(data: bytes, step: int = 700) -> tuple[_Sink, Facts]:
    """Both passes, as `Conversion` does them."""
    sink = _Sink()
    try:
        return sink, rewrite(_source(data, step), sink, "layer x", LIMITS)
    except NeedsPlan:
        plan = make_plan(_source(data, step), Tree("layer x", LIMITS))
        sink = _Sink()
        return sink, rewrite(_source(data, step), sink, "layer x", LIMITS, plan)


def read_back(sink: _Sink) -> dict[str, tuple[str, bytes]]:
    """Names, each with a letter for its kind and its content, as `sqfstar` would read them."""
    found: dict[str, tuple[str, bytes]] = {}
    with tarfile.open(fileobj=io.BytesIO(bytes(sink.data))) as tar:
        for member in tar:
            assert member.name not in found or member.isdir(), "sqfstar would keep the first"
            opaque = member.pax_headers.get("SCHILY.xattr.trusted.overlay.opaque") == "y"
            if member.isdir():
                found[member.name] = ("o" if opaque else "d", b"")
            elif member.issym():
                found[member.name] = ("l", member.linkname.encode())
            elif member.islnk():
                found[member.name] = found[member.linkname]
            elif member.ischr():
                assert (member.devmajor, member.devminor) == (0, 0)
                found[member.name] = ("w", b"")
            else:
                content = tar.extractfile(member)
                assert content is not None
                found[member.name] = ("f", content.read())
    return found


def _check(items: list[Item], expected: dict[str, tuple[str, bytes]]) -> None:
    assert read_back(convert(make_tar(items))[0]) == expected


def test_plain_entries_pass() -> None:
    _check(
        [folder("a"), Item("a/f", b"1"), symlink("a/l", "../x"), hardlink("a/h", "a/f")],
        {"a": ("d", b""), "a/f": ("f", b"1"), "a/l": ("l", b"../x"), "a/h": ("f", b"1")},
    )


def test_names_are_cleaned_and_parents_made() -> None:
    _check(
        [Item("./a//b/./c/../f", b"1"), hardlink("h", "/a/b/f")],
        {"a": ("d", b""), "a/b": ("d", b""), "a/b/f": ("f", b"1"), "h": ("f", b"1")},
    )


@pytest.mark.parametrize("length", [1, 99, 100, 101, 155, 156, 255])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names(length: int, form: int) -> None:
    name = "/".join(["d" * 200, "e" * 200, "f" * length])
    items = [Item(name, b"1"), symlink("l", "t" * 300), hardlink("h", name)]
    found = read_back(convert(make_tar(items, form))[0])
    assert found[name] == found["h"] == ("f", b"1")
    assert found["l"] == ("l", b"t" * 300)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_large_owners_and_sizes(form: int) -> None:
    sink, _ = convert(make_tar([Item("f", b"x" * 70_000, owner=4_000_000_000)], form))
    with tarfile.open(fileobj=io.BytesIO(bytes(sink.data))) as tar:
        assert tar.getmember("f").uid == 4_000_000_000
        assert tar.getmember("f").size == 70_000


def test_whiteouts_in_any_order() -> None:
    expected = {
        "d": ("o", b""),
        "d/new": ("f", b"1"),
        "e": ("d", b""),
        "e/gone": ("w", b""),
        "top": ("w", b""),
    }
    items = [
        folder("d"),
        Item("d/.wh..wh..opq"),
        Item("d/new", b"1"),
        folder("e"),
        Item("e/.wh.gone"),
        Item(".wh.top"),
    ]
    _check(items, expected)
    _check(items[::-1], expected)


def test_a_whiteout_of_a_name_that_comes_back() -> None:
    _check(
        [Item(".wh.a"), Item("a", b"1"), Item(".wh.d"), Item("d/f", b"2"), Item(".wh..wh.plnk")],
        {"a": ("f", b"1"), "d": ("o", b""), "d/f": ("f", b"2")},
    )


def test_an_opaque_root_is_told() -> None:
    _, facts = convert(make_tar([Item(".wh..wh..opq"), Item("f", b"1")]))
    assert facts.opaque_root
    assert facts.entries == 2


def test_a_layer_of_whiteouts_is_not_empty() -> None:
    sink, facts = convert(make_tar([Item(".wh.a")]))
    assert facts.entries == 1
    assert read_back(sink) == {"a": ("w", b"")}


def test_a_root_entry_is_told_wherever_it_stands() -> None:
    for items in ([folder("./", 0o711, owner=7)], [Item("f"), folder("./", 0o711, owner=7)]):
        sink, _ = convert(make_tar(items))
        assert sink.root is not None
        assert (sink.root.mode, sink.root.uid) == (0o711, 7)


def test_the_last_of_two_entries_counts() -> None:
    _check([Item("a", b"1"), Item("a", b"2")], {"a": ("f", b"2")})
    _check([Item("a", b"1"), folder("a"), Item("a/b")], {"a": ("d", b""), "a/b": ("f", b"")})
    _check([folder("a"), Item("a/b"), Item("a", b"2")], {"a": ("f", b"2")})
    _check(
        [Item("a", b"1"), hardlink("b", "a"), hardlink("c", "b"), Item("a", b"2")],
        {"a": ("f", b"2"), "b": ("f", b"1"), "c": ("f", b"1")},
    )


def test_dangerous_attributes_are_dropped() -> None:
    items = [
        Item("f", xattrs={"user.a": "1", "system.posix_acl_access": "x", "security.b": "2"}),
        folder("d", xattrs={"trusted.overlay.opaque": "y", "trusted.overlay.redirect": "/etc"}),
    ]
    sink, _ = convert(make_tar(items))
    with tarfile.open(fileobj=io.BytesIO(bytes(sink.data))) as tar:
        kept = {k: v for k, v in tar.getmember("f").pax_headers.items() if "xattr" in k}
        assert kept == {"SCHILY.xattr.user.a": "1", "SCHILY.xattr.security.b": "2"}
        assert not tar.getmember("d").pax_headers


def _raw(name: bytes = b"f", kind: bytes = b"0", **fields: bytes) -> bytes:
    """A header block with odd fields and a right checksum."""
    block = bytearray(512)
    block[0 : len(name)] = name
    block[100:136] = b"0000644\0" + b"0000000\0" * 2 + b"00000000000\0"
    block[136:148] = b"00000000000\0"
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    places = {"size": 124, "mode": 100, "link": 157, "checksum": 148}
    for key, value in fields.items():
        block[places[key] : places[key] + len(value)] = value
    if "checksum" not in fields:
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


END = bytes(1024)
CHAR, BLOCKDEV = tarfile.CHRTYPE, tarfile.BLKTYPE


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (make_tar([Item("../etc/passwd", b"x")]), "'../etc/passwd' leads out"),
        (make_tar([Item("a/../../b", b"x")]), "'a/../../b' leads out"),
        (make_tar([Item("a/.wh..", b"x")]), "'a/.wh..' removes no name"),
        (_raw(b"/etc/passwd") + END, "'/etc/passwd' is absolute"),
        (make_tar([Item("a"), hardlink("h", "../../a")]), "'h' leads out"),
        (make_tar([hardlink("h", "a"), Item("a")]), "'h' is a hard link to 'a'"),
        (make_tar([hardlink("h", "h")]), "'h' is a hard link"),
        (make_tar([folder("d"), hardlink("h", "d")]), "'h' is a hard link to a directory"),
        (make_tar([Item("d/sda", kind=BLOCKDEV, device=(8, 0))]), "'d/sda' is a block device"),
        (make_tar([Item("mem", kind=CHAR, device=(1, 1))]), "'mem' is a character device (1:1)"),
        (make_tar([Item("w", kind=CHAR, device=(0, 0))]), "'w' is a character device (0:0)"),
        (make_tar([symlink("a", "/etc"), Item("a/b")]), "'a/b' lies below 'a'"),
        (make_tar([Item("a"), Item("a/b")]), "'a/b' lies below 'a'"),
        (make_tar([Item("a"), folder("a/b")]), "'a/b' lies below 'a'"),
        (make_tar([Item("f", b"x" * 5000)])[:3000], "truncated: it ends within 'f'"),
        (make_tar([Item("f", b"x" * 5000)])[:300], "truncated: it ends within a header"),
        (make_tar([Item("f" * 256)]), "longer than 255"),
        (make_tar([Item("/".join(["f" * 200] * 22))]), "longer than 4095"),
        (make_tar([Item("f", b"x" * 2_000_000)]), "larger than"),
        (make_tar(Item(f"f{i}") for i in range(1001)), "more than 1000 entries"),
        (make_tar(Item(f"{i}/" + "d/" * 250) for i in range(12)), "too much memory"),
        (make_tar([Item("a"), folder("a"), *(Item(f"{i}/" + "d/" * 250) for i in range(12))]),
         "too much memory"),
        (_raw(kind=b"S") + END, "unknown kind"),
        (_raw(kind=b"D") + END, "unknown kind"),
        (_raw(b".") + END, "the root is not a directory"),
        (_raw(b"a\nb\x1b", kind=b"9") + END, "'a\\nb\\x1b'"),
        (_raw(checksum=b"0000000\0") + END, "checksum"),
        (_raw(size=b"\xff" * 12) + END, "negative size"),
        (_raw(size=b"12x") + END, "bad number"),
        (_raw(kind=b"L", size=b"00000000010\0") + b"a".ljust(512, b"\0"), "within an entry"),
        (_raw(kind=b"x", size=b"77777777777\0") + END, "extended header of"),
        (_raw(kind=b"x", size=b"00000000010\0") + b"9 a=bcde".ljust(512, b"\0"), "bad extended"),
        (make_tar([Item("f", xattrs={"GNU": "1"})]).replace(b"SCHILY.xattr.GNU=1",
                                                           b"GNU.sparse.major=1"), "sparse"),
    ],
)  # fmt: skip
def test_refuses_with_the_entrys_name(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage) as caught:
        convert(data)
    assert reason in caught.value.message
    assert caught.value.message.startswith("layer x is ")
    assert caught.value.message.isprintable()


def test_standard_devices_pass() -> None:
    sink, _ = convert(make_tar([Item("dev/null", kind=CHAR, device=(1, 3))]))
    with tarfile.open(fileobj=io.BytesIO(bytes(sink.data))) as tar:
        assert tar.getmember("dev/null").devminor == 3


def test_an_empty_layer_is_valid() -> None:
    for data in (b"", bytes(512), bytes(10240), make_tar([])):
        sink, facts = convert(data)
        assert facts == Facts(0, False)
        assert bytes(sink.data) == bytes(1024)


NAMES = st.sampled_from(["a", "b", "a/b", "a/c", "b/a", "a/b/c", "d"])
STEPS = st.one_of(
    st.tuples(st.just("file"), NAMES),
    st.tuples(st.just("folder"), NAMES),
    st.tuples(st.just("link"), st.tuples(NAMES, NAMES)),
    st.tuples(st.just("gone"), NAMES),
    st.tuples(st.just("opaque"), NAMES),
)


class _Impossible(Exception):
    pass


def _model(steps: list[tuple[str, str | tuple[str, str]]]) -> dict[str, tuple[str, bytes]]:
    """What unpacking the steps, one by one, would leave."""
    tree: dict[str, tuple[str, bytes]] = {}
    gone: set[str] = set()
    opaque: set[str] = set()

    def parents(name: str) -> Iterator[str]:
        while "/" in name:
            name = name.rpartition("/")[0]
            yield name

    def put(name: str, value: tuple[str, bytes]) -> None:
        for parent in parents(name):
            if tree.setdefault(parent, ("d", b""))[0] != "d":
                raise _Impossible
        if value[0] != "d" or tree.get(name, ("d", b""))[0] != "d":
            for below in [n for n in tree if n.startswith(f"{name}/")]:
                del tree[below]
        tree[name] = value

    for number, (what, names) in enumerate(steps):
        if what == "link":
            new, old = str(names[0]), str(names[1])
            if tree.get(old, ("d", b""))[0] == "d":
                raise _Impossible
            put(new, tree[old])
            continue
        assert isinstance(names, str)
        if what == "file":
            put(names, ("f", b"%d" % number))
        elif what == "folder":
            put(names, ("d", b""))
        elif what == "gone":
            gone.add(names)
        else:
            opaque.add(names)
    hidden: set[str] = set()
    for name in sorted(opaque):
        if all(tree.get(p, ("d", b""))[0] == "d" for p in [name, *parents(name)]):
            hidden.add(name)
            tree.update({p: tree.get(p, ("d", b"")) for p in [name, *parents(name)]})
    for name in sorted(gone):
        above = list(parents(name))
        if hidden & set(above) or any(tree.get(p, ("d", b""))[0] != "d" for p in above):
            continue
        if name not in tree:
            tree[name] = ("w", b"")
            tree.update({p: tree.get(p, ("d", b"")) for p in above})
        elif tree[name][0] == "d":
            hidden.add(name)
    return {**tree, **dict.fromkeys(hidden, ("o", b""))}


def _items(steps: list[tuple[str, str | tuple[str, str]]]) -> Iterator[Item]:
    for number, (what, names) in enumerate(steps):
        if what == "link":
            yield hardlink(names[0], names[1])
            continue
        assert isinstance(names, str)
        parent, _, base = names.rpartition("/")
        if what == "file":
            yield Item(names, b"%d" % number)
        elif what == "folder":
            yield folder(names)
        elif what == "gone":
            yield Item(f"{parent}/.wh.{base}" if parent else f".wh.{base}")
        else:
            yield Item(f"{names}/.wh..wh..opq")


@settings(max_examples=400, deadline=None)
@given(st.lists(STEPS, max_size=8))
def test_any_order_of_entries_means_what_unpacking_means(
    steps: list[tuple[str, str | tuple[str, str]]],
) -> None:
    data = make_tar(_items(steps))
    try:
        expected = _model(steps)
    except _Impossible:
        with pytest.raises(BadImage):
            convert(data)
        return
    assert read_back(convert(data)[0]) == expected


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4095), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(1, 2000),
)
def test_damage_is_refused_or_harmless(changes: list[tuple[int, int]], step: int) -> None:
    data = bytearray(
        make_tar([Item("a" * 120, b"x" * 700, xattrs={"user.a": "b"}), hardlink("h", "a" * 120)])
    )
    for place, value in changes:
        data[place] = value
    for at in range(0, 4096, 512):  # let the damage through
        data[at + 148 : at + 156] = b" " * 8
        data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    try:
        convert(bytes(data), step)
    except BadImage as error:
        assert error.message.isprintable()
