"""Images per second of refiner training for :mod:`benchmarks.gpu`, on the bundled sample.

bare, N rounds  iterations on one batch that lies in memory, with N rounds of simulated strokes
ours, N rounds  the same with batches from the loader
loader          batches alone, no network
"""

import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.training import WARM_UP, recipe_of, sample_case
from napari_hidiff.inference.model import networks
from napari_hidiff.training.case_cache import Stored
from napari_hidiff.training.crops import Crops, batches
from napari_hidiff.training.learner import Learner, accelerator_for
from napari_hidiff.training.recipes import Recipe
from napari_hidiff.training.run import blank_card
from napari_hidiff.training.stages import Alternation

MOST = 60
"""Iterations of one measurement."""
ROUNDS = (0, 4)


def measure(
    sizes: list[int], device: torch.device, seconds: float, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Every way for so many seconds, after a warm-up; sizes : width, crop, batch."""
    rows = []
    ways = [(way, rounds) for rounds in ROUNDS for way in ("bare", "ours")]
    for way, rounds in [*ways, ("loader", 0)]:
        row: dict[str, Any] = {"way": way, "rounds": rounds, "sizes": sizes}
        try:
            row |= one(way, rounds, sizes, device, seconds)
        except Exception as error:
            row["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
        say(f"training {json.dumps(row)}")
        rows.append(row)
    return rows


def one(
    way: str, rounds: int, sizes: list[int], device: torch.device, seconds: float
) -> dict[str, Any]:
    """Images per second of one way."""
    workers = max(1, min(8, (os.cpu_count() or 1) - 1))
    recipe = dataclasses.replace(recipe_of("ours", *sizes), rounds=rounds, workers=workers)
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    with tempfile.TemporaryDirectory() as name:
        dataset, case = sample_case(Path(name))
        pair, groups = training(recipe, dataset, case, device, way)
        first = next(groups)
        done, start = 0, time.perf_counter()
        while done < WARM_UP + 2 or (time.perf_counter() - start < seconds and done < MOST):
            if done == WARM_UP:
                wait(cuda)
                start = time.perf_counter()
            group = first if way == "bare" else next(groups)
            if pair is not None:
                pair.iterate(group, done + 1)
            done += 1
        wait(cuda)
        spent = time.perf_counter() - start
    found = {
        "images_per_second": round(recipe.batch * (done - WARM_UP) / spent, 2),
        "iterations": done - WARM_UP,
        "workers": workers,
    }
    if pair is not None:
        found["precision"] = pair.accelerator.mixed_precision
    if cuda:
        found["peak_gb"] = round(torch.cuda.max_memory_allocated(device) / 1e9, 2)
    return found


def training(
    recipe: Recipe, dataset: Any, case: Stored, device: torch.device, way: str
) -> tuple[Alternation | None, Iterator[Any]]:
    """The two networks in training, unless only the loader is asked for, and the batches."""
    card = blank_card(recipe, dataset, "")
    groups = iter(batches(Crops([case], recipe, card, 100, refining=True), 0, MOST + 10))
    if way == "loader":
        return None, groups
    accelerator = accelerator_for(recipe, str(device))
    torch.manual_seed(0)
    segmentor, refiner = networks(card)
    torch.nn.init.normal_(refiner.head.weight, std=0.05)  # a zero head would save its backward
    shared = (1e-4, 0.99, accelerator)
    learners = (Learner(network, 1e-4, 1000, *shared) for network in (segmentor, refiner))
    return Alternation(*learners, card, recipe, accelerator), groups


def wait(cuda: bool) -> None:
    if cuda:
        torch.cuda.synchronize()
