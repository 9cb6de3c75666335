"""How well a prompted model answers the strokes of the simulated annotator, set by set.

From an empty mask; the annotator is that of every interactive study here
(:mod:`napari_hidiff.training.simulated_annotator`), on pictures of the model's own scale.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.nn import functional as F

from napari_hidiff.diffusion.samplers import clamp_fixed, to_mask
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import dice
from napari_hidiff.networks import probabilities
from napari_hidiff.training.simulated_annotator import DISC, SCRIBBLE, kind_for, next_stroke
from napari_hidiff.training.universal.pictures import Pictures

SMALLEST = 60
"""Pixels that an object needs to be scored."""
PER_PICTURE = 2
"""Objects of a picture that are scored, the largest first."""
AT_ONCE = 32


class Target(NamedTuple):
    """image uint8 [H, W, 3]; truth uint8 [H, W] in {0, 1}."""

    image: np.ndarray
    truth: np.ndarray


class Asked(Protocol):
    """Something that answers: images and fixed maps int64 [H, W], -1 = free, to masks [H, W]."""

    def __call__(
        self, images: Sequence[np.ndarray], fixed: Sequence[np.ndarray]
    ) -> list[np.ndarray]: ...


class Batched:
    """The one-step pass of a model for many pictures in one call, padded to one size."""

    def __init__(self, model: HiDiff) -> None:
        self.model = model

    @torch.inference_mode()
    def __call__(
        self, images: Sequence[np.ndarray], fixed: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        model, side = self.model, 32 * -(-max(max(x.shape[:2]) for x in images) // 32)
        pictures = [_padded(model.intensity(x).transpose(2, 0, 1), side) for x in images]
        edits = [F.pad(torch.from_numpy(x), _room(x.shape, side), value=-1) for x in fixed]
        image, known = (torch.stack(x).to(model.device) for x in (pictures, edits))
        logits, features = model.segmentor(image)
        prior = clamp_fixed(probabilities(logits), known)
        condition = model.refiner.condition(image, prior, known, features)
        answer = model.refiner(clamp_fixed(to_mask(prior), known), model.process.steps, condition)
        masks = (clamp_fixed(probabilities(answer), known)[:, 0] >= 0.5).cpu().numpy()
        return [
            mask[: x.shape[0], : x.shape[1]].astype(np.uint8)
            for mask, x in zip(masks, images, strict=True)
        ]


class OneByOne:
    """The one-step pass of a model as the product runs it, a picture at a time, on any engine."""

    def __init__(self, model: HiDiff) -> None:
        self.model = model

    def __call__(
        self, images: Sequence[np.ndarray], fixed: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        return [
            self.model.refine(image, fixed=edits, sampler="one-step").mask
            for image, edits in zip(images, fixed, strict=True)
        ]


def prompted_scores(
    ask: Asked, pictures: Pictures, strokes: int, most: int, workers: int = 1
) -> list[dict[str, Any]]:
    """Mean Dice after 1, 2 ... strokes, a row per set: ``{"set", "strokes", "n", "dice"}``.

    ``strokes`` says what the annotator paints with, discs or scribbles: thin structures
    (:func:`kind_for`) get a row of scribbles, and one of discs that shows why. most : objects of a
    set at most. workers : processes that think up strokes.
    """
    rows = []
    pool = ProcessPoolExecutor(workers, get_context("spawn")) if workers > 1 else None
    with pool or nullcontext():
        for number, name in enumerate(pictures.names):
            own = np.flatnonzero(pictures.sets.cpu().numpy() == number)
            objects = [target for i in own for target in targets(pictures, int(i))]
            at = np.linspace(0, len(objects) - 1, min(most, len(objects))).round().astype(int)
            chosen = [objects[i] for i in at]
            if not chosen:
                continue
            thin = np.mean([kind_for(target.truth) == SCRIBBLE for target in chosen]) > 0.5
            for kind in (SCRIBBLE, DISC) if thin else (DISC,):
                curves = np.concatenate(
                    [
                        curves_of(ask, chosen[start : start + AT_ONCE], strokes, kind, pool)
                        for start in range(0, len(chosen), AT_ONCE)
                    ]
                )
                means = [round(float(value), 4) for value in curves.mean(0)]
                rows.append({"set": name, "strokes": kind, "n": len(chosen), "dice": means})
    return rows


def targets(pictures: Pictures, index: int) -> Iterator[Target]:
    """The objects of a picture that are scored: its largest labels, each with what it encloses."""
    height, width = pictures.sizes[index].tolist()
    image = pictures.images[index, :, :height, :width].permute(1, 2, 0).cpu().numpy()
    labels = pictures.labels[index, :height, :width].cpu().numpy()
    within = pictures.within[int(pictures.sets[index])].cpu().numpy()
    found, counts = np.unique(labels[labels > 0], return_counts=True)
    for label in found[np.argsort(-counts, kind="stable")][:PER_PICTURE]:
        truth = within[label][labels]
        if truth.sum() >= SMALLEST:
            yield Target(np.ascontiguousarray(image), truth.astype(np.uint8))


def curves_of(
    ask: Asked, objects: Sequence[Target], strokes: int, kind: str, pool: Executor | None = None
) -> np.ndarray:
    """Dice float64 [n, strokes] of n objects after each stroke, from an empty mask."""
    images, truths = zip(*objects, strict=True)
    masks = [np.zeros_like(truth) for truth in truths]
    fixed = [np.full(truth.shape, -1, np.int64) for truth in truths]
    run: Callable[..., Iterator[Any]] = map if pool is None else pool.map
    scores = []
    for _ in range(strokes):
        new = run(next_stroke, masks, truths, [kind] * len(masks))
        fixed = [
            edits if stroke is None else np.where(stroke.where, truth, edits)
            for edits, truth, stroke in zip(fixed, truths, new, strict=True)
        ]
        masks = ask(images, fixed)
        scores.append([dice(mask, truth) for mask, truth in zip(masks, truths, strict=True)])
    return np.array(scores).T


def _room(shape: tuple[int, ...], side: int) -> tuple[int, int, int, int]:
    return 0, side - shape[1], 0, side - shape[0]


def _padded(image: np.ndarray, side: int) -> torch.Tensor:
    """[C, H, W] with its last row and column repeated up to a square."""
    room = _room(image.shape[1:], side)
    return F.pad(torch.from_numpy(image)[None], room, mode="replicate")[0]
