"""What hyperd answers with, for type checkers (nothing imports this module at run time)."""

from typing import Any, NotRequired, TypedDict


class CreatedPod(TypedDict):
    """The answer to a pod's creation; the containers in the order of the specification."""

    ID: str
    Containers: list[str]


class PodSummary(TypedDict):
    """A line of the list of pods. `State` is pending, running, paused, failed or succeeded."""

    ID: str
    State: str
    VM: str


class ContainerSummary(TypedDict):
    """A line of the list of containers. `Created` is in seconds since 1970."""

    Id: str
    Names: list[str]
    Image: str
    ImageID: str
    Command: str
    Created: int | str
    State: str
    Status: str
    Pod: str
    Labels: dict[str, str]
    Ports: list[dict[str, Any]]
    SizeRw: NotRequired[int]
    SizeRootFs: NotRequired[int]


class ImageSummary(TypedDict):
    """A line of the list of images. `Size` is in bytes."""

    Id: str
    RepoTags: list[str]
    RepoDigests: list[str]
    Created: int | str
    Size: int
    Containers: NotRequired[int]


class Progress(TypedDict, total=False):
    """A line of a pull's or a load's progress, in Docker's form."""

    status: str
    id: str
    progressDetail: dict[str, int]
    error: str
    errorDetail: dict[str, Any]
    stream: str
    aux: dict[str, Any]
