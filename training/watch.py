"""What a training run shows and leaves behind: progress on the terminal, curves, pictures."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter


class Watch:
    """Progress bars on stderr, scalars and pictures for TensorBoard under ``folder/events``."""

    def __init__(self, folder: Path) -> None:
        self.console = Console(stderr=True)
        self.writer = SummaryWriter(str(folder / "events"))

    @contextmanager
    def progress(self, what: str, done: int, total: int) -> Iterator[Callable[..., None]]:
        """A bar from ``done`` to ``total``; yields ``advance(loss=...)``, one call an iteration."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("loss {task.fields[loss]:.4f}"),
        )
        with Progress(*columns, console=self.console) as bar:
            task = bar.add_task(what, total=total, completed=done, loss=float("nan"))

            def advance(loss: float) -> None:
                bar.update(task, advance=1, loss=loss)

            yield advance

    def say(self, line: str) -> None:
        """One line for the person who watches."""
        self.console.print(line, highlight=False)

    def scalar(self, name: str, value: float, iteration: int) -> None:
        self.writer.add_scalar(name, value, iteration)

    def picture(self, name: str, rows: list[np.ndarray], iteration: int) -> None:
        """Maps [H, W] in [0, 1], side by side."""
        self.writer.add_image(name, np.concatenate(rows, 1), iteration, dataformats="HW")

    def close(self) -> None:
        self.writer.close()
