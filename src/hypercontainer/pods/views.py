"""Pods and containers as JSON for people and programs: Docker's forms and the original's."""

from datetime import UTC, datetime
from typing import Any

from . import place
from .layout import Layout
from .logconfig import LogConfig
from .model import ZERO_TIME, Container, Pod, Status
from .mounts import all_mounts
from .oci import command_of, environment_of

_UNITS = (("year", 31536000), ("month", 2592000), ("week", 604800), ("day", 86400))


def summary(pod: Pod, container: Container) -> dict[str, Any]:
    """A line of the list of containers (Docker's GET /containers/json)."""
    return {
        "Id": container.id,
        "Names": [f"/{container.name}"],
        "Image": container.image,
        "ImageID": container.image_id,
        "Command": " ".join(command_of(container.spec, container.image_config)),
        "Created": unix_time(container.created_at),
        "State": container.state.status.value,
        "Status": status_line(container),
        "Pod": pod.id,
        "Labels": labels(pod, container),
        "Ports": place.port_list(pod) if container.live else [],
    }


def labels(pod: Pod, container: Container) -> dict[str, str]:
    """The labels of the image, the pod and the container; the latter win."""
    return {
        **(container.image_config.get("Labels") or {}),
        **pod.spec.labels,
        **container.spec.labels,
    }


def inspect(layout: Layout, pod: Pod, container: Container, log: LogConfig) -> dict[str, Any]:
    """Everything about a container, in the form of Docker's GET /containers/ID/json."""
    state, spec = container.state, container.spec
    command = command_of(spec, container.image_config)
    return {
        "Id": container.id,
        "Name": f"/{container.name}",
        "Created": container.created_at,
        "Path": command[0],
        "Args": command[1:],
        "State": {
            "Status": state.status.value,
            "Running": container.live,
            "Paused": state.status == Status.PAUSED,
            "OnDisk": pod.suspended,
            "Restarting": state.status == Status.RESTARTING,
            "OOMKilled": state.oom,
            "Dead": False,
            "Pid": state.pid,
            "ExitCode": state.exit_code,
            "Error": state.error,
            "Reason": state.reason,
            "StartedAt": state.started_at or ZERO_TIME,
            "FinishedAt": state.finished_at or ZERO_TIME,
            **_health(container),
        },
        "Image": container.image_id,
        "LogPath": str(layout.log(pod.id, container.id)) if log.keeps else "",
        "RestartCount": state.restarts,
        "Platform": "linux",
        "Config": _config(pod, container),
        "HostConfig": {
            "AutoRemove": pod.spec.auto_remove,
            "Binds": [
                f"{m.volume.source}:{m.path}:{'ro' if m.read_only else 'rw'}"
                for m in spec.volumes
                if m.volume.source
            ],
            "LogConfig": {"Type": log.type, "Config": dict(log.options)},
            "Memory": spec.limits.memory or pod.spec.memory << 20,
            "MemoryReservation": spec.limits.reservation,
            "NanoCpus": spec.limits.nano_cpus or pod.spec.vcpu * 10**9,
            "CpuShares": spec.limits.shares,
            "PidsLimit": spec.limits.pids or None,
            "NetworkMode": pod.spec.network,
            "PortBindings": place.bindings(pod.place.wanted_ports() if pod.place else ()),
            "Dns": list(pod.spec.dns),
            "DnsSearch": list(pod.spec.dns_search),
            "DnsOptions": list(pod.spec.dns_options),
            "ExtraHosts": [f"{name}:{address}" for name, address in pod.spec.net.hosts],
            "ReadonlyRootfs": spec.read_only,
            "CapAdd": list(spec.security.cap_add) or None,
            "CapDrop": list(spec.security.cap_drop) or None,
            "GroupAdd": list(spec.groups) or None,
            "SecurityOpt": ["no-new-privileges"] if spec.security.no_new_privileges else None,
            "ShmSize": spec.security.shm_size,
            "Sysctls": dict(spec.sysctl),
            "RestartPolicy": {
                "Name": spec.restart.name,
                "MaximumRetryCount": spec.restart.retries,
            },
            "Runtime": "hyper",
            "Ulimits": [{"Name": u.name, "Soft": u.soft, "Hard": u.hard} for u in spec.ulimits],
        },
        "Mounts": _mounts(layout, container),
        "NetworkSettings": place.settings(pod),
        "Pod": pod.id,
        "VM": vm_of(pod),
    }


