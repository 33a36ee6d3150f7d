#!/usr/bin/env python3
"""Run Python code that nobody has read: in a VM of its own, bounded, without network.

usage: untrusted_python.py [--image IMAGE] SCRIPT [OUTPUT-DIRECTORY]

The script finds its input on stdin, and what it writes to /out comes back.
"""

import argparse
import sys
from pathlib import Path

from hypercontainer import Client, Result
from hypercontainer.errors import HyperError

SECONDS = 60.0
MEMORY = "128m"
MAX_OUTPUT = 1 << 20
MAX_FILES = 16 << 20


def run_untrusted(code: bytes, data: bytes, image: str) -> Result:
    """Run the code with `data` on its stdin; what it printed and what it wrote to /out."""
    return Client().run(
        image,
        ["python3", "/code/main.py"],
        files={"/code/main.py": code},
        input=data,
        workdir="/out",
        memory=MEMORY,
        timeout=SECONDS,
        outputs=["/out"],
        max_output=MAX_OUTPUT,
        max_files=MAX_FILES,
    )


def main() -> int:
    """Run a script and keep the files it made."""
    parser = argparse.ArgumentParser(description="Run a Python script in a VM.")
    parser.add_argument("--image", default="python:3-alpine")
    parser.add_argument("script", type=Path)
    parser.add_argument("output", type=Path, nargs="?", default=Path("out"))
    arguments = parser.parse_args()
    data = b"" if sys.stdin.isatty() else sys.stdin.buffer.read()
    try:
        result = run_untrusted(arguments.script.read_bytes(), data, arguments.image)
    except (HyperError, OSError) as error:
        print(f"untrusted_python: {error}", file=sys.stderr)
        return 125
    sys.stdout.buffer.write(result.stdout)
    sys.stderr.buffer.write(result.stderr)
    # The names are the script's choice: take them as data, never as places of this machine.
    arguments.output.mkdir(exist_ok=True)
    for number, (name, content) in enumerate(sorted(result.files.items()), 1):
        kept = arguments.output / str(number)
        kept.write_bytes(content)
        print(f"{name!r}: {len(content)} bytes, kept in {kept}", file=sys.stderr)
    if result.timed_out:
        print(f"untrusted_python: killed after {SECONDS:.0f} s", file=sys.stderr)
    return result.exit_code


if __name__ == "__main__":
    sys.exit(main())
