"""Files that other processes read while they change."""

import os


def write_atomic(path: str, data: bytes, mode: int = 0o600) -> None:
    """Replace `path` by `data` in one step; readers see the old or the new content, whole."""
    temporary = f"{path}.{os.getpid()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def remove_tree(path: str) -> None:
    """Remove a directory and what is in it, as far as that is possible.

    As `shutil.rmtree` with errors ignored, whose module takes longer to import than this to run.
    """
    try:
        entries = list(os.scandir(path))
    except OSError:
        return
    for entry in entries:
        try:
            if entry.is_dir(follow_symlinks=False):
                remove_tree(entry.path)
            else:
                os.unlink(entry.path)
        except OSError:
            continue
    try:
        os.rmdir(path)
    except OSError:
        return
