"""Instructions that change an image's configuration, not its files."""

import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import BadRequest
from ..guest.platforms import ARCHITECTURES, NATIVE
from .dockerfile import parse_line
from .instructions import Command, Healthcheck, Instruction, Pairs, Program, Value, Words
from .words import expand

DEFAULT_SHELL = ("/bin/sh", "-c")
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_CHANGES = (
    "CMD ENTRYPOINT ENV EXPOSE LABEL ONBUILD USER VOLUME WORKDIR HEALTHCHECK STOPSIGNAL SHELL"
)
Expand = Callable[[str], str]


def environment(config: Mapping[str, Any]) -> dict[str, str]:
    """The variables of a configuration."""
    pairs = (str(entry).partition("=") for entry in config.get("Env") or [])
    return {name: value for name, _, value in pairs}


def platform_arguments(target: str) -> dict[str, str]:
    """The arguments that say for which platform an image is, and on which it is built.

    `target` is OS/ARCHITECTURE, "" for the host's.
    """
    host = ARCHITECTURES[NATIVE].platform
    found: dict[str, str] = {}
    for what, platform in (("TARGET", target or host), ("BUILD", host)):
        system, architecture = platform.split("/")
        found |= {f"{what}PLATFORM": platform, f"{what}OS": system, f"{what}ARCH": architecture}
        found[f"{what}VARIANT"] = ""
    return found


def with_changes(config: Mapping[str, Any], changes: list[str]) -> dict[str, Any]:
    """A configuration with the instructions of `commit --change` applied. Raises BadRequest."""
    result = dict(config)
    for text in changes:
        instruction = parse_line(text)
        if text.split(None, 1)[0].upper() not in _CHANGES.split():
            raise BadRequest(f"{text!r}: only these change an image: {_CHANGES}")
        try:
            result = changed(result, instruction, environment(result))
        except BadRequest as error:
            raise BadRequest(f"{text!r}: {error.message}") from None
    return result


def changed(
    config: Mapping[str, Any],
    instruction: Instruction,
    variables: Mapping[str, str],
    escape: str = "\\",
) -> dict[str, Any]:
    """The configuration after an instruction. Raises BadRequest.

    ENTRYPOINT leaves CMD alone here: whether that is dropped depends on where it was set.
    """
    new = dict(config)

    def replace(text: str) -> str:
        return expand(text, variables, escape)

    match instruction:
        case Pairs(name="ENV", pairs=pairs):
            env = environment(config)
            env |= {replace(key): replace(value) for key, value in pairs}
            new["Env"] = [f"{key}={value}" for key, value in env.items()]
        case Pairs(pairs=pairs):
            labels = {replace(key): replace(value) for key, value in pairs}
            new["Labels"] = {**(config.get("Labels") or {}), **labels}
        case Words(name="VOLUME", words=words):
            paths: dict[str, Any] = {_absolute(replace(word), config): {} for word in words}
            new["Volumes"] = {**(config.get("Volumes") or {}), **paths}
        case Words(words=words):
            ports: dict[str, Any] = {port: {} for word in words for port in _ports(replace(word))}
            new["ExposedPorts"] = {**(config.get("ExposedPorts") or {}), **ports}
        case Program(name="SHELL", command=command):
            new["Shell"] = list(command.argv)
        case Program(name=name, command=command):
            new["Cmd" if name == "CMD" else "Entrypoint"] = argv_of(command, config)
        case Healthcheck():
            new["Healthcheck"] = _health(instruction)
        case Value(name="ONBUILD", value=value):
            new["OnBuild"] = [*(config.get("OnBuild") or []), value]
        case Value(name="WORKDIR", value=value):
            new["WorkingDir"] = _absolute(replace(value), config)
        case Value(name="USER", value=value):
            new["User"] = _not_empty(replace(value), "USER")
        case Value(name="STOPSIGNAL", value=value):
            new["StopSignal"] = _signal(replace(value))
        case _:
            raise BadRequest(f"{instruction.text.split(None, 1)[0]} changes no configuration")
    return new


def argv_of(command: Command, config: Mapping[str, Any]) -> list[str]:
    """The argument vector of a program; a text goes through the configured shell."""
    if command.script is None:
        return list(command.argv)
    return [*(config.get("Shell") or DEFAULT_SHELL), command.script]


def _absolute(path: str, config: Mapping[str, Any]) -> str:
    _not_empty(path, "a path")
    joined = posixpath.normpath(posixpath.join("/", config.get("WorkingDir") or "/", path))
    return "/" + joined.lstrip("/")


def _not_empty(value: str, what: str) -> str:
    if not value.strip() or "\0" in value:
        raise BadRequest(f"{what} is empty")
    return value.strip()


def _ports(text: str) -> list[str]:
    match = _PORT.fullmatch(text)
    first = int(match[1]) if match else 0
    last = int(match[2] or first) if match else 0
    if match is None or not 1 <= first <= last <= 65535:
        raise BadRequest(f"EXPOSE: {text!r} is not PORT, PORT/udp or a range of ports")
    return [f"{port}/{(match[3] or 'tcp').lower()}" for port in range(first, last + 1)]


def _signal(text: str) -> str:
    from ..pods.values import parse_signal

    parse_signal(text, "STOPSIGNAL")
    return text


def _health(check: Healthcheck) -> dict[str, Any]:
    if check.command is None:
        return {"Test": ["NONE"]}
    if check.command.script is not None:
        test = ["CMD-SHELL", check.command.script]
    else:
        test = ["CMD", *check.command.argv]
    retries = {"Retries": check.retries} if check.retries else {}
    return {"Test": test, **check.times, **retries}
