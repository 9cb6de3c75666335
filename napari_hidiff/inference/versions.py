"""Versions of the software that a number depends on."""

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("napari-hidiff", "torch", "monai", "numpy")


def versions() -> dict[str, str]:
    """``{package: version}`` of Python and of the packages that decide a result."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    """``unknown`` for what is not installed, as this package where it runs from its sources."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
