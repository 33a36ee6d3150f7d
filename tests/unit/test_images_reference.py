"""Image references are read the way Docker reads them."""

import pytest

from hypercontainer.errors import BadRequest
from hypercontainer.images.reference import parse

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("user/app", "docker.io/user/app:latest", "user/app:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/a/b:c", "docker.io/a/b:c", "a/b:c"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("127.0.0.1:5000/a/b-c__d.e:V_1", "127.0.0.1:5000/a/b-c__d.e:V_1", None),
        ("[::1]:5000/app", "[::1]:5000/app:latest", None),
        ("ghcr.io/o/r", "ghcr.io/o/r:latest", None),
        (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}", f"busybox@{DIGEST}"),
        (f"busybox:1@{DIGEST}", f"docker.io/library/busybox:1@{DIGEST}", None),
    ],
)
def test_reads(text: str, canonical: str, familiar: str | None) -> None:
    reference = parse(text)
    assert reference.canonical == canonical
    if familiar is not None:
        assert str(reference) == familiar
    assert parse(str(reference)) == reference


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("Busybox", "lower case"),
        ("a/B", "lower case"),
        ("a//b", "''"),
        ("a/../b", "'..'"),
        ("a b", "'a b'"),
        ("a:", "tag"),
        ("a:-x", "tag"),
        ("a:" + "x" * 129, "tag"),
        ("a@sha256:12", "digest"),
        ("a@md5:" + "0" * 32, "digest"),
        ("host:port/a", "host"),
        ("a\nb", "image name"),
        ("0" * 64, "image id"),
        ("x" * 300, "longer"),
        ("-a", "'-a'"),
        ("a/é", "'é'"),
    ],
)
def test_refuses_in_one_line(text: str, reason: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(text)
    assert reason in caught.value.message
    assert "\n" not in caught.value.message
