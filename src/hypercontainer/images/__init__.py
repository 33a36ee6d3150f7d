"""Container images: pulled from registries or loaded from archives, kept as disk images."""

from .auth import Auth
from .failures import AccessDenied, BadImage, RegistryError
from .model import Image, Layer
from .shared import ProgressFn
from .store import ImageStore

__all__ = [
    "AccessDenied",
    "Auth",
    "BadImage",
    "Image",
    "ImageStore",
    "Layer",
    "ProgressFn",
    "RegistryError",
]
