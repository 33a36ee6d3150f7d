"""Named and anonymous volumes, and checks of what else is mounted into containers."""

from .model import Volume
from .store import VolumeStore

__all__ = ["Volume", "VolumeStore"]
