"""Progress of a training run: on the terminal, as curves, as pictures, and as JSON lines.

``progress.jsonl`` in the run's folder has one JSON object per line:
``{"stage", "done", "total", "loss"}`` during a stage (at most five lines a second),
``{"stage": "validation", "iteration", "prior", "one-step", "refined", "painted", "corrected"}``,
and at the end ``{"stage": "stopped", "in", "iteration"}`` or ``{"stage": "finished", "model"}``.
"""

import errno
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from napari_hidiff.errors import refused

PACE = 0.2
"""Seconds between two lines about the same stage."""


class Stopped(KeyboardInterrupt):
    """A run stopped on request, with a checkpoint: ``--resume`` continues it."""


class Watch:
    """Progress bars on stderr, scalars and pictures for TensorBoard under ``folder/events``.

    Only one of several processes is ``shown``.
    """

    def __init__(self, folder: Path, shown: bool = True) -> None:
        self.console = Console(stderr=True, quiet=not shown)
        self.folder, self.shown = folder / "events", shown
        self.file = folder / "progress.jsonl"
        self.stopping = False
        """Whether the run must stop after the current iteration."""

    @cached_property
    def writer(self) -> SummaryWriter:
        """The writer, created on first use: a refused run leaves no folder."""
        threading.excepthook = _but_events(threading.excepthook)
        return SummaryWriter(str(self.folder))

    @contextmanager
    def progress(self, what: str, done: int, total: int | None) -> Iterator[Callable[..., None]]:
        """A bar from ``done`` to ``total``; yields ``advance(loss, total)``, one call a step, or
        ``advance(shown=...)`` for a word about what goes on within a step."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[shown]}"),
        )
        with Progress(*columns, console=self.console) as bar:
            task = bar.add_task(what, total=total, completed=done, shown="")
            count, last_line = done, 0.0

            def advance(
                loss: float | None = None, total: int | None = total, shown: str | None = None
            ) -> None:
                nonlocal count, last_line
                if shown is not None:
                    bar.update(task, shown=shown)
                    return
                count += 1
                if count == total or time.monotonic() - last_line >= PACE:
                    last_line = time.monotonic()
                    self.note(stage=what, done=count, total=total, loss=loss)
                said = "" if loss is None else f"loss {loss:.4f}"
                bar.update(task, advance=1, total=total, shown=said)

            yield advance

    def note(self, **facts: Any) -> None:
        """Write a line for programs, if the run has a folder."""
        if self.shown and self.file.parent.is_dir():
            _append(self.file, json.dumps(facts) + "\n")

    def stop_with_stdin(self) -> None:
        """Stop when standard input ends: the parent process closed it, or ended."""

        def listen() -> None:
            while os.read(sys.stdin.fileno(), 1):  # buffered, it would hold a lock at the end
                pass
            self.stopping = True

        threading.Thread(target=listen, daemon=True).start()

    def stopped(self, stage: str, iteration: int) -> NoReturn:
        """End the run, whose checkpoint is written."""
        self.note(stage="stopped", **{"in": stage}, iteration=iteration)
        self.say(f"stopped in {stage} at iteration {iteration}; --resume goes on from there")
        raise Stopped

    def say(self, line: str) -> None:
        """Print one line on the terminal."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def scalar(self, name: str, value: float, iteration: int) -> None:
        if self.shown:
            self.writer.add_scalar(name, value, iteration)

    def picture(self, name: str, rows: list[np.ndarray], iteration: int) -> None:
        """Maps [H, W] in [0, 1], side by side."""
        if self.shown:
            self.writer.add_image(name, np.concatenate(rows, 1), iteration, dataformats="HW")

    def close(self) -> None:
        """Write the curves that are not written yet; a line where the system refuses."""
        if "writer" in vars(self):
            try:
                self.writer.close()
            except OSError as error:
                self.say(f"{self.folder}: the last of the curves is lost: {refused(error)}")


def _append(path: Path, line: str) -> None:
    """Append a line completely or, with an OSError, not at all: no line is left half."""
    data = line.encode()
    with path.open("ab", buffering=0) as file:
        end = file.tell()
        try:
            if file.write(data) < len(data):  # a full disk
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        except OSError:
            file.truncate(end)
            raise


def _but_events(hook: Callable[..., Any]) -> Callable[..., Any]:
    """An exception hook for threads, without tracebacks of TensorBoard's writer: its OSError is
    raised again with the next event, and ends the run with one line."""

    def report(error: threading.ExceptHookArgs) -> None:
        events = type(error.thread).__module__.startswith("tensorboard")
        if not (events and isinstance(error.exc_value, OSError)):
            hook(error)

    return report
