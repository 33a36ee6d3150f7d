"""Bounds of what is taken from a container, which is not trusted."""

MAX_OUTPUT = 16 << 20
"""Bytes that are kept of each of stdout and stderr."""
MAX_BYTES = 64 << 20
"""Bytes of files that are got back."""
MAX_FILES = 10_000
"""Files and directories that are got back."""
