"""A Pod of Kubernetes v1 as a pod specification (its API reference: core/v1, Pod).

What a single host can't give, or what is not implemented, is refused by its path.
"""

from __future__ import annotations

import re

from ..errors import BadRequest, NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?", re.ASCII)
_UNITS = {
    "": 1.0,
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
}
_POLICIES = {"Always": "always", "OnFailure": "on-failure", "Never": "never"}
_OVERHEAD_MIB = 64
_DEFAULT_MIB = 128


class _Object:
    """A JSON object whose keys are taken one by one; `done` refuses what is left."""

    def __init__(self, value: object, path: str) -> None:
        if not isinstance(value, dict):
            raise BadRequest(f"{path}: an object is expected")
        self.path = path
        self._left = {key: item for key, item in value.items() if item is not None}

    def where(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def take(self, key: str, kind: type | tuple[type, ...], default: Any) -> Any:
        value = self._left.pop(key, default)
        wrong = not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)
        if value is not default and wrong:
            raise BadRequest(f"{self.where(key)}: has the wrong type")
        return value

    def text(self, key: str, default: str = "") -> str:
        return str(self.take(key, str, default))

    def texts(self, key: str) -> list[str]:
        values = self.take(key, list, [])
        if not all(isinstance(item, str) for item in values):
            raise BadRequest(f"{self.where(key)}: an array of strings is expected")
        return list(values)

    def mapping(self, key: str) -> dict[str, str]:
        value = self.take(key, dict, {})
        if not all(isinstance(item, str) for item in value.values()):
            raise BadRequest(f"{self.where(key)}: an object of strings is expected")
        return dict(value)

    def child(self, key: str) -> _Object:
        return _Object(self.take(key, dict, {}), self.where(key))

    def children(self, key: str) -> list[_Object]:
        items = self.take(key, list, [])
        return [_Object(item, f"{self.where(key)}[{i}]") for i, item in enumerate(items)]

    def has(self, key: str) -> bool:
        return key in self._left

    def ignore(self, *keys: str) -> None:
        """Keys that say nothing to a single host."""
        for key in keys:
            self._left.pop(key, None)

    def done(self) -> None:
        for key in self._left:
            raise NotSupported(f"{self.where(key)}: is not supported: leave it out")


def pod_of(value: dict[str, Any]) -> dict[str, Any]:
    """The pod specification of a Pod. Raises BadRequest, NotSupported with the key's path."""
    pod = _Object(value, "")
    if (pod.text("apiVersion"), pod.text("kind")) != ("v1", "Pod"):
        raise BadRequest("kind: only a Pod of apiVersion v1 can be run")
    metadata = pod.child("metadata")
    result: dict[str, Any] = {"id": metadata.text("name")}
    if labels := metadata.mapping("labels"):
        result["labels"] = labels
    metadata.ignore("namespace", "annotations", "creationTimestamp", "uid", "resourceVersion")
    metadata.done()
    spec = pod.child("spec")
    pod.ignore("status")
    pod.done()
    result |= _spec(spec, result["id"])
    spec.done()
    return result


def _spec(spec: _Object, pod: str) -> dict[str, Any]:
    policy = spec.text("restartPolicy", "Always")
    if policy not in _POLICIES:
        raise BadRequest(f"{spec.where('restartPolicy')}: {policy!r} is no restart policy")
    grace = spec.take("terminationGracePeriodSeconds", int, 30)
    volumes = dict(_volume(item) for item in spec.children("volumes"))
    common = _security(spec.child("securityContext"))
    inits = [_container(item, volumes) for item in spec.children("initContainers")]
    containers = [_container(item, volumes) for item in spec.children("containers")]
    if not containers:
        raise BadRequest(f"{spec.where('containers')}: a pod needs one container at least")
    before: list[dict[str, str]] = []
    for init in inits:
        init["depends"] = list(before)
        init["restartPolicy"] = "never" if policy == "Never" else "on-failure"
        before = [{"name": init["name"], "condition": "completed"}]
    for container in containers:
        container["depends"] = list(before)
        container["restartPolicy"] = _POLICIES[policy]
    everything = [*inits, *containers]
    _settle_volumes(pod, everything)
    for container in everything:
        container["stopTimeout"] = grace
        for key, setting in common.items():
            container.setdefault(key, setting)
    result: dict[str, Any] = {
        "containers": everything,
        "resource": _resource([c.pop("_limits") for c in everything]),
    }
    if hostname := spec.text("hostname"):
        result["hostname"] = hostname
    result |= _dns(spec)
    ports = [port for c in everything for port in c.pop("_ports")]
    if ports:
        result["portmappings"] = ports
    if spec.take("hostNetwork", bool, False):
        raise NotSupported(f"{spec.where('hostNetwork')}: a VM has no part in the host's network")
    for key in ("hostPID", "hostIPC"):
        if spec.take(key, bool, False):
            raise NotSupported(f"{spec.where(key)}: a VM has no part in the host's processes")
    spec.ignore(
        "nodeSelector",
        "nodeName",
        "tolerations",
        "affinity",
        "schedulerName",
        "priority",
        "priorityClassName",
        "runtimeClassName",
        "enableServiceLinks",
        "automountServiceAccountToken",
        "imagePullSecrets",
        "preemptionPolicy",
    )
    return result