def _health(container: Container) -> dict[str, Any]:
    """Docker's State.Health, absent where nothing is examined."""
    health = container.health
    if health is None or not container.live:
        return {}
    return {
        "Health": {
            "Status": container.state.health,
            "FailingStreak": health.failures,
            "Log": list(health.log),
        }
    }


def _config(pod: Pod, container: Container) -> dict[str, Any]:
    spec, image = container.spec, container.image_config
    entrypoint = spec.entrypoint if spec.entrypoint is not None else image.get("Entrypoint")
    command = spec.command
    if command is None and spec.entrypoint is None:
        command = image.get("Cmd")
    return {
        "Hostname": pod.hostname,
        "User": spec.user or str(image.get("User") or ""),
        "Tty": spec.tty,
        "OpenStdin": bool(spec.stdin),
        "Env": environment_of(spec, image, pod.hostname),
        "Cmd": list(command) if command else None,
        "Entrypoint": list(entrypoint) if entrypoint else None,
        "Image": container.image,
        "WorkingDir": spec.workdir or str(image.get("WorkingDir") or ""),
        "Labels": labels(pod, container),
        "StopSignal": spec.stop_signal or str(image.get("StopSignal") or "SIGTERM"),
        "StopTimeout": spec.stop_timeout,
    }


def _mounts(layout: Layout, container: Container) -> list[dict[str, Any]]:
    result = []
    for mount in all_mounts(container):
        spec = mount.volume
        kind = {"image": "bind", "nfs": "volume"}.get(spec.kind, spec.kind)
        entry: dict[str, Any] = {
            "Type": kind,
            "Source": spec.source,
            "Destination": mount.path,
            "Mode": "ro" if mount.read_only else "",
            "RW": not mount.read_only,
            "Propagation": "rprivate" if kind == "bind" else "",
        }
        if spec.kind == "volume":
            source = str(layout.volume(spec.name))
            entry |= {"Name": spec.name, "Source": source, "Driver": spec.driver or "local"}
        result.append(entry)
    return result


def vm_of(pod: Pod) -> dict[str, Any]:
    """The VM of a running pod: kernel, engine, pids; empty values when it has none."""
    from ..sandbox import read_state

    state = (read_state(pod.client.state_dir) if pod.client else None) or {}
    return {
        "Kernel": state.get("kernel", ""),
        "Initrd": state.get("initrd", ""),
        "Architecture": state.get("architecture", ""),
        "Accel": state.get("accel", ""),
        "AccelReason": state.get("accel_reason", ""),
        "Status": state.get("status", ""),
        "Pid": state.get("pid", 0),
        "VmmPid": state.get("vmm_pid", 0),
        "StateDir": str(pod.client.state_dir) if pod.client else "",
    }


def container_info(pod: Pod, container: Container) -> dict[str, Any]:
    """The original's ContainerInfo."""
    return {
        "container": original_container(pod, container),
        "createdAt": unix_time(container.created_at),
        "podID": pod.id,
        "status": container_status(container),
    }


def original_container(pod: Pod, container: Container) -> dict[str, Any]:
    """The original's Container."""
    spec, image = container.spec, container.image_config
    env = [e.partition("=") for e in environment_of(spec, image, pod.hostname)]
    return {
        "name": f"/{container.name}",
        "containerID": container.id,
        "image": container.image,
        "imageID": container.image_id,
        "workingDir": spec.workdir or str(image.get("WorkingDir") or "") or "/",
        "user": spec.user or str(image.get("User") or ""),
        "tty": spec.tty,
        "commands": command_of(spec, image),
        "env": [{"env": name, "value": value} for name, _, value in env],
        "volumeMounts": [
            {"name": m.volume.name or m.path, "mountPath": m.path, "readOnly": m.read_only}
            for m in spec.volumes
        ],
        "labels": labels(pod, container),
    }


