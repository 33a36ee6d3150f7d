"""Ends hyperd now and then, and starts it again."""

import random
import signal
import threading
import time

from tests.e2e.hyperd_process import Hyperd

_PAUSE = (4.0, 15.0)


class Killer(threading.Thread):
    """Mostly by SIGKILL; `kills` counts. What went wrong is in `problems`."""

    def __init__(self, hyperd: Hyperd, moments: random.Random) -> None:
        super().__init__(name="killer", daemon=True)
        self.kills = 0
        self.problems: list[str] = []
        self._hyperd = hyperd
        self._moments = moments
        self._end = threading.Event()

    def run(self) -> None:
        """Until `stop`; hyperd runs afterwards."""
        while not self._end.wait(self._moments.uniform(*_PAUSE)):
            signum = signal.SIGKILL if self._moments.random() < 0.8 else signal.SIGTERM
            try:
                code = self._hyperd.end(signum)
                if signum == signal.SIGTERM and code != 0:
                    self.problems.append(f"hyperd ended with {code} at SIGTERM")
                self.kills += 1
                time.sleep(self._moments.choice((0.0, 0.0, 1.5)))
                self._hyperd.start()
            except (AssertionError, OSError) as error:
                self.problems.append(f"hyperd did not come back: {error}")
                return

    def stop(self) -> None:
        """No more of it."""
        self._end.set()
        self.join(timeout=90)
