"""Makes docs/commands.md from the parsers: `python -m hypercontainer.cli.reference`."""

from __future__ import annotations

import sys
from pathlib import Path

from .commands import ALIASES, COMMANDS
from .main import command_parser, global_parser

TARGET = Path("docs/commands.md")

_HEAD = """\
# Commands

Made from the command line's own parser by `python -m hypercontainer.cli.reference`;
edit the parser, not this file.

`hyper` (also `hyperctl`) talks to hyperd at `--host`, else `HYPER_HOST`, else
`unix:///var/run/hyper.sock`. When that is a local socket, nobody listens there and
we are root, it starts hyperd itself.

- Options combine as in Docker (`-it`) and end at the image or container: what follows
  belongs to the inner command.
- Sizes take the suffixes `b`, `k`, `m`, `g`, `t`; a plain number is in MiB.
- Exit codes of `run`, `exec`, `attach` and `start -a`: the container's own; 128 + n if
  signal n killed it; 126 if its program can't be executed, 127 if there is none; 125
  for failures of hyper and hyperd. Other commands: 0, or 1 if something failed (with
  several names they go on after a failure). A wrong command line: 125 everywhere.
- Errors are one line on stderr; `--debug` shows the details.
- `ctrl-p ctrl-q` detaches from a container with a terminal; it goes on.
- Without a terminal, `run`, `attach` and `start -a` pass SIGINT, SIGTERM, SIGHUP,
  SIGQUIT, SIGUSR1, SIGUSR2 and SIGALRM on to the container; the third SIGINT or
  SIGTERM ends `hyper` itself.
- `--format json` prints an array or object for scripts.
"""


def reference() -> str:
    """The text of docs/commands.md."""
    parts = [_HEAD, _block("## Global options", global_parser().format_help())]
    names = {name: [a for a, target in ALIASES.items() if target == name] for name in COMMANDS}
    for name, aliases in names.items():
        parser = command_parser("hyper", name)
        assert parser is not None
        also = f"Also: {', '.join(f'`hyper {alias}`' for alias in aliases)}." if aliases else ""
        parts.append(_block(f"## hyper {name}", parser.format_help(), also))
        for below, command in parser.below.items():
            parts.append(_block(f"### hyper {name} {below}", command.format_help()))
    return "\n".join(parts)


def _block(title: str, text: str, note: str = "") -> str:
    return f"{title}\n\n" + (f"{note}\n\n" if note else "") + f"```text\n{text.rstrip()}\n```\n"


def main() -> int:
    """Write the file, or with `-` print it."""
    if sys.argv[1:] == ["-"]:
        sys.stdout.write(reference())
    else:
        TARGET.write_text(reference())
    return 0


if __name__ == "__main__":
    sys.exit(main())
