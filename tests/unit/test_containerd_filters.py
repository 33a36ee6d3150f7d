"""containerd's filters, and the times that events are asked for by."""

import pytest

from hypercontainer.containerd.api import containers_pb2, images_pb2, snapshots_pb2
from hypercontainer.containerd.daemon.exchange import wanted
from hypercontainer.containerd.daemon.fields import fields_of, masked_labels
from hypercontainer.containerd.daemon.filters import matches, parse
from hypercontainer.errors import BadRequest

IMAGE = images_pb2.Image(
    name="docker.io/library/busybox:latest", labels={"io.x/kind": "base", "empty": ""}
)
IMAGE.target.media_type = "application/json"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], True),
        ([""], True),
        (["name"], True),
        (["created"], False),
        (["name==docker.io/library/busybox:latest"], True),
        (["name==other"], False),
        (["name!=other,labels"], False),
        (['labels."io.x/kind"==base'], True),
        (["labels.io.x"], False),
        (["name~=busybox", "name==other"], True),
        (["name~=|^docker.io/lib|,target.mediatype==application/json"], True),
        (["name~=/busybox:\\w+$/"], True),
        (['name=="docker.io/library/busybox:latest" , name'], True),
        (["name~=^busybox"], False),
    ],
)
def test_what_matches(texts: list[str], expected: bool) -> None:
    assert matches(parse(texts), fields_of(IMAGE)) is expected


@pytest.mark.parametrize(
    "text",
    [
        "==",
        "name=",
        "name===x",
        "name==",
        "name==x y",
        "name~=(",
        "name,",
        "a..b",
        'a=="x',
    ],
)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="bad filter"):
        parse([text])


def test_fields_of_enums_and_messages() -> None:
    snapshot = snapshots_pb2.Info(name="a", kind=snapshots_pb2.Kind.ACTIVE)
    assert fields_of(snapshot)(["kind"]) == "active"
    container = containers_pb2.Container(id="a")
    assert fields_of(container)(["runtime", "name"]) is None
    container.runtime.name = "io.containerd.runv.v2"
    assert fields_of(container)(["runtime", "name"]) == "io.containerd.runv.v2"


def test_masks_of_labels() -> None:
    old = {"a": "1", "b": "2"}
    assert masked_labels(old, {"c": "3"}, []) == {"c": "3"}
    assert masked_labels(old, {"c": "3"}, ["labels"]) == {"c": "3"}
    assert masked_labels(old, {"a": "9"}, ["labels.a", "labels.b"]) == {"a": "9"}
    with pytest.raises(BadRequest, match="'id' can't be changed"):
        masked_labels(old, {}, ["id"])


def test_times_in_filters_of_events() -> None:
    want = wanted(["since==2026-01-31T12:00:00Z,topic~=/tasks/", "topic==/images/create"])
    assert want.since == 1769860800 * 10**9
    assert want.until is None
    assert [len(one) for one in want.filters] == [1, 1]
    assert wanted(["since==1.5,until==2"]).filters == []
    assert wanted(["since==1.5"]).since == 1_500_000_000
    for bad in ("since==yesterday", "since!=1", "since"):
        with pytest.raises(BadRequest):
            wanted([bad])
