"""Hypervisor drivers: each one module behind the interface of `driver`."""
