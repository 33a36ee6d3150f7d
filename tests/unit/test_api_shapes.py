"""The forms of what hyperd answers, which programs rely on: Docker's names of fields, and types.

`python -m tests.unit.test_api_shapes` writes them down anew after a wanted change.
"""

import json
from pathlib import Path
from typing import Any

from hypercontainer.pods import stats, views
from hypercontainer.pods.events import Event
from hypercontainer.pods.layout import Layout
from hypercontainer.pods.logconfig import LogConfig
from hypercontainer.pods.model import Status
from tests.unit.test_pods_oci import make
from tests.unit.test_pods_stats import FILES

GOLDEN = Path(__file__).parent / "data" / "api_shapes.json"


def shape(value: object) -> object:
    """The names and types in a value; of a list those of its first element."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "null" if value is None else type(value).__name__


def answers() -> dict[str, Any]:
    """One of each, of a running container with everything that shows."""
    pod, container = make(
        {"Cmd": ["sh"], "Labels": {"a": "b"}, "Entrypoint": ["entry"]},
        ulimits=[{"Name": "nofile", "Soft": 1, "Hard": 2}],
        volumes=[{"path": "/data", "detail": {"name": "vol"}}],
    )
    container.state.status = Status.RUNNING
    layout = Layout(Path("/root"), Path("/state"))
    sample = stats.Sample("t", 1, FILES, {"cpu_total_usage": 1, "memory_rss": 1})
    event = Event("container", "die", container.id, {"exitCode": "0"}, 1)
    return {
        "inspect": views.inspect(layout, pod, container, LogConfig("json-file", {})),
        "list": [views.summary(pod, container)],
        "event": event.to_json(),
        "stats": stats.stats(pod, container, sample, sample),
        "top": dict(zip(("Titles", "Processes"), stats.titles_and_rows([{}]), strict=True)),
    }


def test_forms_do_not_change_by_chance() -> None:
    assert shape(answers()) == json.loads(GOLDEN.read_text())


def test_dockers_names_are_there() -> None:
    found = answers()
    inspect = found["inspect"]
    for name in ("Id", "Created", "Path", "Args", "State", "Image", "Name", "HostConfig", "Config"):
        assert name in inspect
    for name in ("Status", "Running", "Paused", "Restarting", "OOMKilled", "Dead", "Pid", "Error"):
        assert name in inspect["State"]
    for name in ("Hostname", "User", "Tty", "Env", "Cmd", "Image", "Entrypoint", "Labels"):
        assert name in inspect["Config"]
    for name in ("Id", "Names", "Image", "ImageID", "Command", "Created", "State", "Status"):
        assert name in found["list"][0]
    for name in ("Type", "Action", "Actor", "time", "timeNano", "scope"):
        assert name in found["event"]
    for name in ("read", "preread", "cpu_stats", "precpu_stats", "memory_stats", "pids_stats"):
        assert name in found["stats"]


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(shape(answers()), indent=1) + "\n")
