"""From one logical line of a Dockerfile to its typed instruction."""

import json
import re

from ..errors import BadRequest, NotSupported
from .instructions import (
    Arg,
    Command,
    Copy,
    From,
    Healthcheck,
    Heredoc,
    Instruction,
    Pairs,
    Program,
    Run,
    Value,
    Words,
)
from .words import split

_FLAG = re.compile(r"--([a-z][a-z-]*)(?:=(\S*))?(?:\s+|$)")
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_STAGE = re.compile(r"[a-z][a-z0-9._-]*", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9}
_NAMES = (
    "FROM ARG RUN COPY ADD ENV LABEL VOLUME EXPOSE WORKDIR USER STOPSIGNAL MAINTAINER ONBUILD"
    " CMD ENTRYPOINT SHELL HEALTHCHECK"
).split()


def read_instruction(
    line: int, text: str, heredocs: tuple[Heredoc, ...], escape: str
) -> Instruction:
    """The instruction of a line. Raises BadRequest (NotSupported for what is not)."""
    name, _, rest = text.partition(" ") if " " in text else text.partition("\t")
    name, rest = name.upper(), rest.strip()
    if name not in _NAMES:
        from difflib import get_close_matches

        close = get_close_matches(name, _NAMES, 1)
        raise BadRequest(
            f"unknown instruction: {name}" + (f" (did you mean {close[0]}?)" if close else "")
        )
    flags, rest = _flags(rest)
    shown = f"{name} {rest}".strip()
    if not rest:
        raise BadRequest(f"{name} needs an argument")
    match name:
        case "FROM":
            return _from(line, shown, flags, rest)
        case "ARG":
            _no_flags(flags, name)
            return Arg(line, shown, tuple(_argument(word) for word in split(rest, escape)))
        case "RUN":
            return _run(line, shown, flags, rest, heredocs)
        case "COPY" | "ADD":
            return _copy(line, text, name, flags, rest, heredocs, escape)
        case "ENV" | "LABEL":
            _no_flags(flags, name)
            return Pairs(line, shown, name, _pairs(name, rest, escape))
        case "VOLUME" | "EXPOSE":
            _no_flags(flags, name)
            vector = _json_form(rest) if name == "VOLUME" else None
            words = split(rest, escape) if vector is None else vector
            if not words:
                raise BadRequest(f"{name} needs an argument")
            return Words(line, shown, name, tuple(words))
        case "CMD" | "ENTRYPOINT":
            _no_flags(flags, name)
            return Program(line, shown, name, _command(rest))
        case "SHELL":
            _no_flags(flags, name)
            argv = _json_form(rest)
            if not argv:
                raise BadRequest('SHELL needs a JSON array such as ["/bin/sh", "-c"]')
            return Program(line, shown, name, Command(tuple(argv)))
        case "HEALTHCHECK":
            return _healthcheck(line, text, flags, rest)
        case _:
            _no_flags(flags, name)
            return _value(line, shown, name, rest, escape)


def _flags(rest: str) -> tuple[dict[str, str | None], str]:
    flags: dict[str, str | None] = {}
    while match := _FLAG.match(rest):
        if match[1] in flags and match[1] not in ("mount", "exclude"):
            raise BadRequest(f"--{match[1]} is given twice")
        flags[match[1]] = match[2]
        rest = rest[match.end() :]
    if rest.startswith("--") and rest != "--":
        raise BadRequest(f"bad option {rest.split()[0]!r}")
    return flags, rest


def _no_flags(flags: dict[str, str | None], name: str, *known: str) -> None:
    for flag in flags:
        if flag in known:
            if not flags[flag]:
                raise BadRequest(f"{name} --{flag} needs a value: --{flag}=VALUE")
            continue
        if (name, flag) in _KNOWN_ELSEWHERE:
            raise NotSupported(f"{name} --{flag}: not supported")
        raise BadRequest(f"{name} has no option --{flag}")


_KNOWN_ELSEWHERE = {
    *(("RUN", flag) for flag in ("mount", "network", "security", "device")),
    *(("COPY", flag) for flag in ("link", "parents", "exclude")),
    *(("ADD", flag) for flag in ("link", "exclude", "checksum", "keep-git-dir", "unpack")),
}


def _from(line: int, shown: str, flags: dict[str, str | None], rest: str) -> From:
    _no_flags(flags, "FROM", "platform")
    words = rest.split()
    if len(words) == 1:
        return From(line, shown, words[0], "", flags.get("platform") or "")
    if len(words) != 3 or words[1].upper() != "AS":
        raise BadRequest("FROM takes IMAGE, or IMAGE AS NAME")
    if not _STAGE.fullmatch(words[2]):
        raise BadRequest(f"{words[2]!r} is no name for a stage")
    return From(line, shown, words[0], words[2].lower(), flags.get("platform") or "")


