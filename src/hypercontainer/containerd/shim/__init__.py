"""containerd-shim-runv-v2: the process by which containerd runs containers in VMs.

One serves one container, or the containers of one pod, which share a VM. It stands on `oci`, whose
records tell `delete` what a killed one has left; streams go past it, from the sandbox process to
the FIFOs themselves.
"""
