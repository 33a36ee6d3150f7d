"""What holds for all tests."""

import signal


def pytest_configure() -> None:
    """Give programs that tests start ^C, which a suite in a shell's background has ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