def _argument(word: str) -> tuple[str, str | None]:
    name, equals, value = word.partition("=")
    if not _NAME.fullmatch(name):
        raise BadRequest(f"{name!r} is no name of an argument")
    return name, value if equals else None


def _run(
    line: int,
    shown: str,
    flags: dict[str, str | None],
    rest: str,
    heredocs: tuple[Heredoc, ...],
) -> Run:
    _no_flags(flags, "RUN")
    if not heredocs:
        return Run(line, shown, _command(rest))
    first = heredocs[0]
    if len(heredocs) == 1 and re.fullmatch(r"<<-?[\"']?\w[\w.]*[\"']?", rest):
        script = first.content
    else:  # the shell itself reads them
        script = rest + "\n" + "".join(f"{h.content}{h.name}\n" for h in heredocs)
    return Run(line, shown, Command(script=script), heredocs)


def _copy(
    line: int,
    text: str,
    name: str,
    flags: dict[str, str | None],
    rest: str,
    heredocs: tuple[Heredoc, ...],
    escape: str,
) -> Copy:
    _no_flags(flags, name, "chown", "chmod", *(["from"] if name == "COPY" else []))
    vector = _json_form(rest)
    words = split(rest, escape) if vector is None else vector
    documents = [word for word in words[:-1] if word.startswith("<<")] if heredocs else []
    sources = tuple(word for word in words[:-1] if word not in documents)
    if len(words) < 2:
        raise BadRequest(f"{name} needs a source and a target")
    if len(documents) != len(heredocs):
        raise BadRequest(f"{name}: a here-document can only be a source")
    for source in sources:
        if re.match(r"(https?|ftp|git|ssh)://|git@", source, re.IGNORECASE):
            raise NotSupported(
                f"{name} {source}: addresses are not supported as sources: use RUN with wget or"
                " curl, or put the file into the context"
            )
    stage = flags.get("from") or ""
    if stage and heredocs:
        raise BadRequest("COPY --from takes no here-documents")
    return Copy(
        line,
        " ".join(text.split()),
        sources,
        words[-1],
        name == "ADD",
        stage,
        flags.get("chown") or "",
        flags.get("chmod") or "",
        heredocs,
    )


def _pairs(name: str, rest: str, escape: str) -> tuple[tuple[str, str], ...]:
    words = split(rest, escape)
    if "=" not in words[0]:
        key, _, value = rest.partition(" ")
        if not value.strip():
            raise BadRequest(f"{name} needs NAME=VALUE")
        return ((key, value.strip()),)
    pairs = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise BadRequest(f"{name}: {word!r} is not NAME=VALUE")
        pairs.append((key, value))
    return tuple(pairs)


def _json_form(rest: str) -> list[str] | None:
    """A JSON array of strings, None for anything else (which is the other form then)."""
    if not rest.startswith("["):
        return None
    try:
        value = json.loads(rest)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return None
    return value


def _command(rest: str) -> Command:
    argv = _json_form(rest)
    return Command(script=rest) if argv is None else Command(tuple(argv))


def _healthcheck(line: int, text: str, flags: dict[str, str | None], rest: str) -> Healthcheck:
    times = {
        "interval": "Interval",
        "timeout": "Timeout",
        "start-period": "StartPeriod",
        "start-interval": "StartInterval",
    }
    _no_flags(flags, "HEALTHCHECK", *times, "retries")
    kind, _, command = rest.partition(" ")
    if kind.upper() == "NONE" and not command.strip() and not flags:
        return Healthcheck(line, text, None)
    if kind.upper() != "CMD" or not command.strip():
        raise BadRequest("HEALTHCHECK takes CMD and a command, or NONE")
    found = {
        key: _duration(flags[name] or "", name) for name, key in times.items() if name in flags
    }
    retries = flags.get("retries") or "0"
    if not retries.isdigit() or len(retries) > 6:
        raise BadRequest(f"HEALTHCHECK --retries: {retries!r} is not a number")
    return Healthcheck(line, text, _command(command.strip()), found, int(retries))


def _duration(text: str, name: str) -> int:
    parts = _DURATION.findall(text)
    if not parts or "".join(f"{n}{unit}" for n, unit in parts) != text or len(text) > 40:
        raise BadRequest(f"HEALTHCHECK --{name}: {text!r} is not a duration such as 30s")
    total = int(sum(float(number) * _UNITS[unit] for number, unit in parts))
    if not 0 <= total < 1 << 62:
        raise BadRequest(f"HEALTHCHECK --{name}: {text!r} is out of range")
    return total


def _value(line: int, shown: str, name: str, rest: str, escape: str) -> Value:
    if name == "ONBUILD":
        inner = rest.split(None, 1)[0].upper()
        if inner in ("ONBUILD", "FROM", "MAINTAINER"):
            raise BadRequest(f"ONBUILD {inner} is not allowed")
        read_instruction(line, rest, (), escape)
    return Value(line, shown, name, rest)
