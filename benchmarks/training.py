"""How fast is a refiner trained, against a plain loop and against the bare computation?

    python -m benchmarks.training [--widths 32 64] [--size 256] [--batch 4] [--iterations 8]
        [--rounds 3] [--device auto] [--json]

Images per second and peak memory of these ways to train on the bundled sample, each in a process
of its own, the ways taking turns within a round; medians over rounds:

plain      the loop that published code shows: in fp32, NCHW, both networks are updated in every
           iteration, so the refiner goes forward twice and the segmentor twice
ours       the recipe as the command runs it: crops from the loader, the device's precision,
           channels last, a segmentor update after every fourth refiner update
bare       the computation of ``ours`` on one batch that lies in memory: what a loader must feed
same       ``ours`` with as many updates as ``plain`` (a segmentor update in every iteration)
same fp32  the same in fp32

plain and bare get their batches for nothing, ours and same cut theirs.
"""

import argparse
import dataclasses
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from napari_hidiff.inference.card import versions
from napari_hidiff.inference.model import networks
from napari_hidiff.io.images import SAMPLE
from napari_hidiff.networks.refiner import probabilities
from napari_hidiff.training import case_cache
from napari_hidiff.training.crops import Crops, batches
from napari_hidiff.training.datasets import Case, Dataset
from napari_hidiff.training.datasets.base import RGB
from napari_hidiff.training.device.updates import recorded
from napari_hidiff.training.evaluate.report import hardware
from napari_hidiff.training.learner import Learner, accelerator_for
from napari_hidiff.training.losses import draw, one_hot
from napari_hidiff.training.recipes import RECIPES, SIZES, Recipe
from napari_hidiff.training.run import blank_card
from napari_hidiff.training.stages import Alternation

WARM_UP = 3
WAYS = ("plain", "ours", "bare", "same", "same fp32")


def sample_case(folder: Path) -> tuple[Dataset, case_cache.Stored]:
    """The bundled sample as a data set of one case, with a prior."""
    with as_file(files("napari_hidiff") / "samples") as samples:
        image, mask = samples / f"{SAMPLE}.jpg", samples / f"{SAMPLE}_1stHO.png"
        case = Case(SAMPLE, SAMPLE, (image,), mask)
        splits = {"train": (case,), "val": (), "test": ()}
        classes, colors = ("background", "vessel"), ("#000000", "#00d0ff")
        dataset = Dataset("chase", classes, RGB, colors, "", "", splits)
        stored = case_cache.put(dataset, case, folder)
    prior = folder / "prior.npy"
    case_cache.save_array(prior, 0.1 + 0.8 * stored.truth[:, None].astype("float16"))
    return dataset, dataclasses.replace(stored, prior_file=prior)


def recipe_of(way: str, width: int, size: int, batch: int) -> Recipe:
    """The quick recipe with the sizes asked for."""
    quick = dataclasses.replace(RECIPES["chase"], **SIZES["quick"])
    sizes = {"width": width, "crop": size, "batch": batch}
    recipe = dataclasses.replace(quick, segmentor_every=4, rounds=0, **sizes)
    if way in ("plain", "same fp32"):
        recipe = dataclasses.replace(recipe, precision="fp32")
    if way in ("same", "same fp32"):
        recipe = dataclasses.replace(recipe, segmentor_every=1)
    return recipe


def measure(way: str, width: int, size: int, batch: int, count: int, device: str) -> dict[str, Any]:
    """Images per second and peak memory (bytes) of ``count`` iterations after a warm-up."""
    recipe = recipe_of(way, width, size, batch)
    with tempfile.TemporaryDirectory() as name:
        dataset, case = sample_case(Path(name))
        card = blank_card(recipe, dataset, "")
        accelerator = accelerator_for(recipe, device)
        torch.manual_seed(0)
        segmentor, refiner = networks(card)
        torch.nn.init.normal_(refiner.head.weight, std=0.05)  # a zero head would save its backward
        captured = way != "plain" and recorded(recipe, card, accelerator)
        shared = (1e-4, 1000, 1e-4, 0.99, accelerator)
        pair = Alternation(
            Learner(segmentor, *shared, captured=captured),
            Learner(refiner, *shared, captured=captured),
            card,
            recipe,
            accelerator,
        )
        if way == "plain":
            for learner in (pair.segmentor, pair.refiner):
                learner.plain.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        crops = Crops([case], recipe, card, 100, refining=True)
        groups = iter(batches(crops, 0, WARM_UP + count))
        group = next(groups)
        for iteration in range(1, WARM_UP + count):
            if iteration == WARM_UP:
                start = time.perf_counter()
            if way == "plain":
                plain_iteration(pair, group[0])
            else:
                pair.iterate(group if way == "bare" else next(groups), iteration)
        if accelerator.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if accelerator.device.type == "cuda":
            memory = torch.cuda.max_memory_allocated()
        where, precision = hardware(accelerator.device), accelerator.mixed_precision
    images = batch * count / seconds
    return {"images_per_second": images, "bytes": memory, "hardware": where, "precision": precision}