def _dns(spec: _Object) -> dict[str, Any]:
    spec.ignore("dnsPolicy")
    config = spec.child("dnsConfig")
    found = {"dns": config.texts("nameservers"), "dnsSearch": config.texts("searches")}
    options = []
    for option in config.children("options"):
        name, value = option.text("name"), option.text("value")
        option.done()
        options.append(f"{name}:{value}" if value else name)
    config.done()
    found["dnsOptions"] = options
    return {key: value for key, value in found.items() if value}


def _volume(item: _Object) -> tuple[str, dict[str, Any]]:
    """The name of a volume, and what `detail` of a mount says of it; or that it is empty."""
    detail: dict[str, Any]
    name = item.text("name")
    if not name:
        raise BadRequest(f"{item.path}.name: missing")
    if item.has("hostPath"):
        source = item.child("hostPath")
        detail = {"name": name, "source": source.text("path"), "format": "vfs"}
        source.ignore("type")
        source.done()
    elif item.has("emptyDir"):
        empty = item.child("emptyDir")
        empty.ignore("sizeLimit", "medium")
        empty.done()
        detail = {"empty": True}
    else:
        item.done()
        raise BadRequest(f"{item.path}: needs hostPath or emptyDir")
    item.done()
    return name, detail


def _container(item: _Object, volumes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    name, image = item.text("name"), item.text("image")
    if not name or not image:
        raise BadRequest(f"{item.path}: a container needs a name and an image")
    result: dict[str, Any] = {"name": name, "image": image}
    if command := item.texts("command"):
        result["entrypoint"] = command
    if arguments := item.texts("args"):
        result["command"] = arguments
    if workdir := item.text("workingDir"):
        result["workdir"] = workdir
    result["envs"] = [_env(env) for env in item.children("env")]
    result["volumes"] = [_mount(mount, volumes) for mount in item.children("volumeMounts")]
    for key in ("tty", "stdin"):
        if item.take(key, bool, False):
            result[key] = True
    result["_ports"] = [p for port in item.children("ports") for p in _port(port)]
    result["_limits"] = _limits(item.child("resources"))
    result |= _security(item.child("securityContext"))
    if health := _probes(item):
        result["health"] = health
    item.ignore("imagePullPolicy", "terminationMessagePath", "terminationMessagePolicy")
    item.done()
    return result


def _env(env: _Object) -> dict[str, str]:
    result = {"env": env.text("name"), "value": env.text("value")}
    env.done()
    return result


def _mount(mount: _Object, volumes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    name, path = mount.text("name"), mount.text("mountPath")
    if name not in volumes:
        raise BadRequest(f"{mount.where('name')}: the pod has no volume {name!r}")
    detail = volumes[name]
    read_only = mount.take("readOnly", bool, False)
    mount.done()
    return {"path": path, "readOnly": read_only, "_name": name, "_detail": detail}


def _settle_volumes(pod: str, containers: list[dict[str, Any]]) -> None:
    """An emptyDir of one container is an anonymous volume, a shared one POD-NAME."""
    mounts = [mount for container in containers for mount in container["volumes"]]
    for mount in mounts:
        name, detail = mount.pop("_name"), mount.pop("_detail")
        mount["name"] = name
        if "empty" not in detail:
            mount["detail"] = detail
    names = [mount["name"] for mount in mounts if "detail" not in mount]
    for mount in mounts:
        name = mount.pop("name")
        if "detail" not in mount and names.count(name) > 1:
            mount["detail"] = {"name": f"{pod}-{name}"}


def _port(port: _Object) -> list[dict[str, str]]:
    inside, outside = port.take("containerPort", int, 0), port.take("hostPort", int, 0)
    protocol, address = port.text("protocol", "TCP").lower(), port.text("hostIP")
    port.ignore("name")
    port.done()
    if not outside:
        return []
    mapping = {"containerPort": str(inside), "hostPort": str(outside), "protocol": protocol}
    return [{**mapping, "hostIP": address} if address else mapping]


def _limits(resources: _Object) -> tuple[float, float]:
    """CPUs and bytes of a container: its limits, else its requests; 0 for none."""
    limits, requests = resources.child("limits"), resources.child("requests")
    found = []
    for key in ("cpu", "memory"):
        wanted = (_quantity(limits, key), _quantity(requests, key))
        found.append(wanted[0] or wanted[1])
    limits.done()
    requests.ignore("ephemeral-storage")
    requests.done()
    resources.done()
    return found[0], found[1]


def _quantity(node: _Object, key: str) -> float:
    value = node.take(key, (str, int, float), 0)
    match = _QUANTITY.fullmatch(str(value))
    if not match:
        raise BadRequest(f"{node.where(key)}: {value!r} is not a quantity such as 500m or 128Mi")
    return float(match[1]) * _UNITS[match[2] or ""]


def _resource(limits: list[tuple[float, float]]) -> dict[str, int]:
    """The VM that holds all containers: their CPUs, and their memory and the guest's own."""
    cpus = sum(cpu for cpu, _ in limits)
    memory = sum(size for _, size in limits)
    mib = int(-(-memory // (1 << 20)))
    return {
        "vcpu": max(1, int(-(-cpus // 1))),
        "memory": mib + _OVERHEAD_MIB if mib else _DEFAULT_MIB,
    }


def _security(context: _Object) -> dict[str, Any]:
    result: dict[str, Any] = {}
    user, group = context.take("runAsUser", int, -1), context.take("runAsGroup", int, -1)
    groups = context.take("supplementalGroups", list, [])
    if user >= 0 or group >= 0 or groups:
        result["user"] = {
            "name": str(max(user, 0)),
            **({"group": str(group)} if group >= 0 else {}),
            **({"additionalGroups": [str(g) for g in groups]} if groups else {}),
        }
    if context.take("readOnlyRootFilesystem", bool, False):
        result["readOnly"] = True
    if context.take("privileged", bool, False):
        raise NotSupported(f"{context.where('privileged')}: is not supported: leave it out")
    if context.take("runAsNonRoot", bool, False) and user <= 0:
        raise BadRequest(f"{context.where('runAsNonRoot')}: needs a runAsUser that is not 0")
    context.ignore("allowPrivilegeEscalation", "seLinuxOptions", "seccompProfile")
    context.done()
    return result


def _probes(item: _Object) -> dict[str, Any]:
    """The first of readiness, liveness and startup probe as a health check."""
    found: dict[str, Any] = {}
    for key in ("readinessProbe", "livenessProbe", "startupProbe"):
        if item.has(key):
            probe = _probe(item.child(key))
            found = found or probe
    return found


def _probe(probe: _Object) -> dict[str, Any]:
    for key in ("httpGet", "tcpSocket", "grpc"):
        if probe.has(key):
            raise NotSupported(f"{probe.where(key)}: only exec probes are supported")
    action = probe.child("exec")
    command = action.texts("command")
    action.done()
    if not command:
        raise BadRequest(f"{probe.where('exec.command')}: missing")
    result = {
        "test": ["CMD", *command],
        "interval": probe.take("periodSeconds", int, 10),
        "timeout": probe.take("timeoutSeconds", int, 1),
        "startPeriod": probe.take("initialDelaySeconds", int, 0),
        "retries": probe.take("failureThreshold", int, 3),
    }
    probe.ignore("successThreshold", "terminationGracePeriodSeconds")
    probe.done()
    return result
