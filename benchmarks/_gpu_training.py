"""Images per second of training for :mod:`benchmarks.gpu`, on the bundled sample.

bare, N rounds  updates of refiner and segmentor on one batch that lies in memory, with up to N
                rounds of simulated strokes in half of them
ours, N rounds  the same with batches from the loader
kernels         as ``ours``, kernel by kernel: what recording gains
pretraining     updates of the segmentor alone, with batches from the loader
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

from benchmarks.training import recipe_of, sample_case
from napari_hidiff.inference.model import networks
from napari_hidiff.training.case_cache import Stored
from napari_hidiff.training.crops import Crops, batches
from napari_hidiff.training.device.graphs import own_stream
from napari_hidiff.training.device.updates import GradientStep, recorded
from napari_hidiff.training.learner import Learner, accelerator_for, real_type
from napari_hidiff.training.losses import to_device
from napari_hidiff.training.recipes import Recipe
from napari_hidiff.training.run import blank_card
from napari_hidiff.training.stages import Alternation, segmentor_loss

WARM_UP = {"cpu": 1, "cuda": 14}
"""Updates before the clock starts: a GPU records parts at their third call, and strokes come with
about every second update."""
MOST = 60
"""Updates of one measurement, at most."""
WAYS = (
    *(("ours", 4), ("kernels", 4), ("ours", 0), ("bare", 4), ("bare", 0)),
    *(("pretraining", 0), ("loader", 0)),
)
"""What is most wanted first: time may not suffice for all."""
Update = Callable[[list[dict[str, torch.Tensor]], int], object]


def measure(
    sizes: list[int], device: torch.device, seconds: float, end: float, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Every way for so many seconds, after a warm-up, until the clock shows ``end``.

    sizes : width, crop, batch.
    """
    rows = []
    for way, rounds in WAYS:
        row: dict[str, Any] = {"way": way, "rounds": rounds, "sizes": sizes}
        if time.perf_counter() > end:
            row["error"] = "no time was left for it"
        else:
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
    cuda, warm = device.type == "cuda", WARM_UP[device.type]
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    with tempfile.TemporaryDirectory() as name:
        dataset, case = sample_case(Path(name))
        update, groups, found = training(recipe, dataset, case, device, way)
        first = next(groups)
        done, begun = 0, time.perf_counter()
        start = begun
        while done < warm + 2 or (time.perf_counter() - start < seconds and done < MOST):
            if done == warm:
                wait(cuda)
                start = time.perf_counter()
            update(first if way == "bare" else next(groups), done + 1)
            done += 1
        wait(cuda)
        spent = time.perf_counter() - start
    found |= {
        "images_per_second": round(recipe.batch * (done - warm) / spent, 2),
        "iterations": done - warm,
        "warm_up_s": round(start - begun, 1),
        "workers": workers,
    }
    if cuda:
        found["peak_gb"] = round(torch.cuda.max_memory_allocated(device) / 1e9, 2)
    return found


def training(
    recipe: Recipe, dataset: Any, case: Stored, device: torch.device, way: str
) -> tuple[Update, Iterator[Any], dict[str, Any]]:
    """An update, the batches, and what is known of how it is done."""
    card = blank_card(recipe, dataset, "")
    groups = iter(batches(Crops([case], recipe, card, 100, refining=True), 0, MOST + 10))
    if way == "loader":
        return lambda group, number: None, groups, {}
    accelerator = accelerator_for(recipe, str(device))
    torch.manual_seed(0)
    segmentor, refiner = networks(card)
    torch.nn.init.normal_(refiner.head.weight, std=0.05)  # a zero head would save its backward
    captured = way != "kernels" and recorded(recipe, card, accelerator)
    shared = (1e-4, 1000, 1e-4, 0.99, accelerator)
    learners = [Learner(network, *shared, captured=captured) for network in (segmentor, refiner)]
    found = {"precision": accelerator.mixed_precision, "recorded": captured}
    if way != "pretraining":
        return Alternation(*learners, card, recipe, accelerator).iterate, groups, found
    step = GradientStep(learners[0], segmentor_loss(learners[0], card.outputs))

    def pretrain(group: list[dict[str, torch.Tensor]], number: int) -> None:
        with own_stream(device):
            moved = [to_device(batch, device, real_type(recipe)) for batch in group]
            step(((batch["image"], batch["truth"]) for batch in moved), len(group))

    return pretrain, groups, found


def wait(cuda: bool) -> None:
    if cuda:
        torch.cuda.synchronize()
