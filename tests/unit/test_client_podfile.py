"""Pod files: JSON and YAML, what is refused, and how large they may be."""

from pathlib import Path

import pytest

from hypercontainer.client import podfile
from hypercontainer.errors import BadRequest


def _read(tmp_path: Path, text: str, name: str = "pod.yaml") -> dict[str, object]:
    path = tmp_path / name
    path.write_text(text)
    return podfile.read(str(path))


def test_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    yaml = "id: web\ncontainers:\n- image: busybox\n  command: [httpd, -f]\n  tty: true\n"
    json = (
        '{"id": "web", "containers":'
        ' [{"image": "busybox", "command": ["httpd", "-f"], "tty": true}]}'
    )
    assert _read(tmp_path, yaml) == _read(tmp_path, json, "pod.json") == _read(tmp_path, json)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("22:22", "22:22"),
        ("yes", "yes"),
        ("off", "off"),
        ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
        ("0x10", 16),
        ("-5", -5),
        ("1.5", 1.5),
        ("~", None),
        ("'5'", "5"),
        ("True", True),
    ],
)
def test_scalars_are_those_of_yaml_1_2(tmp_path: Path, text: str, value: object) -> None:
    assert _read(tmp_path, f"a: {text}\n") == {"a": value}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\na: 2\n", "line 2: the key 'a' is given twice"),
        ("a: [1,\n", "line 2: "),
        ("- a\n", "an object is expected"),
        ("a: 1\n---\nb: 2\n", "line 2: but found another document"),
        ("a: !!python/object/apply:os.system [x]\n", "could not determine a constructor"),
        ("? [a]\n: 1\n", "a key is no string"),
        ("a: " + "9" * 5000, "more than 30 digits"),
        ("a: " + "[" * 20000, "too deep"),
        ("{" * 3 + '"a": 1', "line "),
    ],
)
def test_what_is_wrong_is_told_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BadRequest) as caught:
        _read(tmp_path, text)
    assert says in caught.value.message
    assert "\n" not in caught.value.message


def test_a_bomb_of_aliases_is_found_before_it_grows(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(BadRequest, match="too large"):
        _read(tmp_path, "\n".join(lines))
    with pytest.raises(BadRequest, match=r"too deep|recursive"):
        _read(tmp_path, "a: &a\n  b: *a\n")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="none: no such file"):
        podfile.read(str(tmp_path / "none"))
    with pytest.raises(BadRequest, match="not JSON: Expecting"):
        (tmp_path / "x").write_text('{"a": }')
        podfile.read(str(tmp_path / "x"), yaml=False)
    (tmp_path / "big").write_bytes(b" " * ((4 << 20) + 1))
    with pytest.raises(BadRequest, match="more than 4 MiB"):
        podfile.read(str(tmp_path / "big"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(BadRequest, match="not UTF-8"):
        podfile.read(str(tmp_path / "binary"))
