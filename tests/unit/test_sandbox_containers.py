"""Identifiers, exit statuses and the VM's configuration."""

from typing import Any

import pytest

from hypercontainer.errors import BadRequest, Conflict, NotFound
from hypercontainer.sandbox.config import VMConfig
from hypercontainer.sandbox.containers import Container, Containers, check_id, exit_status


@pytest.mark.parametrize("value", ["a", "a-b_c.d", "A" * 128, "0", "-x", "_x", "a..b"])
def test_good_ids(value: str) -> None:
    assert check_id("container", value) == value


@pytest.mark.parametrize(
    "value", ["", ".", "..", ".a", "a/b", "a" * 129, "a b", "ä", "a\n", "a\0", None, 1, [], "a+b"]
)
def test_bad_ids_are_named(value: object) -> None:
    with pytest.raises(BadRequest, match="container id"):
        check_id("container", value)


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ({"code": 0}, (0, 0, False, "")),
        ({"code": 7, "signal": 0}, (7, 0, False, "")),
        ({"code": 143, "signal": 15}, (143, 15, False, "signal 15")),
        ({"code": 137, "signal": 9, "oom": True}, (137, 9, True, "out of memory")),
        ({}, (255, 0, False, "")),
        ({"code": "0"}, (255, 0, False, "")),
        ({"code": 256, "signal": 65, "oom": 1}, (255, 0, False, "")),
        ({"code": -1, "signal": -1, "oom": "yes"}, (255, 0, False, "")),
        ({"code": 1.5, "signal": None}, (255, 0, False, "")),
    ],
)
def test_what_the_guest_says_of_an_end_is_checked(
    event: dict[str, Any], status: tuple[int, int, bool, str]
) -> None:
    found = exit_status(event)
    assert (found["code"], found["signal"], found["oom"], found["reason"]) == status


def test_containers_by_id() -> None:
    containers = Containers()
    containers.add(Container("a"))
    with pytest.raises(Conflict, match="a is in use"):
        containers.add(Container("a"))
    assert containers.get("a").status == "created"
    for missing in ("b", None, 1, ["a"]):
        with pytest.raises(NotFound, match="no such container"):
            containers.get(missing)
    containers.drop("a")
    containers.drop("a")
    assert len(containers) == 0


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"cpus": 0}, "cpus"),
        ({"cpus": 65}, "cpus"),
        ({"memory_mib": 47}, "memory"),
        ({"accel": "bochs"}, "accel"),
        ({"network": "bridge"}, "network"),
        ({"boot_timeout": 0.0}, "boot timeout"),
        ({"boot_timeout": -1.0}, "boot timeout"),
    ],
)
def test_a_machine_that_can_not_be_made_is_refused_with_the_reason(
    change: dict[str, Any], word: str
) -> None:
    with pytest.raises(BadRequest, match=word):
        VMConfig(**change).validate()


def test_the_configuration_survives_json() -> None:
    config = VMConfig(cpus=2, memory_mib=256, accel="tcg", append="quiet", share=True, linger=False)
    assert VMConfig.from_json(config.to_json()).to_json() == config.to_json()
