"""containerd's gRPC services, with every container in a virtual machine."""
