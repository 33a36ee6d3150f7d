"""Measurements: `make bench`, or `python -m bench [NAME…]`; see docs/performance.md."""
