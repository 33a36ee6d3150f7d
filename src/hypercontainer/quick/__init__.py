"""What commands that start anew for each call use in the place of modules that cost them too much.

`runv create`, `start` and `exec` run for tens of milliseconds, of which importing typing, json,
re, enum, socket and argparse took half (docs/performance.md). Each module here has the part of
one of these that such commands need, made of the same C modules, and hands over to the real
one for whatever is out of the ordinary. Other programs have no reason to use them.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as signals
else:
    # Its numbers, and what sets a handler, without enumerations.
    import _signal as signals

__all__ = ["signals"]
