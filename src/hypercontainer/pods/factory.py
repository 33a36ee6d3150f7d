"""How pods' VMs come to be: the policy of the VM factory."""

import json
from dataclasses import dataclass
from typing import Any

from ..errors import BadRequest, NotSupported
from ..sandbox import VMConfig

_KEYS = ("cache", "template", "cpu", "memory")
_MAX_READY = 64


@dataclass(frozen=True, slots=True)
class ReadySize:
    """VMs of one size that are always ready; memory is in MiB."""

    count: int
    cpus: int
    memory_mib: int


@dataclass(frozen=True, slots=True)
class Factory:
    """`sizes` are kept ready for good; of the size of the last pods, `after_use` for some minutes.

    Without `clones` every VM boots.
    """

    sizes: tuple[ReadySize, ...] = ()
    after_use: int = 1
    clones: bool = True


def parse_factory(text: str) -> Factory:
    """The policy of `VmFactoryPolicy`: JSON objects separated by commas, with `cache` (how many
    VMs are ready), `template` (clones, or VMs that boot), `cpu` and `memory` (MiB).

    Raises BadRequest, NotSupported.
    """
    if not text.strip():
        return Factory()
    try:
        policies = json.loads(f"[{text}]")
    except ValueError as error:
        raise BadRequest(f"{text!r} is not JSON objects separated by commas: {error}") from None
    if len(policies) == 1 and isinstance(policies[0], list):
        policies = policies[0]
    sizes, clones = [], True
    for policy in policies:
        size, cloned = _policy(policy)
        clones = clones and cloned
        if size.count:
            sizes.append(size)
    if sizes and not clones:
        raise NotSupported(
            "a cache of VMs without a template is not supported: ready VMs are clones;"
            ' say "template": true, or "cache": 0'
        )
    return Factory(tuple(sizes), 0, clones)


def _policy(policy: Any) -> tuple[ReadySize, bool]:
    if not isinstance(policy, dict):
        raise BadRequest(f"{policy!r} is not an object")
    if unknown := sorted(set(policy) - set(_KEYS)):
        raise BadRequest(f"unknown key {unknown[0]!r}: {', '.join(_KEYS)} are known")
    cloned = policy.get("template", True)
    if not isinstance(cloned, bool):
        raise BadRequest(f"template: {cloned!r} is neither true nor false")
    defaults = VMConfig()
    count = _number(policy, "cache", 0)
    size = ReadySize(
        count,
        _number(policy, "cpu", defaults.cpus),
        _number(policy, "memory", defaults.memory_mib),
    )
    if count > _MAX_READY:
        raise BadRequest(f"cache: {count} VMs are more than {_MAX_READY}")
    VMConfig(cpus=size.cpus, memory_mib=size.memory_mib).validate()
    return size, cloned


def _number(policy: dict[str, Any], key: str, default: int) -> int:
    value = policy.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadRequest(f"{key}: {value!r} is not a number of 0 or more")
    return value