def container_status(container: Container) -> dict[str, Any]:
    """The original's ContainerStatus; `terminated.reason` is Succeeded or Failed."""
    state = container.state
    status: dict[str, Any] = {
        "name": container.name,
        "containerID": container.id,
        "phase": container_phase(container),
    }
    if container.live:
        status["running"] = {"startedAt": state.started_at}
    elif state.status in (Status.EXITED, Status.RESTARTING, Status.REMOVING):
        status["terminated"] = {
            "exitCode": state.exit_code,
            "reason": "Failed" if state.exit_code or state.error else "Succeeded",
            "message": state.error or state.reason,
            "startedAt": state.started_at,
            "finishedAt": state.finished_at,
        }
    else:
        status["waiting"] = {"reason": "Pending"}
    return status


def container_phase(container: Container) -> str:
    """pending, running, succeeded or failed."""
    if container.live:
        return "running"
    if container.state.status in (Status.CREATED, Status.STARTING):
        return "pending"
    return "failed" if container.state.exit_code or container.state.error else "succeeded"


def pod_phase(pod: Pod) -> str:
    """Pending, Running, Paused, Failed or Succeeded."""
    if any(c.state.status == Status.PAUSED for c in pod.containers):
        return "Paused"
    phases = {container_phase(c) for c in pod.containers}
    for phase in ("running", "pending", "failed"):
        if phase in phases:
            return phase.capitalize()
    return "Succeeded"


def pod_info(pod: Pod) -> dict[str, Any]:
    """The original's PodInfo."""
    started = [c.state.started_at for c in pod.containers if c.state.started_at]
    finished = [c.state.finished_at for c in pod.containers if c.state.finished_at]
    return {
        "podID": pod.id,
        "podName": pod.id,
        "kind": "Pod",
        "apiVersion": "1.0",
        "vm": pod.id if pod.client else "",
        "createdAt": unix_time(pod.created_at),
        "spec": {
            "containers": [original_container(pod, c) for c in pod.containers],
            "volumes": [
                {
                    "name": m.volume.name,
                    "source": m.volume.source,
                    "format": m.volume.format or {"nfs": "nas"}.get(m.volume.kind, "vfs"),
                }
                for c in pod.containers
                for m in all_mounts(c)
            ],
            "labels": dict(pod.spec.labels),
            "vcpu": pod.spec.vcpu,
            "memory": pod.spec.memory,
        },
        "status": {
            "phase": pod_phase(pod),
            "message": next((c.state.error for c in pod.containers if c.state.error), ""),
            "reason": next((c.state.reason for c in pod.containers if c.state.reason), ""),
            "podIP": place.pod_addresses(pod),
            "startTime": min(started, default=""),
            "finishTime": max(finished, default="") if not pod.live else "",
            "containerStatus": [container_status(c) for c in pod.containers],
        },
        "vmInfo": vm_of(pod),
    }


def unix_time(text: str) -> int:
    """Seconds since 1970 of an RFC 3339 time; 0 for none."""
    return int(datetime.fromisoformat(text).timestamp()) if text else 0


def status_line(container: Container) -> str:
    """`Up 3 minutes`, `Exited (0) 2 hours ago`, `Created`, in Docker's words."""
    state = container.state
    if container.live:
        up = f"Up {_ago(state.started_at)}"
        if state.health and state.status == Status.RUNNING:
            health = "health: starting" if state.health == "starting" else state.health
            return f"{up} ({health})"
        return f"{up} (Paused)" if state.status == Status.PAUSED else up
    if state.status == Status.EXITED:
        return f"Exited ({state.exit_code}) {_ago(state.finished_at)} ago"
    if state.status == Status.RESTARTING:
        return f"Restarting ({state.exit_code}) {_ago(state.finished_at)} ago"
    return state.status.value.capitalize()


def _ago(since: str) -> str:
    if not since:
        return "an unknown time"
    seconds = max((datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds(), 0)
    if seconds < 1:
        return "less than a second"
    for name, size in (*_UNITS, ("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {name}{'' if count == 1 else 's'}"
    return "less than a second"
