"""The soak test: `python -m tests.soak`, or `make soak`."""
