"""`runv`: the OCI runtime command, a drop-in for runc with a VM per container."""
