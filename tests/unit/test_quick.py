"""The stand-ins for modules that cost too much do what those do."""

import json as real_json
import os
import pickle
import socket
import subprocess
import sys
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.quick import json, sockets, threads
from hypercontainer.quick.types import NamedTuple

HEAVY = "typing re enum json socket signal argparse contextlib threading collections functools"

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(values)
def test_json_is_written_and_read_as_by_json(value: object) -> None:
    text = json.dumps(value)
    assert text == real_json.dumps(value)
    assert json.loads(text) == json.loads(f" {text}\n".encode()) == value


@given(st.text() | st.text(alphabet='[]{}":,0123456789.eE-+ \n\\"truefalsn'))
def test_what_is_no_json_is_refused_in_the_words_of_json(text: str) -> None:
    try:
        value = real_json.loads(text)
    except ValueError as error:
        with pytest.raises(ValueError) as refused:
            json.loads(text)
        assert str(refused.value) == str(error)
    else:
        assert repr(json.loads(text)) == repr(value)


@pytest.mark.parametrize("text", [b"\xef\xbb\xbf{}", '{"a": 1}'.encode("utf-16"), b"\xff", b"NaN"])
def test_other_encodings_are_left_to_json(text: bytes) -> None:
    def outcome(loads: typing.Callable[[bytes], object]) -> str:
        try:
            return repr(loads(text))
        except ValueError as error:
            return str(error)

    assert outcome(json.loads) == outcome(real_json.loads)


def test_what_can_not_be_written_is_refused() -> None:
    with pytest.raises(TypeError, match="set is not JSON serializable"):
        json.dumps({"a": {1}})


class Quick(NamedTuple):
    name: str
    size: int = 3
    words: tuple[str, ...] = ()

    @property
    def doubled(self) -> int:
        return self.size * 2


class Real(typing.NamedTuple):
    name: str
    size: int = 3
    words: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("positional", "named"),
    [
        ((), {}),
        (("a",), {}),
        (("a", 1, ("x",)), {}),
        (("a", 1, (), 4), {}),
        ((), {"name": "a"}),
        (("a",), {"words": ("x",)}),
        (("a",), {"name": "b"}),
        (("a",), {"other": 1}),
    ],
)
def test_a_named_tuple_takes_what_a_real_one_takes(
    positional: tuple[object, ...], named: dict[str, object]
) -> None:
    def made(kind: typing.Any) -> object:
        try:
            return tuple(kind(*positional, **named))
        except TypeError:
            return TypeError

    assert made(Quick) == made(Real)


def test_a_named_tuple_is_used_as_a_real_one() -> None:
    quick, real = Quick("a", 5), Real("a", 5)
    assert (quick.name, quick.size, quick.doubled) == ("a", 5, 10)
    assert tuple(quick) == ("a", 5, ())
    assert hash(quick) == hash(real)
    assert repr(quick) == repr(real).replace("Real", "Quick")
    assert tuple(quick._replace(size=6)) == tuple(real._replace(size=6))
    assert quick._asdict() == real._asdict()
    assert quick._fields == real._fields
    assert Quick._make(["b", 1, ()]) == ("b", 1, ())
    assert pickle.loads(pickle.dumps(quick)) == quick
    with pytest.raises(AttributeError):
        object.__setattr__(quick, "size", 7)


def test_a_thread_gives_or_raises_what_its_work_did() -> None:
    def fail() -> None:
        raise KeyError("x")

    done, failed = threads.start(lambda: 7), threads.start(fail)
    assert done() == done() == 7
    with pytest.raises(KeyError):
        failed()


def test_descriptors_pass_through_a_socket() -> None:
    ours, theirs = sockets.pair()
    read, write = os.pipe()
    try:
        assert sockets.peer_user(ours) == os.geteuid()
        assert sockets.send_fds(ours, b"x", [write, read]) == 1
        data, fds, _, _ = socket.recv_fds(socket.socket(fileno=os.dup(theirs.fileno())), 1, 2)
        assert data == b"x"
        assert [os.fstat(fd).st_ino for fd in fds] == [os.fstat(fd).st_ino for fd in (write, read)]
    finally:
        for fd in (read, write, *fds):
            os.close(fd)
        ours.close()
        theirs.close()


@pytest.mark.parametrize("command", ["create", "execute", "lifecycle"])
def test_commands_of_runv_import_nothing_that_costs_much(command: str) -> None:
    code = (
        "import sys; from hypercontainer.oci.arguments import parse_plain;"
        f"import hypercontainer.oci.main, hypercontainer.oci.{command};"
        "import hypercontainer.sandbox.keeper;"
        "assert parse_plain(['--root', '/r', 'kill', 'x', '9']);"
        f"print([m for m in {HEAVY.split()} if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert found.stdout == "[]\n"
