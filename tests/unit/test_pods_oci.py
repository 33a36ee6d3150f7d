"""Image configuration and user's container combined by Docker's rules."""

from pathlib import Path
from typing import Any

import pytest

from hypercontainer.errors import BadRequest
from hypercontainer.guest.spec import container_message, process_message
from hypercontainer.pods import oci
from hypercontainer.pods.execs import Execs
from hypercontainer.pods.model import Container, Pod
from hypercontainer.pods.registry import Registry
from hypercontainer.pods.spec import parse_pod


def make(image: dict[str, Any] | None = None, **keys: Any) -> tuple[Pod, Container]:
    pod_keys: dict[str, Any] = {
        k: keys.pop(k) for k in ("hostname", "network", "dns", "dnsSearch") if k in keys
    }
    container_keys: dict[str, Any] = {"name": "web_1", "image": "i", **keys}
    raw: dict[str, Any] = {"id": "web_1", "containers": [container_keys], **pod_keys}
    spec = parse_pod(raw)
    pod = Pod(spec.id, spec, raw, "")
    container = Container(
        "c" * 64, pod.id, "web_1", spec.containers[0], "i", "sha", image or {}, "", container_keys
    )
    pod.containers.append(container)
    return pod, container


def config(image: dict[str, Any] | None = None, **keys: Any) -> dict[str, Any]:
    pod, container = make(image, **keys)
    volumes = [
        {
            "destination": m.path,
            "type": "bind",
            "source": f"/host{m.path}",
            "options": ["rbind", "ro" if m.read_only else "rw"],
        }
        for m in container.spec.volumes
    ]
    return oci.container_config(pod, container, volumes)


IMAGE = {"Entrypoint": ["/entry"], "Cmd": ["a", "b"]}


@pytest.mark.parametrize(
    ("image", "keys", "args"),
    [
        (IMAGE, {}, ["/entry", "a", "b"]),
        (IMAGE, {"command": ["c"]}, ["/entry", "c"]),
        (IMAGE, {"entrypoint": ["/mine"]}, ["/mine"]),
        (IMAGE, {"entrypoint": ["/mine"], "command": ["c"]}, ["/mine", "c"]),
        (IMAGE, {"entrypoint": [""], "command": ["c"]}, ["c"]),
        ({"Cmd": ["sh"]}, {}, ["sh"]),
        ({"Cmd": ["sh"]}, {"command": ["ls", "/"]}, ["ls", "/"]),
        ({"Entrypoint": None, "Cmd": None}, {"command": ["x"]}, ["x"]),
    ],
)
def test_entrypoint_and_command(
    image: dict[str, Any], keys: dict[str, Any], args: list[str]
) -> None:
    assert config(image, **keys)["process"]["args"] == args


@pytest.mark.parametrize("keys", [{}, {"entrypoint": [""]}])
def test_nothing_to_run(keys: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match="no command for i"):
        config({"Entrypoint": ["/e"]} if keys else {}, **keys)


def test_environment() -> None:
    image = {"Env": ["PATH=/bin", "A=1", "B=x=y"], "Cmd": ["sh"]}
    env = config(image, tty=True, envs=[{"env": "A", "value": "2"}])["process"]["env"]
    assert env == ["PATH=/bin", "HOSTNAME=web_1", "TERM=xterm", "A=2", "B=x=y"]
    assert config({"Cmd": ["sh"]})["process"]["env"] == [
        f"PATH={oci.DEFAULT_PATH}",
        "HOSTNAME=web_1",
    ]


def test_user_and_directory() -> None:
    image = {"Cmd": ["sh"], "User": "www", "WorkingDir": "/srv"}
    process = config(image)["process"]
    assert process["user"]["username"] == "www"
    assert process["cwd"] == "/srv"
    process = config(image, user={"name": "1000", "additionalGroups": ["7"]}, workdir="/w")[
        "process"
    ]
    assert process["user"] == {
        "uid": 0,
        "gid": 0,
        "username": "1000",
        "additionalGids": ["7"],
    }
    assert process["cwd"] == "/w"
    assert "username" not in config({"Cmd": ["sh"]})["process"]["user"]


