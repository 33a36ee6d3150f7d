"""Runs tests in a lab machine: `python -m lab kvm [ARGUMENTS OF PYTEST]`."""

import argparse
import os
import signal
import sys
import time

from .errors import LabError
from .labs import LABS
from .run import run


def main() -> int:
    """Returns the tests' exit code, and 125 when the lab itself failed."""
    parser = argparse.ArgumentParser(prog="lab", description=__doc__)
    parser.add_argument("lab", choices=sorted(LABS))
    parser.add_argument("--shell", action="store_true", help="run the lines of stdin instead")
    options, arguments = parser.parse_known_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    begin = time.monotonic()
    try:
        code = run(LABS[options.lab], arguments, shell=options.shell)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        code = 125
    except KeyboardInterrupt:
        print("lab: interrupted", file=sys.stderr)
        code = 130
    took, load = time.monotonic() - begin, " ".join(f"{n:.1f}" for n in os.getloadavg())
    print(f"lab {options.lab}: exit code {code} after {took:.0f} s (load {load})")
    return code


if __name__ == "__main__":
    sys.exit(main())
