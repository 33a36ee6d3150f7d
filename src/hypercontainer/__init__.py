"""HyperContainer: container images in small virtual machines of their own."""

__version__ = "0.1.0"
