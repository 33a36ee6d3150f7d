"""A Dockerfile's instructions, typed. Texts are as written: variables are replaced later."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Command:
    """A program: an argument vector, or a text for the shell."""

    argv: tuple[str, ...] = ()
    script: str | None = None


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A here-document; with `raw` no variables are replaced in it."""

    name: str
    content: str
    raw: bool


@dataclass(frozen=True, slots=True)
class Instruction:
    """What all have: the line that it begins at, and its text as shown and kept in the history."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class From(Instruction):
    """A stage's begin."""

    image: str
    alias: str = ""
    platform: str = ""


@dataclass(frozen=True, slots=True)
class Arg(Instruction):
    """Arguments with their defaults."""

    arguments: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Run(Instruction):
    """A program that changes the image."""

    command: Command
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True)
class Copy(Instruction):
    """COPY, or ADD, which unpacks archives."""

    sources: tuple[str, ...]
    target: str
    add: bool = False
    stage: str = ""
    chown: str = ""
    chmod: str = ""
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True)
class Pairs(Instruction):
    """ENV and LABEL."""

    name: str
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Words(Instruction):
    """VOLUME and EXPOSE."""

    name: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Value(Instruction):
    """WORKDIR, USER, STOPSIGNAL, MAINTAINER and ONBUILD."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Program(Instruction):
    """CMD, ENTRYPOINT and SHELL."""

    name: str
    command: Command


@dataclass(frozen=True, slots=True)
class Healthcheck(Instruction):
    """A health check; without a command it is switched off. Times are in ns."""

    command: Command | None
    times: dict[str, int] = field(default_factory=dict)
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """The ARGs before the first FROM, and all instructions from there on."""

    arguments: tuple[Arg, ...]
    instructions: tuple[Instruction, ...]
    escape: str = "\\"
