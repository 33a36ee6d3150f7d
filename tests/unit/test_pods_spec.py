"""The pod specification: what it means, and the path of what is wrong in it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercontainer.client import yaml
from hypercontainer.client.spec import pod as client_pod
from hypercontainer.errors import BadRequest, HyperError, NotSupported
from hypercontainer.pods.logconfig import LogConfig
from hypercontainer.pods.spec import parse_pod
from hypercontainer.pods.values import parse_signal, parse_size


def pod(**keys: Any) -> dict[str, Any]:
    return {"containers": [{"image": "busybox"}], **keys}


def container(**keys: Any) -> dict[str, Any]:
    return {"containers": [{"image": "first"}, {"image": "busybox", **keys}]}


def test_defaults() -> None:
    spec = parse_pod(pod())
    assert (spec.vcpu, spec.memory, spec.network, spec.auto_remove) == (1, 128, "", False)
    only = spec.containers[0]
    assert (only.command, only.entrypoint, only.stdin, only.tty) == (None, None, None, False)
    assert only.stop_timeout == 10


def test_the_example_of_the_original_but_for_ports() -> None:
    spec = parse_pod(
        {
            "id": "web",
            "containers": [
                {
                    "name": "nginx",
                    "image": "nginx:latest",
                    "volumes": [{"path": "/data/", "volume": "v", "readOnly": True}],
                    "files": [{"path": "/etc/conf/", "filename": "f", "perm": "0644"}],
                    "envs": [{"env": "A", "value": "1"}],
                    "user": {"name": "www", "group": "www", "additionalGroups": ["mail"]},
                    "ulimits": [{"Name": "nofile", "Soft": 10, "Hard": 20}],
                }
            ],
            "resource": {"vcpu": 2, "memory": 512},
            "files": [{"name": "f", "encoding": "base64", "content": "eA=="}],
            "volumes": [{"name": "v", "source": "/srv/data", "format": "vfs"}],
            "dns": ["8.8.8.8"],
            "tty": True,
            "log": {"type": "json-file", "config": {"max-size": "10k", "max-file": "2"}},
            "restartPolicy": "never",
        }
    )
    nginx = spec.containers[0]
    assert (spec.vcpu, spec.memory, nginx.tty) == (2, 512, True)
    assert (nginx.user, nginx.groups) == ("www:www", ("mail",))
    assert nginx.volumes[0].path == "/data"
    assert nginx.volumes[0].volume.source == "/srv/data"
    assert nginx.volumes[0].read_only
    assert (nginx.files[0].path, nginx.files[0].content, nginx.files[0].mode) == (
        "/etc/conf/f",
        b"x",
        0o644,
    )
    assert nginx.env == (("A", "1"),)
    assert spec.log.over(LogConfig()).rotation == (10240, 2)


def test_what_the_command_line_sends_is_understood() -> None:
    spec = parse_pod(
        client_pod(
            "busybox",
            ["sh"],
            name="n",
            tty=True,
            stdin=True,
            auto_remove=True,
            env={"A": "b"},
            entrypoint=[""],
            user="1:2",
            volumes=[{"path": "/d", "readOnly": True, "detail": {"name": "", "source": "/s"}}],
            stop_timeout=3,
            stop_signal="QUIT",
            memory_mib=256,
            cpus=2,
            labels={"a": "b"},
        )
    )
    only = spec.containers[0]
    assert (spec.id, spec.auto_remove, spec.memory, spec.vcpu) == ("n", True, 256, 2)
    assert (only.entrypoint, only.user, only.stop_timeout, only.stdin) == (("",), "1:2", 3, True)
    assert only.volumes[0].volume.source == "/s"


def test_keys_match_without_regard_to_case() -> None:
    assert parse_pod(pod(autoremove=True)).auto_remove
    with pytest.raises(BadRequest, match="tty: given twice"):
        parse_pod(pod(TTY=True, tty=False))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ([], "the specification: an object is expected"),
        ({}, "containers: a pod needs one container at least"),
        (pod(id="a/b"), "id: 'a/b' is not a valid name"),
        (pod(id="x" * 65), "id: "),
        (pod(hostname="my_name"), "hostname: 'my_name' is not a host name"),
        (pod(hostname="a" * 64), "hostname: "),
        (pod(resource={"memory": 16}), "resource.memory: a VM needs 48 MiB"),
        (pod(resource={"memory": "1"}), "resource.memory: a number from"),
        (pod(resource={"vcpu": True}), "resource.vcpu: a number from"),
        (pod(resource={"cpus": 1}), "resource.cpus: unknown key"),
        (pod(dns=["8.8.8.8", "x"]), "dns[1]: 'x' is not an IP address"),
        (pod(containers=3), "containers: an array is expected"),
        (pod(containers=[3]), "containers[0]: an object is expected"),
        (pod(labels={"a": 1}), "labels.a: a string is expected"),
        (pod(tyt=True), "tyt: unknown key: did you mean tty?"),
        (pod(restartPolicy="sometimes"), "restartPolicy: 'sometimes' is none of no, always"),
        (pod(network="a b"), "network: 'a b' is not a valid name"),
        (pod(network="a", networks=[{"name": "b"}]), "network, networks and interfaces: give only"),
        (pod(networks=[{"name": "b"}, {"name": "b"}]), "networks[1]: b is given twice"),
        (pod(networks=[{"name": "b", "ip": "fd00::1"}]), "networks[0].ip: fd00::1 is not"),
        (pod(networks=[{"name": "b", "mac": "01:00:00:00:00:01"}]), "networks[0].mac: "),
        (pod(interfaces=[{"bridge": "b"}]), "interfaces[0].ip: an interface with a bridge needs"),
        (pod(portmappings=[{"hostPort": 1}]), "portmappings[0].containerPort: missing"),
        (pod(portmappings=[{"containerPort": 0x10000}]), "portmappings[0].containerPort: 65536"),
        (pod(portmappings=[{"containerPort": True}]), "portmappings[0].containerPort: True"),
        (
            pod(portmappings=[{"containerPort": "1-3", "hostPort": "8000-8001"}]),
            "portmappings[0].hostPort: 2 ports for 3 of the container",
        ),
        (
            pod(portmappings=[{"containerPort": 1, "hostPort": 2}] * 2),
            "portmappings: 0.0.0.0:2->1/tcp is given twice",
        ),
        (
            pod(portmappings=[{"containerPort": 1}], network="none"),
            "portmappings: the pod has no network",
        ),
        (
            pod(portmappings=[{"containerPort": 1, "hostIP": "x"}]),
            "portmappings[0].hostIP: 'x' is not",
        ),
        (pod(services=[{"serviceIP": "10.0.0.1"}]), "services[0].servicePort: missing"),
        (pod(services=[{"serviceIP": "fd00::1", "servicePort": 1}]), "services[0].serviceIP: fd00"),
        (
            pod(services=[{"serviceIP": "10.0.0.1", "servicePort": 1}] * 2),
            "services[1]: the service 10.0.0.1:1 is there twice",
        ),
        (pod(extraHosts=["db"]), "extraHosts[0]: 'db' is not of the form NAME:ADDRESS"),
        (pod(log={"config": {"max-size": "x"}}), "log.config.max-size: 'x' is not a size"),
        (pod(volumes=[{"name": "a"}, {"name": "a"}]), "volumes[1].name: 'a' is used twice"),
        (pod(volumes=[{"name": "a", "source": "b"}]), "volumes[0].source: 'b' is not an absolute"),
        (pod(files=[{"name": "f", "encoding": "base64", "content": "!"}]), "files[0].content: "),
        (container(image=""), "containers[1].image: missing"),
        (container(workdir="x"), "containers[1].workdir: 'x' is not an absolute path"),
        (container(command="ls"), "containers[1].command: an array is expected"),
        (container(command=["ls", 1]), "containers[1].command[1]: a string is expected"),
        (container(command=["a\0b"]), "containers[1].command[0]: a string is expected"),
        (container(StopSignal="SIGNO"), "containers[1].StopSignal: unknown signal 'SIGNO'"),
        (container(envs=[{"env": "A=B"}]), "containers[1].envs[0].env: 'A=B' is not the name"),
        (
            container(envs=[{"env": "A"}, {"env": "A"}]),
            "containers[1].envs[1].env: 'A' is given twice",
        ),
        (
            container(volumes=[{"path": "rel"}]),
            "containers[1].volumes[0].path: 'rel' is not an absolute path",
        ),
        (container(volumes=[{"path": "/../x"}]), "containers[1].volumes[0].path: "),
        (container(volumes=[{"path": "//"}]), "containers[1].volumes[0].path: "),
        (
            container(volumes=[{"path": "/a", "volume": "v"}]),
            "containers[1].volumes[0].volume: the pod has no volume 'v'",
        ),
        (
            container(volumes=[{"path": "/a"}, {"path": "/a/"}]),
            "containers[1].volumes[1].path: /a has two volumes",
        ),
        (container(files=[{"path": "/a", "filename": "f"}]), "containers[1].files[0].filename: "),
        (container(user={"group": "g"}), "containers[1].user.group: a group needs a user name"),
        (
            {"containers": [{"image": "a", "name": "x"}, {"image": "a", "name": "x"}]},
            "containers[1].name: 'x' is used twice",
        ),
    ],
)
def test_errors_have_the_path_of_the_bad_key(spec: Any, says: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_pod(spec)
    assert caught.value.message.startswith(says)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (pod(interfaces=[{"ifname": "tap0"}]), "interfaces[0].ifname: not supported yet"),
        (pod(portmappings=[{"containerPort": 1, "protocol": "sctp"}]), "portmappings[0].protocol"),
        (pod(portmappingWhiteLists={"a": 1}), "portmappingWhiteLists: not supported yet"),
        (pod(log={"type": "gelf"}), "log.type: log driver gelf is not supported"),
        (pod(volumes=[{"name": "a", "format": "vdi"}]), "volumes[0].format: vdi volumes"),
        (pod(volumes=[{"name": "a", "format": "rbd"}]), "volumes[0].format: rbd volumes"),
        (
            container(ports=[{"containerPort": 80, "servicePort": 1}]),
            "containers[1].ports[0].servicePort: not supported yet",
        ),
    ],
)
def test_known_keys_that_are_not_done_are_refused_by_name(spec: Any, says: str) -> None:
    with pytest.raises(NotSupported) as caught:
        parse_pod(spec)
    assert caught.value.message.startswith(says)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                "id containers image volumes path name source files envs env user log config"
                " resource memory dns labels command entrypoint detail ulimits hostname".split()
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(_JSON)
def test_whatever_comes_is_taken_or_refused_in_one_line(value: Any) -> None:
    try:
        parse_pod(value)
    except HyperError as error:
        assert error.status in (400, 501)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("65536", 65536), ("10m", 10 << 20), ("3GB", 3 << 30), ("1KiB", 1024)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text, "x") == size


@pytest.mark.parametrize(
    ("text", "number"),
    [("9", 9), ("TERM", 15), ("sigusr1", 10), ("SIGKILL", 9), ("RTMIN+3", 37), ("RTMAX", 64)],
)
def test_signals(text: str, number: int) -> None:
    assert parse_signal(text, "x") == number


@pytest.mark.parametrize("text", ["", "0", "65", "-1", "_DFL", "RTMIN+99", "SIG_BLOCK", "SIGS"])
def test_bad_signals(text: str) -> None:
    with pytest.raises(BadRequest, match="x: unknown signal"):
        parse_signal(text, "x")


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ({}, 14),
        ({"capAdd": ["cap_sys_admin"]}, 15),
        ({"capDrop": ["NET_RAW", "chown"]}, 12),
        ({"capDrop": ["ALL"]}, 0),
        ({"capDrop": ["all"], "capAdd": ["KILL"]}, 1),
        ({"capAdd": ["ALL"]}, 41),
        ({"capAdd": ["ALL"], "capDrop": ["SYS_ADMIN"]}, 40),
        ({"capAdd": ["KILL", "SYS_TIME"], "capDrop": ["SYS_TIME"]}, 14),
    ],
)
def test_capabilities(keys: dict[str, Any], wanted: int) -> None:
    spec = parse_pod({"containers": [{"image": "x", **keys}]})
    found = spec.containers[0].security.capabilities()
    assert len(found) == len(set(found)) == wanted
    assert all(name.startswith("CAP_") for name in found)


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        ({"capAdd": ["SYS_ADMN"]}, r"capAdd: 'SYS_ADMN' is not .*: did you mean SYS_ADMIN\?"),
        ({"shmSize": "1"}, "shmSize: 4096 bytes is the least"),
        ({"shmSize": "x"}, "shmSize: 'x' is not a size"),
        ({"ulimits": [{"Name": "files", "Soft": 1}]}, "Name: 'files' is not a limit"),
        ({"ulimits": [{"Name": "nofile", "Soft": 2, "Hard": 1}]}, "Soft: it is more than Hard"),
    ],
)
def test_bad_security(keys: dict[str, Any], error: str) -> None:
    with pytest.raises(BadRequest, match=error):
        parse_pod({"containers": [{"image": "x", **keys}]})


def test_the_examples_of_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "pod-spec.md").read_text()
    blocks = re.findall(r"^```(json|yaml)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    specs = [json.loads(body) if kind == "json" else yaml.load(body) for kind, body in blocks]
    assert [parse_pod(spec).id for spec in specs] == ["shop", "web"]
