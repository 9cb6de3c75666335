"""Time and memory of work on a GPU, for :mod:`benchmarks.gpu`."""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

Found = dict[str, Any]


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def milliseconds(run: Callable[[int], object], device: torch.device, seconds: float) -> Found:
    """Of ``run(number)``: the first call, and the median and minimum of the further ones."""
    spent: list[float] = []
    end = time.perf_counter() + seconds
    while len(spent) < 4 or (time.perf_counter() < end and len(spent) < 40):
        wait(device)
        start = time.perf_counter()
        run(len(spent))
        wait(device)
        spent.append(1000 * (time.perf_counter() - start))
    rest = spent[2:]
    numbers = {"first_ms": spent[0], "median_ms": statistics.median(rest), "min_ms": min(rest)}
    return {name: float(f"{value:.4g}") for name, value in numbers.items()} | {"runs": len(rest)}


def left_out(arguments: argparse.Namespace, found: Found, name: str) -> bool:
    """Whether the time of this part is over, which is then noted under ``name``."""
    over = time.perf_counter() > arguments.end
    if over:
        found[name] = "no time was left for it"
    return over


def free(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
