"""containerd's doors: runv-containerd and the shim v2 (not yet)."""
