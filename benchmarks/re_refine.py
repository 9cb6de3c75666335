"""``python -m benchmarks.re_refine``: from a stroke to the refined mask, as an annotator waits.

The bundled sample (999 x 960) is segmented and refined once with the model; that is not timed. Then
strokes correct places where the mask differs from the truth, each in a session of its own in that
same state. Timed is all that happens between a stroke and the new mask, on the clock on the wall:
the session takes the stroke, fixes its pixels and starts a run, the model takes its steps, the
guards drop what they do not allow, and the mask is written. The plugin drives a session alike.

whole   the steps go over the whole image
local   the guards keep changes within 3 pixels of the stroke, and only its surroundings are
        computed (a tile of 256 x 256 pixels or a few)

For every stroke all ways and engines take their turn. A way that has taken ``--limit`` seconds has
no further turns. How far a local result is from the whole-image one is measured within 48 pixels
of the stroke, where nothing is faded. The second model is an untrained one of the paper's width,
128, on a crop of 512 x 512 pixels; its times are as good as those of a trained one.

``start`` is what a program's first and second start take, each in a process of its own: with an
empty cache of compiled kernels, and with what the first one left there.

With ``--output`` the JSON is merged into the file, so that it may be made in parts.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer

from benchmarks._packed import digits, machine, numbers, print_table, untrained, write
from napari_hidiff import load_model
from napari_hidiff.annotation.constraints import MARGIN, REACH, Guards, around
from napari_hidiff.annotation.session import Prior, Session
from napari_hidiff.cli.console import JsonOption, print_json
from napari_hidiff.diffusion.samplers import Step
from napari_hidiff.engine.engine import Engine
from napari_hidiff.inference import denoiser
from napari_hidiff.inference.card import LOCAL
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.io.images import sample
from napari_hidiff.masks import FREE

ENGINES = ("packed", "torch")
RADIUS = 4
"""Of the brush, in pixels."""
FEWEST = 10
"""Wrong pixels under the brush that make a place worth a stroke."""
CROP = 512
PAPER_WIDTH = 128

START = """
import json, sys, time
begin = time.perf_counter()
import napari_hidiff
from napari_hidiff.io import sample
imported = time.perf_counter()
model = napari_hidiff.load_model(sys.argv[1], device="cpu", engine="packed", prepare=False)
loaded = time.perf_counter()
model.backend.prepare()
ready = time.perf_counter()
assert model.refine(sample()[0], sampler="one-step").engine == "packed"
done = time.perf_counter()
moments = [begin, imported, loaded, ready, done]
names = ["import_s", "load_s", "kernels_s", "first_refinement_s"]
print(json.dumps({n: round(b - a, 2) for n, a, b in zip(names, moments, moments[1:])}))
"""


class Way(NamedTuple):
    """How a stroke is answered: an engine, a sampler, and whether only around the stroke.

    anew : as if nothing were kept of what prior and edits made of the image before the stroke.
    """

    engine: str
    sampler: str
    near: bool
    anew: bool = False

    @property
    def name(self) -> str:
        """As a row of the table."""
        steps = "one step" if self.sampler == "one-step" else "10 steps"
        place = "local" if self.near else "whole"
        return f"{self.engine}, {steps}, {place}{', nothing kept' if self.anew else ''}"


WAYS = tuple(
    Way(engine, sampler, near, anew)
    for sampler, near, anew in (
        ("one-step", False, False),
        ("one-step", False, True),
        ("one-step", True, False),
        ("ddim", False, False),
    )
    for engine in ENGINES
)


@dataclass
class Spent:
    """Seconds of every answer of one way: on the wall, and of the processor in this thread."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def summary(self, threads: int) -> dict[str, float]:
        """Milliseconds: median, 95th percentile, minimum; processor time where one thread runs."""
        wall = 1000 * np.array(self.wall)
        found = {
            "median_ms": digits(float(np.median(wall))),
            "p95_ms": digits(float(np.percentile(wall, 95))),
            "min_ms": digits(float(wall.min())),
            "runs": len(wall),
        }
        if threads == 1:
            found["median_processor_ms"] = digits(1000 * float(np.median(self.processor)))
        return found


