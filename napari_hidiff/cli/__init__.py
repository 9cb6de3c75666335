"""The commands. Entry points import their modules only when they are called."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name in ("main", "refine_main"):
        from napari_hidiff.cli import app

        return getattr(app, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
