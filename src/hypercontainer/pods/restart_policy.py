"""When a container that has ended is started again, as Docker's `--restart` says it."""

from dataclasses import dataclass

from ..errors import BadRequest

_WORDS = {
    "": "no",
    "no": "no",
    "never": "no",
    "always": "always",
    "unless-stopped": "unless-stopped",
    "unlessstopped": "unless-stopped",
    "on-failure": "on-failure",
    "onfailure": "on-failure",
}
_FIRST_DELAY = 0.1
_LONGEST_DELAY = 60.0
_SETTLED = 10.0
_MOST_RETRIES = 1 << 31


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """`name` is no, always, unless-stopped or on-failure; `retries` 0 means without end."""

    name: str = "no"
    retries: int = 0

    def wants(self, exit_code: int, count: int, *, stopped: bool) -> bool:
        """Whether a container that ended is started again, after `count` restarts.

        `stopped` says that its user ended it.
        """
        if stopped or self.name == "no":
            return False
        if self.name == "on-failure":
            return exit_code != 0 and (not self.retries or count < self.retries)
        return True

    def wants_at_boot(self, *, stopped: bool) -> bool:
        """Whether an ended container is started when hyperd starts."""
        return self.name == "always" or (self.name == "unless-stopped" and not stopped)


def parse_restart_policy(value: str, where: str) -> RestartPolicy:
    """Read never, no, always, unless-stopped, on-failure[:RETRIES] or onFailure.

    Raises BadRequest naming `where`.
    """
    word, colon, retries = value.partition(":")
    name = _WORDS.get(word.lower())
    if name is None:
        raise BadRequest(
            f"{where}: {value!r} is none of no, always, unless-stopped, on-failure[:RETRIES]"
        )
    if not colon:
        return RestartPolicy(name)
    good = retries.isascii() and retries.isdigit() and int(retries) < _MOST_RETRIES
    if name != "on-failure" or not good:
        raise BadRequest(f"{where}: {value!r}: only on-failure takes a number, of restarts")
    return RestartPolicy(name, int(retries))


def next_delay(last: float, ran: float) -> float:
    """Seconds to wait before a restart: 0.1, doubled each time, at most 60.

    `last` is the delay before the run that has ended, which took `ran` seconds; one of
    more than 10 seconds begins anew.
    """
    if ran > _SETTLED or last <= 0:
        return _FIRST_DELAY
    return min(last * 2, _LONGEST_DELAY)