def test_mounts_come_parents_first_and_volumes_are_bound() -> None:
    mounts = config(
        {"Cmd": ["sh"]}, volumes=[{"path": "/dev/shm/x"}, {"path": "/v", "readOnly": True}]
    )["mounts"]
    targets = [m["destination"] for m in mounts]
    assert targets.index("/dev") < targets.index("/dev/shm") < targets.index("/dev/shm/x")
    assert targets.index("/sys") < targets.index("/sys/fs/cgroup")
    volume = mounts[targets.index("/v")]
    assert (volume["type"], volume["source"]) == ("bind", "/host/v")
    assert "ro" in volume["options"]
    assert len(set(targets)) == len(targets)


def test_the_guest_takes_the_whole_of_it() -> None:
    whole = config(
        {"Cmd": ["sh"]},
        volumes=[{"path": "/v"}],
        ulimits=[{"Name": "nofile", "Soft": 5, "Hard": -1}],
        sysctl={"net.ipv4.ip_forward": "1"},
        tty=True,
    )
    process = process_message("init", whole["process"], stdio=1, stderr=None, stdin=True)
    assert process["capabilities"]["bounding"] == "a80425fb"
    assert process["rlimits"] == [[7, 5, -1]]
    message = container_message("c", whole, {}, lambda source, read_only: "share", process)
    assert len(message["mounts"]) == 8


def files_of(**keys: Any) -> dict[str, str]:
    pod, container = make({"Cmd": ["sh"]}, **keys)
    return {f["path"]: f["content"] for f in oci.injected_files(pod, container, {})}


def test_injected_files() -> None:
    files = files_of(hostname="db.example", network="user")
    assert files["/etc/hostname"] == "db.example\n"
    assert "10.0.2.15\tdb.example db\n" in files["/etc/hosts"]
    assert files["/etc/resolv.conf"] == "nameserver 10.0.2.3\n"
    files = files_of(network="none", dns=["1.1.1.1"], dnsSearch=["a", "b"])
    assert "127.0.1.1\tweb_1\n" in files["/etc/hosts"]
    assert files["/etc/resolv.conf"] == "nameserver 1.1.1.1\nsearch a b\n"
    assert "/etc/hosts" not in files_of(volumes=[{"path": "/etc/hosts"}])


def test_stop_signal() -> None:
    assert oci.stop_signal_of(make({"Cmd": ["sh"]})[1]) == 15
    assert oci.stop_signal_of(make({"StopSignal": "SIGQUIT"})[1]) == 3
    assert oci.stop_signal_of(make({"StopSignal": "SIGQUIT"}, StopSignal="USR1")[1]) == 10
    assert oci.stop_signal_of(make({"StopSignal": "rubbish"})[1]) == 15


def test_exec_has_the_containers_surroundings() -> None:
    pod, container = make({"Cmd": ["sh"], "Env": ["A=1"], "User": "www"}, workdir="/w")
    registry = Registry()
    registry.add(pod)
    execs = Execs(registry, Path("/nonexistent"))
    process = execs.create(
        pod, container, {"command": ["id"], "env": ["B=2", "A=3"], "tty": True}
    ).process
    assert process["args"] == ["id"]
    assert process["env"][1:] == ["HOSTNAME=web_1", "A=3", "TERM=xterm", "B=2"]
    assert process["user"]["username"] == "www"
    assert process["cwd"] == "/w"
    for bad, says in (
        ({"command": []}, "exec.command: a program is needed"),
        ({"command": ["a"], "env": ["X"]}, r"exec.env\[0\]: 'X' is not of the form"),
        ({"command": ["a"], "workdir": "x"}, "exec.workdir: "),
        ({"command": ["a"], "x": 1}, "exec.x: unknown key"),
    ):
        with pytest.raises(BadRequest, match=says):
            execs.create(pod, container, bad)
