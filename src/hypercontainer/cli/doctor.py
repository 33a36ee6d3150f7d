"""`hyper doctor`: what this machine can do, each point with a verdict and a remedy.

Nothing is changed on the way: no mode of a device, no module loaded. The one
thing that runs is a guest under KVM, whose verdict is kept for the boot.
"""

from __future__ import annotations

from .output import print_json, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from .arguments import Parser
    from .session import Session

_MARK = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


def configure_doctor(parser: Parser) -> None:
    """Options of `doctor`."""
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")


def command_doctor(session: Session, args: argparse.Namespace) -> int:
    """`hyper doctor`: 0 if a container can run here, else 1."""
    from .checks import all_checks

    found = []
    for check in all_checks(session):
        found.append(check)
        if not args.json:
            show(f"{_MARK[check.verdict]}  {check.name:12}{check.message}")
            if check.remedy:
                show(f"{'':18}-> {check.remedy}")
    able = all(check.verdict != "fail" for check in found)
    if args.json:
        print_json(
            {
                "can_run": able,
                "checks": [
                    {
                        "name": check.name,
                        "verdict": check.verdict,
                        "message": check.message,
                        "remedy": check.remedy,
                    }
                    for check in found
                ],
            }
        )
    else:
        show()
        show("containers can run here" if able else "containers can't run here: see FAIL above")
    return 0 if able else 1
