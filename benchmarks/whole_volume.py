"""Strokes to a Dice of .90 in a whole volume: slice by slice, carried, or filled between slices.

    python -m benchmarks.whole_volume --data Task04_Hippocampus --output results/whole-volume.json

The image is the first channel of the data set: of the brats that is FLAIR.
A simulated annotator paints, stroke by stroke, the largest error of the whole volume
(``napari_hidiff.training.simulated_annotator``). With a prompted model it begins with nothing, and
all classes of the truth together are the object; with another model it begins with what that one
finds. Dice is that of the volume, the mean of the classes. Arms:

paint : nothing answers. slices : the model answers in the slice of the stroke.
carried : its answer is carried both ways, as *Carry* does.
interpolated : slices between those with a stroke inside the object are interpolated.
filled : these are refined from there, as *Fill between* does.
"""

from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import typer

import napari_hidiff
from napari_hidiff._version import __version__
from napari_hidiff.annotation.between import fill_slices, interpolated
from napari_hidiff.annotation.objects import told
from napari_hidiff.annotation.refinement import SliceResult, propagate, refine_slices
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.inference.stack import Stack
from napari_hidiff.masks import FREE, mean_dice
from napari_hidiff.training.datasets import Sample, open_dataset
from napari_hidiff.training.evaluate.metrics import paired_bootstrap
from napari_hidiff.training.evaluate.output import as_text, plain
from napari_hidiff.training.simulated_annotator import inside_depth, next_stroke

GOALS = (0.70, 0.80, 0.90)
"""An annotator stops at the last."""
AFTER = (10, 30, 60, 100)
"""Strokes after which the Dice is listed."""
ARMS = ("paint", "slices", "carried", "interpolated", "filled")


class Volume:
    """A volume under annotation: mask and fixed map [D, H, W]."""

    def __init__(self, model: HiDiff, image: np.ndarray, truth: np.ndarray) -> None:
        self.truth = truth
        self.mask = np.zeros(truth.shape, np.uint8)
        self.fixed = np.full(truth.shape, FREE, np.int32)
        self._model, self._how = model, model.sampling()
        self._stack = Stack([np.ascontiguousarray(image)])
        self._depths = np.zeros(len(truth))
        everywhere = [(at, -1, -1) for at in range(len(truth))]
        if not model.card.prompted:
            self._write(refine_slices(model, self._stack, everywhere, {}, {}, self._how))
        for at, mask in enumerate(self.mask):
            self._put(at, mask)
        self._carried = self.mask.copy()

    def paint(self) -> int | None:
        """Paint the largest error; returns its slice, None where nothing is wrong."""
        at = int(self._depths.argmax())
        stroke = next_stroke(self.mask[at], self.truth[at])
        if stroke is None:
            return None
        self.fixed[at][stroke.where] = self.truth[at][stroke.where]
        self._put(at, self.mask[at])
        return at

    def answer(self, at: int) -> None:
        """The model's answer in the slice of a stroke, if there is anything to point it at."""
        alone = not self._model.card.prompted or (self.fixed[at] == 1).any()
        if alone or self.mask[at].any():
            index = (at, -1, -1)
            priors = {} if alone else {index: self.mask[at].copy()}
            args = self._model, self._stack, [index], priors, self._told([at]), self._how
            self._write(refine_slices(*args))

    def carry(self, at: int) -> None:
        """Carry what changed in a slice since the last time to its neighbours, both ways."""
        before, mask = self._carried[at].copy(), self.mask[at].copy()
        depth = len(self.mask)
        for ways in (range(at + 1, depth), range(at - 1, -1, -1)):
            where = [(there, -1, -1) for there in ways]
            swept = propagate(
                self._model,
                self._stack,
                where,
                before,
                mask,
                lambda index: self.mask[index[0]],
                self._told(ways),
                self._how,
            )
            for there in self._write(swept):
                self._carried[there] = self.mask[there]
        self._carried[at] = self.mask[at]

    def fill(self, at: int, refined: bool) -> None:
        """Fill the slices between those with a stroke inside the object, on both sides of ``at``;
        refined : by the model."""
        known = np.flatnonzero((self.fixed > 0).any((1, 2))).tolist()
        for first, last in pairwise(known):
            between = range(first + 1, last)
            if not (between and first <= at <= last):
                continue
            if refined:
                ends = [((end, -1, -1), self.mask[end].copy()) for end in (first, last)]
                told_of = self._told(between)
                args = self._model, self._stack, 0, ends, told_of, self._how
                self._write(fill_slices(*args))
            else:
                shapes = interpolated(self.mask[first], self.mask[last], len(between))
                for there, shape in zip(between, shapes, strict=True):
                    self._put(there, shape)

    def _told(self, slices: Iterable[int]) -> dict[tuple[int, int, int], np.ndarray]:
        if not self._model.card.prompted:
            return {(at, -1, -1): self.fixed[at].copy() for at in slices}
        return {(at, -1, -1): told(self.mask[at], 1, self.fixed[at]) for at in slices}

    def _write(self, results: Iterable[SliceResult]) -> list[int]:
        """Write results as they come; returns their slices."""
        written = []
        for one in results:
            written.append(one.at[0])
            self._put(one.at[0], one.mask)
        return written

    def _put(self, at: int, mask: np.ndarray) -> None:
        """Write a slice around the strokes, and look for what is wrong in it now."""
        self.mask[at] = np.where(self.fixed[at] == FREE, mask, self.fixed[at])
        self._depths[at] = inside_depth(self.mask[at] != self.truth[at]).max()


