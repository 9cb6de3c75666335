"""What experiments print for people, as text."""

from io import StringIO
from typing import Any

from rich.console import Console

from napari_hidiff.training.evaluate.experiments import EXPERIMENTS


def shown(name: str, content: dict[str, Any]) -> str:
    """The console's text for the object of an experiment, with what every object begins with."""
    first = {"model": "tiny", "dataset": "x", "split": "test", "seeds": [0], "engine": ["torch"]}
    first |= {"n": len(content["images"]), "notes": [], "title": EXPERIMENTS[name].title}
    console = Console(file=StringIO(), width=160)
    EXPERIMENTS[name].print(first | content, console)
    return console.file.getvalue()  # type: ignore[attr-defined]
