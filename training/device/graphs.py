"""Work of a GPU recorded once and replayed: a CUDA graph per kind of arguments.

An update of a small network is a thousand small kernels. Python starts them one by one, more slowly
than a GPU computes them; a graph starts them all at once.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor

WARM = 2
"""Calls of a kind that run as they are: libraries choose their kernels and reserve memory there."""

Argument = Tensor | None


class Captured:
    """A function of tensors, which a GPU replays; on other devices the function itself.

    function : of tensors or None; its results are tensors, in any structure. It must not wait for
        the device, and what it reads beside its arguments must stay at its place in memory.
    device : where it runs. On a GPU calls belong inside :func:`own_stream`.
    generator : of its random numbers; None for that of the device.
    replays : whether a GPU records it at all.

    Results of a replay hold until the next call with arguments of the same kind.

    Attributes
    ----------
    note : why recording failed, one line, or empty.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        device: torch.device,
        generator: torch.Generator | None = None,
        replays: bool = True,
    ) -> None:
        self.function, self.generator, self.note = function, generator, ""
        self.replays = replays and device.type == "cuda"
        self._graphs: dict[Any, _Graph] = {}
        self._calls: dict[Any, int] = {}

    def __call__(self, *arguments: Argument) -> Any:
        if not self.replays:
            return self.function(*arguments)
        key = tuple(None if x is None else (x.shape, x.stride(), x.dtype) for x in arguments)
        if key not in self._graphs:
            self._calls[key] = self._calls.get(key, 0) + 1
            if self._calls[key] <= WARM:
                return self.function(*arguments)
            try:
                self._graphs[key] = _Graph(self.function, arguments, self.generator)
            except RuntimeError as error:
                reason = str(error).strip().splitlines()[0]
                self.note = f"{self.function.__name__} runs kernel by kernel: {reason}"
                self.replays = False
                return self.function(*arguments)
        return self._graphs[key](arguments)


class _Graph:
    """One recording, with the memory of its arguments and results."""

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: tuple[Argument, ...],
        generator: torch.Generator | None,
    ) -> None:
        self.arguments = tuple(None if x is None else x.clone() for x in arguments)
        self.graph = torch.cuda.CUDAGraph()
        if generator is not None:
            self.graph.register_generator_state(generator)
        # Gradients are added up on the stream that made them, so all runs on the present one.
        # The thread that pins batches in memory may go on meanwhile.
        stream = torch.cuda.current_stream()
        with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
            self.results = function(*self.arguments)

    def __call__(self, arguments: tuple[Argument, ...]) -> Any:
        for mine, new in zip(self.arguments, arguments, strict=True):
            if mine is not None and new is not None:
                mine.copy_(new, non_blocking=True)
        self.graph.replay()
        return self.results


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """A GPU does what is asked inside on one stream, always the same, as recording needs: after
    all that was asked before, and before all that is asked later."""
    if device.type != "cuda":
        yield
        return
    outer, stream = torch.cuda.current_stream(device), _stream(device)
    stream.wait_stream(outer)
    with torch.cuda.stream(stream):
        yield
    outer.wait_stream(stream)


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
