"""Unpacking a layer's tar into a directory, in overlayfs' form, by `tar` as a child process.

What `tar` reads is the rewritten layer: each name once, below directories only, so nothing that a
layer holds makes it write elsewhere.
"""

import os
import shutil

from .failures import find_program
from .passage import Passage, Passed
from .tarstream import Entry

_OPTIONS = (
    "--extract --file=- --numeric-owner --same-owner --preserve-permissions --xattrs"
    " --xattrs-include=* --no-selinux --no-acls --warning=no-timestamp"
).split()


class Unpacking(Passage):
    """One layer on its way into an empty directory."""

    def run(self) -> Passed:
        """Read, rewrite, unpack; the directory is empty after an error.

        Raises BadImage, NoSpace, Timeout, NotSupported (no tar), Cancelled.
        """
        return self._pass()

    def _command(self, root: Entry) -> list[str]:
        if root.name:  # the layer says what its root is like
            os.chown(self._target, root.uid, root.gid)
            os.chmod(self._target, root.mode & 0o7777)
        return [find_program("tar", "tar"), *_OPTIONS, f"--directory={self._target}"]

    def _clear(self) -> None:
        for entry in os.scandir(self._target):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)
