"""Restart policies: how they are read, and when they want a restart."""

import pytest

from hypercontainer.errors import BadRequest
from hypercontainer.pods.restart_policy import RestartPolicy, next_delay, parse_restart_policy


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("no", RestartPolicy("no")),
        ("never", RestartPolicy("no")),
        ("always", RestartPolicy("always")),
        ("unless-stopped", RestartPolicy("unless-stopped")),
        ("on-failure", RestartPolicy("on-failure")),
        ("onFailure", RestartPolicy("on-failure")),
        ("on-failure:3", RestartPolicy("on-failure", 3)),
    ],
)
def test_reading(text: str, policy: RestartPolicy) -> None:
    assert parse_restart_policy(text, "x") == policy


@pytest.mark.parametrize(
    "text", ["sometimes", "always:3", "on-failure:", "on-failure:-1", "on-failure:x", "no:1", "²"]
)
def test_bad_policies_are_named(text: str) -> None:
    with pytest.raises(BadRequest, match=r"^here: "):
        parse_restart_policy(text, "here")


@pytest.mark.parametrize(
    ("policy", "code", "count", "stopped", "wanted"),
    [
        ("no", 1, 0, False, False),
        ("always", 0, 99, False, True),
        ("always", 1, 0, True, False),
        ("unless-stopped", 0, 5, False, True),
        ("on-failure", 0, 0, False, False),
        ("on-failure", 3, 1000, False, True),
        ("on-failure:2", 3, 1, False, True),
        ("on-failure:2", 3, 2, False, False),
        ("on-failure:2", 3, 0, True, False),
    ],
)
def test_when_a_restart_is_wanted(
    policy: str, code: int, count: int, stopped: bool, wanted: bool
) -> None:
    assert parse_restart_policy(policy, "").wants(code, count, stopped=stopped) is wanted


def test_only_always_starts_what_was_stopped_when_hyperd_starts() -> None:
    assert RestartPolicy("always").wants_at_boot(stopped=True)
    assert RestartPolicy("unless-stopped").wants_at_boot(stopped=False)
    assert not RestartPolicy("unless-stopped").wants_at_boot(stopped=True)
    assert not RestartPolicy("on-failure").wants_at_boot(stopped=False)


def test_delays_double_up_to_a_minute_and_begin_anew_after_a_long_run() -> None:
    delay, seen = 0.0, []
    for _ in range(12):
        delay = next_delay(delay, 1.0)
        seen.append(delay)
    assert seen[:4] == [0.1, 0.2, 0.4, 0.8]
    assert seen[-1] == 60.0
    assert next_delay(60.0, 10.5) == 0.1