ANSWERS: dict[str, Callable[[Volume, int], None]] = {
    "paint": lambda volume, at: None,
    "slices": Volume.answer,
    "carried": lambda volume, at: (volume.answer(at), volume.carry(at))[0],
    "interpolated": lambda volume, at: (volume.answer(at), volume.fill(at, False))[0],
    "filled": lambda volume, at: (volume.answer(at), volume.fill(at, True))[0],
}


def annotated(
    model: HiDiff, image: np.ndarray, truth: np.ndarray, arm: str, most: int
) -> dict[str, Any]:
    """One volume in one arm: the ``dice`` after 0, 1, ... strokes, up to the last goal or ``most``
    strokes, and the median ``seconds`` of an answer."""
    volume, seconds = Volume(model, image, truth), []
    curve = [mean_dice(volume.mask, truth, model.labels)]
    while curve[-1] < GOALS[-1] and len(curve) <= most:
        at = volume.paint()
        if at is None:
            break
        start = perf_counter()
        ANSWERS[arm](volume, at)
        seconds.append(perf_counter() - start)
        curve.append(mean_dice(volume.mask, truth, model.labels))
        painted = volume.fixed != FREE
        assert (volume.mask[painted] == volume.fixed[painted]).all()
    return {"dice": curve, "seconds": float(np.median(seconds)) if seconds else 0.0}


def strokes_to(curve: list[float], goal: float) -> int | None:
    """Strokes until a Dice is reached; None = never."""
    return next((count for count, dice in enumerate(curve) if dice >= goal), None)


def main(
    data: Annotated[Path | None, typer.Option(help="The folder of the data set.")] = None,
    dataset: Annotated[str, typer.Option(help="msd (hippocampus), or brats.")] = "msd",
    model: Annotated[str, typer.Option(help="universal, or hippocampus.")] = "universal",
    split: Annotated[
        str | None, typer.Option(help="Which cases (test; without any, val or train).")
    ] = None,
    limit: Annotated[int, typer.Option(help="Only so many cases.")] = 6,
    most: Annotated[int, typer.Option(help="Strokes at most in a volume.")] = AFTER[-1],
    output: Annotated[Path | None, typer.Option(help="Write the figures here, as JSON.")] = None,
) -> None:
    """Annotate every case in every arm."""
    opened = open_dataset(dataset, data)
    split = split or next(name for name in ("test", "val", "train") if opened.splits[name])
    loaded = napari_hidiff.load_model(model, device="cpu")
    rows: list[dict[str, Any]] = []
    for case in opened.split(split)[:limit]:
        sample: Sample = opened.load(case)
        truth = np.minimum(sample.mask, loaded.labels - 1).astype(np.uint8)
        row = {arm: annotated(loaded, sample.image[..., 0], truth, arm, most) for arm in ARMS}
        rows.append({"id": case.id, "slices": int(truth.any((1, 2)).sum()), "arms": row})
        said = ", ".join(f"{arm} {len(one['dice']) - 1}" for arm, one in row.items())
        print(f"{case.id}: strokes {said}", flush=True)
        content = {
            "command": f"python -m benchmarks.whole_volume --dataset {dataset} "
            f"--data {opened.root and opened.root.name} --model {model} --limit {limit}",
            "dataset": dataset,
            "split": split,
            "model": loaded.card.name,
            "digest": loaded.digest,
            "version": __version__,
            "most": most,
            "n": len(rows),
            **summary(rows, most),
            "cases": rows,
        }
        if output:  # after every case: it takes a while
            output.write_text(as_text(plain(content)) + "\n", encoding="utf-8")
    print(as_text(plain({"arms": content["arms"], "difference": content["difference"]})))


def summary(rows: list[dict[str, Any]], most: int) -> dict[str, Any]:
    """The figures of every arm: mean Dice after so many strokes, and for every goal how many
    volumes ``reached`` it and the ``mean`` strokes, where others count with ``most``; and the
    difference to *slices* in the Dice after ``most`` strokes, with its interval."""
    curves = {arm: [row["arms"][arm]["dice"] for row in rows] for arm in ARMS}
    last = {arm: np.array([curve[-1] for curve in own]) for arm, own in curves.items()}
    arms = {}
    for arm, own in curves.items():
        counts = {goal: [strokes_to(curve, goal) for curve in own] for goal in GOALS}
        arms[arm] = {
            "dice": {
                str(n): float(np.mean([curve[min(n, len(curve) - 1)] for curve in own]))
                for n in (0, *AFTER)
                if n <= most
            },
            "goals": {
                f"{goal:.2f}": {
                    "reached": sum(count is not None for count in found),
                    "mean": float(np.mean([most if n is None else n for n in found])),
                }
                for goal, found in counts.items()
            },
            "seconds": float(np.median([row["arms"][arm]["seconds"] for row in rows])),
        }
    others = [arm for arm in ARMS if arm != "slices"]
    ahead = {arm: paired_bootstrap(last[arm] - last["slices"])._asdict() for arm in others}
    return {"arms": arms, "difference": ahead}


if __name__ == "__main__":
    typer.run(main)
