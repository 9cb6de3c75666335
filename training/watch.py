"""What a training run shows and leaves behind: progress on the terminal, curves, pictures."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter


class Watch:
    """Progress bars on stderr, scalars and pictures for TensorBoard under ``folder/events``.

    Of several processes one is ``shown``; the others are silent.
    """

    def __init__(self, folder: Path, shown: bool = True) -> None:
        self.console = Console(stderr=True, quiet=not shown)
        self.folder, self.shown = folder / "events", shown

    @cached_property
    def writer(self) -> SummaryWriter:
        """Made when there is something to write: a refused run leaves no folder behind."""
        return SummaryWriter(str(self.folder))

    @contextmanager
    def progress(self, what: str, done: int, total: int | None) -> Iterator[Callable[..., None]]:
        """A bar from ``done`` to ``total``; yields ``advance(loss, total)``, one call a step."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[shown]}"),
        )
        with Progress(*columns, console=self.console) as bar:
            task = bar.add_task(what, total=total, completed=done, shown="")

            def advance(loss: float | None = None, total: int | None = total) -> None:
                shown = "" if loss is None else f"loss {loss:.4f}"
                bar.update(task, advance=1, total=total, shown=shown)

            yield advance

    def say(self, line: str) -> None:
        """One line for the person who watches."""
        self.console.print(line, highlight=False)

    def scalar(self, name: str, value: float, iteration: int) -> None:
        if self.shown:
            self.writer.add_scalar(name, value, iteration)

    def picture(self, name: str, rows: list[np.ndarray], iteration: int) -> None:
        """Maps [H, W] in [0, 1], side by side."""
        if self.shown:
            self.writer.add_image(name, np.concatenate(rows, 1), iteration, dataformats="HW")

    def close(self) -> None:
        if "writer" in vars(self):
            self.writer.close()