class Bench:
    """An image under annotation, segmented and refined once.

    plane : uint8 [H, W, 3]; truth : uint8 [H, W].
    """

    def __init__(self, model: HiDiff, plane: np.ndarray, truth: np.ndarray) -> None:
        self.model, self.plane, self.truth = model, plane, truth
        self.engines = {name: Engine(model.refiner, model.device, name) for name in ENGINES}
        for engine in self.engines.values():
            engine.prepare()
        model.backend = self.engines["packed"]
        probability = model.prior(plane)
        self.prior = Prior(probability, probability, model.mask_of(probability))
        self.first = model.refine(plane, probability, sampler="one-step").steps[-1]

    def strokes(self, count: int, seed: int = 0) -> list[np.ndarray]:
        """Corrections int32 [H, W] (FREE off the stroke): brushes on errors, apart if possible."""
        wrong = self.first.mask != self.truth
        rows, columns = np.indices(wrong.shape)
        spots = np.random.default_rng(seed).permutation(np.argwhere(wrong))
        found: list[np.ndarray] = []
        for y, x in spots:
            under = ((rows - y) ** 2 + (columns - x) ** 2 <= RADIUS**2) & wrong
            if len(found) < count and under.sum() >= FEWEST:
                found.append(np.where(under, self.truth.astype(np.int32), FREE))
        return found

    def session(self) -> Session:
        """As after the first refinement of the whole image, before any stroke."""
        session = Session(np.zeros_like(self.prior.mask))
        session.prior = self.prior
        session.wrote(self.prior.mask)
        session.start(1, self.model.labels)
        session.add_step(self.first.mask, self.first.probability)
        session.wrote(session.view(1), 1)
        return session

    def answer(self, way: Way, stroke: np.ndarray, spent: Spent) -> Step:
        """Paint a stroke and refine; the last step."""
        session, model = self.session(), self.model
        denoiser.trim_cache(denoiser.REMEMBERED)  # what another way made of this very stroke
        if not way.anew:
            model.backend = self.engines["packed"]
            model.refine(self.plane, self.prior.given, sampler="one-step")
        model.backend = self.engines[way.engine]
        wall, processor = time.perf_counter(), time.thread_time()
        timeline = session.timeline
        painted = np.where(stroke != FREE, stroke, timeline.content)
        timeline.painted(painted.astype(timeline.content.dtype))
        timeline.confirm(np.flatnonzero(stroke != FREE))
        total = 1 if way.sampler == "one-step" else model.process.steps
        guards = Guards(near=REACH if way.near else None, margin=MARGIN)  # as in the plugin
        run = session.start(total, model.labels, guards)
        for step in model.steps(
            self.plane,
            self.prior.given,
            run.fixed,
            sampler=way.sampler,
            steps=model.process.steps,
            samples=1,
            local=run.local,
        ):
            session.add_step(step.mask, step.probability)
        session.wrote(session.view(run.steps), run.steps)
        spent.wall.append(time.perf_counter() - wall)
        spent.processor.append(time.thread_time() - processor)
        assert step.engine == way.engine, f"{way.engine} was asked for, {step.engine} ran"
        return step


