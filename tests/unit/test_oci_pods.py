from typing import Any

import pytest

from hypercontainer.errors import BadRequest
from hypercontainer.oci import pods

CRI = "io.kubernetes.cri"


def test_containerd() -> None:
    pod = {"annotations": {f"{CRI}.container-type": "sandbox", f"{CRI}.sandbox-id": "p"}}
    member = {"annotations": {f"{CRI}.container-type": "container", f"{CRI}.sandbox-id": "p"}}
    assert pods.is_pod(pod)
    assert pods.pod_of(pod) == ""
    assert not pods.is_pod(member)
    assert pods.pod_of(member) == "p"


def test_none() -> None:
    for config in ({}, {"annotations": None}, {"annotations": {f"{CRI}.sandbox-id": "p"}}):
        assert not pods.is_pod(config)
        assert pods.pod_of(config) == ""
        assert pods.with_limits(config) is config


def _pod(**annotations: str) -> dict[str, Any]:
    named = {f"{CRI}.sandbox-{k.replace('_', '-')}": v for k, v in annotations.items()}
    return {
        "annotations": {f"{CRI}.container-type": "sandbox", **named},
        "linux": {"resources": {"cpu": {"shares": 2}}},
    }


def test_limits_of_all_containers() -> None:
    config = pods.with_limits(_pod(memory="268435456", cpu_quota="150000", cpu_period="100000"))
    assert config["linux"]["resources"] == {
        "cpu": {"shares": 2, "quota": 150000, "period": 100000},
        "memory": {"limit": 268435456},
    }


def test_no_limits() -> None:
    config = pods.with_limits(_pod(memory="0", cpu_quota="0", cpu_period="0"))
    assert config["linux"]["resources"] == {"cpu": {"shares": 2}, "memory": {}}


def test_a_malformed_limit() -> None:
    with pytest.raises(BadRequest, match=r"annotations\.io\.kubernetes\.cri\.sandbox-memory: 'x'"):
        pods.with_limits(_pod(memory="x"))
