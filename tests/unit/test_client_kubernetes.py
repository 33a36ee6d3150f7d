"""Pods of Kubernetes v1 as pod specifications."""

from typing import Any

import pytest

from hypercontainer.client.kubernetes import pod_of
from hypercontainer.errors import BadRequest, HyperError, NotSupported
from hypercontainer.pods.spec import parse_pod


def _pod(container: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    one = {"name": "c", "image": "busybox", **(container or {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "labels": {"app": "x"}, "namespace": "default"},
        "spec": {"containers": [one], **spec},
    }


def test_a_whole_pod() -> None:
    spec = pod_of(
        _pod(
            {
                "command": ["sh", "-c"],
                "args": ["true"],
                "workingDir": "/tmp",
                "env": [{"name": "A", "value": "1"}],
                "resources": {
                    "limits": {"cpu": "1500m", "memory": "100Mi"},
                    "requests": {"cpu": 1, "memory": "1Gi"},
                },
                "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True}],
                "securityContext": {"runAsUser": 1000, "runAsGroup": 5},
                "readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1},
                "ports": [{"containerPort": 80}],
            },
            initContainers=[{"name": "i", "image": "busybox"}],
            volumes=[{"name": "data", "hostPath": {"path": "/srv", "type": "Directory"}}],
            restartPolicy="OnFailure",
            terminationGracePeriodSeconds=3,
            hostname="h",
            dnsConfig={"nameservers": ["1.1.1.1"], "options": [{"name": "ndots", "value": "2"}]},
        )
    )
    parsed = parse_pod(spec)
    assert (parsed.id, parsed.hostname, parsed.labels) == ("p", "h", {"app": "x"})
    assert (parsed.vcpu, parsed.memory) == (2, 164)
    assert (parsed.dns, parsed.dns_options) == (("1.1.1.1",), ("ndots:2",))
    init, container = parsed.containers
    assert init.name == "i"
    assert [(d.name, d.condition) for d in container.depends] == [("i", "completed")]
    assert container.entrypoint == ("sh", "-c") and container.command == ("true",)
    assert (container.workdir, container.env) == ("/tmp", (("A", "1"),))
    assert (container.user, container.stop_timeout) == ("1000:5", 3)
    assert container.restart.name == init.restart.name == "on-failure"
    assert container.health is not None and container.health.test == ("true",)
    (mount,) = container.volumes
    assert (mount.path, mount.volume.source, mount.read_only) == ("/data", "/srv", True)


def test_an_empty_dir_is_anonymous_unless_it_is_shared() -> None:
    mount = {"name": "e", "mountPath": "/e"}
    volumes = [{"name": "e", "emptyDir": {}}]
    (alone,) = parse_pod(pod_of(_pod({"volumeMounts": [mount]}, volumes=volumes))).containers
    assert alone.volumes[0].anonymous
    shared = pod_of(
        _pod(
            {"volumeMounts": [mount]},
            volumes=volumes,
            initContainers=[{"name": "i", "image": "x", "volumeMounts": [mount]}],
        )
    )
    names = {c.volumes[0].volume.name for c in parse_pod(shared).containers}
    assert names == {"p-e"}


@pytest.mark.parametrize(
    ("pod", "kind", "says"),
    [
        ({"kind": "Deployment", "apiVersion": "apps/v1"}, BadRequest, "kind: only a Pod"),
        (_pod(hostNetwork=True), NotSupported, "spec.hostNetwork: "),
        (_pod({"lifecycle": {}}), NotSupported, "spec.containers[0].lifecycle: is not supported"),
        (
            _pod({"env": [{"name": "A", "valueFrom": {}}]}),
            NotSupported,
            "spec.containers[0].env[0].valueFrom: is not supported",
        ),
        (
            _pod({"readinessProbe": {"httpGet": {}}}),
            NotSupported,
            "spec.containers[0].readinessProbe.httpGet: only exec",
        ),
        (
            _pod({"securityContext": {"privileged": True}}),
            NotSupported,
            "spec.containers[0].securityContext.privileged: ",
        ),
        (
            _pod({"resources": {"limits": {"memory": "lots"}}}),
            BadRequest,
            "spec.containers[0].resources.limits.memory: 'lots' is not a quantity",
        ),
        (
            _pod(volumes=[{"name": "s", "secret": {}}]),
            NotSupported,
            "spec.volumes[0].secret: is not supported",
        ),
        (
            _pod({"volumeMounts": [{"name": "n", "mountPath": "/x"}]}),
            BadRequest,
            "spec.containers[0].volumeMounts[0].name: the pod has no volume 'n'",
        ),
        (_pod({"image": 3}), BadRequest, "spec.containers[0].image: has the wrong type"),
        (_pod(restartPolicy="Sometimes"), BadRequest, "spec.restartPolicy: 'Sometimes'"),
    ],
)
def test_refusals_name_the_path(pod: dict[str, Any], kind: type[HyperError], says: str) -> None:
    with pytest.raises(kind) as caught:
        pod_of(pod)
    assert says in caught.value.message
