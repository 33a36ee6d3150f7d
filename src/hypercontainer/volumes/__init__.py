"""Volumes by driver: not yet; `pods` binds host directories and keeps named ones."""
