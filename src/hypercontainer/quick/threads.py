"""A thread for one piece of work, by `_thread` alone."""

from _thread import allocate_lock, start_new_thread

from .types import Callable, T


def start(work: Callable[[], T]) -> Callable[[], T]:
    """Run `work` in a thread; what is returned waits for it, and gives or raises what it did."""
    finished = allocate_lock()
    finished.acquire()
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)
        finally:
            finished.release()

    def join() -> T:
        with finished:
            if errors:
                raise errors[0]
            return results[0]

    start_new_thread(run, ())
    return join
