"""asyncio's loop as daemons want it."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a daemon's life in a loop that takes no thread for each child process.

    The loop is left open: asyncio kills what it started itself when that is collected.
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    if sys.version_info < (3, 12):
        # Later versions have it by default; that of 3.11 takes a thread for each child.
        watcher = asyncio.PidfdChildWatcher()
        watcher.attach_loop(loop)
        asyncio.get_event_loop_policy().set_child_watcher(watcher)
    loop.run_until_complete(main)
