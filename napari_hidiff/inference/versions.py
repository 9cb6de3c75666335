"""Versions of the software that a number depends on."""

import platform
from importlib.metadata import version

PACKAGES = ("napari-hidiff", "torch", "monai", "numpy")


def versions() -> dict[str, str]:
    """``{package: version}`` of Python and of the packages that decide a result."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