def plain_iteration(pair: Alternation, batch: dict[str, torch.Tensor]) -> None:
    """Refiner update, then segmentor update, each with forwards of its own, fp32 and NCHW."""
    device = pair.accelerator.device
    image, truth = batch["image"].to(device).contiguous(), batch["truth"].to(device)
    y0, free = one_hot(truth, pair.classes), torch.full_like(truth, -1)
    numbers = batch["number"].to(device)
    segmentor, refiner = pair.segmentor, pair.refiner
    for learner, frozen in ((refiner, segmentor), (segmentor, refiner)):
        learner.plain.train()
        frozen.plain.eval()
        with torch.set_grad_enabled(learner is segmentor):
            logits, features = segmentor.plain(image)
        prior = probabilities(logits)
        noisy = draw(pair.process, y0, prior.detach(), free, 0.4, numbers, 0)
        condition = refiner.plain.condition(image, prior, free, features)  # type: ignore[operator]
        out = refiner.plain(noisy.y_t, noisy.t, condition)
        loss = pair.loss(out, y0, noisy.y_t, prior, noisy.t)
        if learner is segmentor:
            loss = loss + pair.segmentation(logits, y0)
        learner.step(iter([loss]), 1)
        frozen.optimizer.zero_grad(set_to_none=True)


def in_turn(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Every way at every width, the rounds interleaved, each measurement in a fresh process."""
    found: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for width in arguments.widths:
        for _ in range(arguments.rounds):
            for way in WAYS:
                given = [width, arguments.size, arguments.batch, arguments.iterations]
                command = [sys.executable, "-m", "benchmarks.training", "--one", way]
                command += [*map(str, given), arguments.device]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                found.setdefault((width, way), []).append(json.loads(done.stdout))
    rows = []
    for (width, way), runs in found.items():
        speed = statistics.median(run["images_per_second"] for run in runs)
        memory = statistics.median(run["bytes"] for run in runs)
        more = {"precision": runs[0]["precision"], "hardware": runs[0]["hardware"]}
        rows.append(
            {"width": width, "way": way, "images_per_second": speed, "bytes": memory} | more
        )
    for row in rows:
        pair = {r["way"]: r["images_per_second"] for r in rows if r["width"] == row["width"]}
        row["ratio_to_plain"] = row["images_per_second"] / pair["plain"]
        row["ratio_to_bare"] = row["images_per_second"] / pair["bare"]
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """The rows as a table for people."""
    table = Table("width", "way", "precision", "images/s", "x plain", "x bare", "peak GB")
    for row in rows:
        speed, memory = f"{row['images_per_second']:.2f}", f"{row['bytes'] / 1e9:.2f}"
        ratios = (f"{row['ratio_to_plain']:.2f}", f"{row['ratio_to_bare']:.2f}")
        table.add_row(str(row["width"]), row["way"], row["precision"], speed, *ratios, memory)
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--one", nargs=6, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        way, width, size, batch, count, device = arguments.one
        print(json.dumps(measure(way, int(width), int(size), int(batch), int(count), device)))
        return
    rows = in_turn(arguments)
    if arguments.json:
        command = "python -m benchmarks.training " + " ".join(sys.argv[1:])
        print(json.dumps({"command": command, "versions": versions(), "rows": rows}, indent=1))
    else:
        show(rows)


if __name__ == "__main__":
    main()