def latencies(
    bench: Bench, strokes: list[np.ndarray], ways: list[Way], threads: int, limit: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Milliseconds of every way, and how far local results are from whole ones."""
    torch.set_num_threads(threads)
    spent = {way: Spent() for way in ways}
    for way in ways:  # the first answer of each pays for memory that later ones use again
        if way.sampler == "one-step":
            bench.answer(way, strokes[0], Spent())
    distances: list[dict[str, float]] = []
    for stroke in strokes:
        steps = {
            way: bench.answer(way, stroke, spent[way])
            for way in ways
            if sum(spent[way].wall) < limit
        }
        whole, local = (steps.get(Way("packed", "one-step", near)) for near in (False, True))
        if whole is not None and local is not None:
            distances.append(distance(whole, local, stroke))
    times = {way.name: each.summary(threads) for way, each in spent.items()}
    return times, deviation(distances)


def distance(whole: Step, local: Step, stroke: np.ndarray) -> dict[str, float]:
    """How far two steps differ within the reach of a stroke: in probability, and in pixels."""
    near = around(stroke != FREE, LOCAL["reach"])
    return {
        "probability": float(np.abs(whole.probability - local.probability)[:, near].mean()),
        "differ": int((whole.mask != local.mask)[near].sum()),
        "foreground": int((whole.mask > 0)[near].sum()),
        "pixels": int(near.sum()),
    }


def deviation(found: list[dict[str, float]]) -> dict[str, Any]:
    """Over all strokes: means, and the worst stroke; shares are of pixels, 0..1."""
    if not found:
        return {"strokes": 0}
    total = {key: sum(one[key] for one in found) for key in found[0]}
    return {
        "strokes": len(found),
        "within_pixels": LOCAL["reach"],
        "mean_absolute_difference_of_probability": digits(total["probability"] / len(found), 3),
        "worst_mean_absolute_difference": digits(max(one["probability"] for one in found), 3),
        "pixels": total["pixels"],
        "pixels_that_differ": total["differ"],
        "share_of_pixels": digits(total["differ"] / total["pixels"], 3),
        "share_of_mask_pixels": digits(total["differ"] / max(1, total["foreground"]), 3),
        "worst_share_of_pixels": digits(max(one["differ"] / one["pixels"] for one in found), 3),
    }


def measure(
    bench: Bench, ways: list[Way], repeats: int, threads: list[int], limit: float
) -> dict[str, Any]:
    """All thread counts, and the deviation over as many strokes as had their turn."""
    strokes = bench.strokes(repeats)
    found: dict[str, Any] = {}
    most: dict[str, Any] = {"strokes": 0}
    for count in threads:
        times, far = latencies(bench, strokes, ways, count, limit)
        found[f"threads {count}"] = times
        most = max(most, far, key=lambda one: one["strokes"])
    return found | ({"local_against_whole": most} if most["strokes"] else {})


def starts(model: str) -> dict[str, Any]:
    """Seconds of the parts of a first start and of a second."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"NUMBA_CACHE_DIR": cache}
        command = [sys.executable, "-c", START, model]
        return {
            name: json.loads(subprocess.check_output(command, env=environment))
            for name in ("first", "second")
        }


def show(found: dict[str, Any]) -> None:
    """Tables of latencies, and the rest as lines."""
    for name, entry in found["models"].items():
        rows: list[list[object]] = []
        for threads, times in entry.items():
            if threads.startswith("threads"):
                rows += [[f"{way}, {threads}", *_cells(times[way])] for way in times]
        columns = ["way", "median ms", "95 % ms", "min ms", "runs", "processor ms"]
        print_table(f"Stroke to mask, {name}", columns, rows)
        print(f"local against whole: {json.dumps(entry.get('local_against_whole'))}\n")
    if "start" in found:
        print(f"start: {json.dumps(found['start'])}")


def _cells(times: dict[str, float]) -> list[object]:
    keys = ("median_ms", "p95_ms", "min_ms", "runs", "median_processor_ms")
    return [times.get(key) for key in keys]


def main(
    model: Annotated[str, typer.Option(help="A bundled model; '' for none.")] = "chase-vessels",
    paper: Annotated[bool, typer.Option(help="The untrained model of width 128.")] = True,
    width: Annotated[int, typer.Option(help="Of the untrained model.")] = PAPER_WIDTH,
    crop: Annotated[int, typer.Option(help="Pixels of a side for the untrained model.")] = CROP,
    engines: Annotated[str, typer.Option(help="packed, torch.")] = ",".join(ENGINES),
    start: Annotated[bool, typer.Option(help="The first and the second start.")] = True,
    repeats: Annotated[int, typer.Option(help="Strokes.")] = 20,
    limit: Annotated[float, typer.Option(help="Seconds after which a way has no turns.")] = 40,
    threads: Annotated[str, typer.Option(help="Numbers of threads, with commas.")] = "1,2",
    as_json: JsonOption = False,
    output: Annotated[Path | None, typer.Option(help="JSON to write or to add to.")] = None,
) -> None:
    """Measure on the CPU of this machine."""
    counts, wanted = numbers(threads), engines.split(",")
    ways = [way for way in WAYS if way.engine in wanted]
    torch.set_num_threads(max(counts))
    image, truth = sample()
    found: dict[str, Any] = {"machine": machine(counts), "models": {}}
    if model:
        bench = Bench(load_model(model, device="cpu", engine="torch"), image, truth)
        name = f"{model}, {image.shape[1]} x {image.shape[0]}"
        found["models"][name] = measure(bench, ways, repeats, counts, limit)
        write(output, found)
    if paper:
        middle = tuple(slice((side - crop) // 2, (side + crop) // 2) for side in truth.shape)
        bench = Bench(untrained(width, 1), image[middle], truth[middle])
        name = f"untrained, width {width}, {crop} x {crop}"
        found["models"][name] = measure(bench, ways, repeats, counts, limit)
        write(output, found)
    if start:
        found["start"] = starts(model or "chase-vessels")
    write(output, found)
    if as_json:
        print_json(found)
    else:
        show(found)


if __name__ == "__main__":
    typer.run(main)
