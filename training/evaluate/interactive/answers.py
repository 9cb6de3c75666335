"""What answers a stroke: a model, through the desk's session, or the random walker."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from napari_hidiff.annotation import walker
from napari_hidiff.annotation.constraints import EIGHT, Local
from napari_hidiff.annotation.session import Prior
from napari_hidiff.annotation.undo import FREE
from napari_hidiff.diffusion.samplers import Step, stamp
from napari_hidiff.inference import preprocessing
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.training import simulated_annotator

from .desks import Desk
from .policies import BOTH, CORE, CURRENT, EVEN, MODEL, NOTHING, WALKER, Policy
from .subjects import Subject

Answer = Callable[[Desk], None]
"""Changes the mask on a desk after a stroke."""


def answer_of(
    policy: Policy, subject: Subject, model: HiDiff, settings: dict[str, Any], seed: int
) -> Answer | None:
    """How an arm answers on a subject; None where it only paints.

    model : the arm's own.  settings : sampler, steps and samples.  seed : that of every
    re-refinement, as in the plugin, where it stays until the user changes it.
    """
    if policy.answer == NOTHING:
        return None
    if policy.answer == WALKER:
        return lambda desk: desk.complete(walked(subject.image, desk.mask, desk.fixed))
    if policy.answer != MODEL:
        raise ValueError(f"nobody named {policy.answer!r} answers")

    def answer(desk: Desk) -> None:
        prior = prior_of(policy, subject, desk)
        more: dict[str, Any] = dict(settings)
        total = 1 if settings["sampler"] == "one-step" else settings["steps"]
        if policy.middle:
            at = model.process.steps // 2
            more["start"] = (desk.mask, at)
            total = 1 + sum(t < at for t in model.process.timesteps(settings["steps"]))

        def steps(fixed: np.ndarray, local: Local | None) -> Iterable[Step]:
            return model.steps(
                subject.plane, prior.given, fixed, seed=seed, normalised=True, local=local, **more
            )

        desk.refine(steps, total, prior, policy.guards)

    return answer


def prior_of(policy: Policy, subject: Subject, desk: Desk) -> Prior:
    """What a re-refinement starts from, given the mask as it stands."""
    first = subject.prior
    if policy.prior in (CURRENT, BOTH):
        card, mask = subject.model.card, desk.mask.copy()
        soft = preprocessing.soften(mask, card.outputs, **card.soften)
        if policy.prior == CURRENT:
            return Prior(mask, soft, mask)
        mean = (soft + first.probability) / 2
        return Prior(mean, mean, subject.model.mask_of(mean))
    if policy.prior == EVEN:
        even = np.full_like(first.probability, 1 / max(2, len(first.probability)))
        return Prior(even, even, subject.model.mask_of(even))
    if not policy.clamp:
        held = torch.from_numpy(desk.fixed.astype(np.int64))
        stamped = stamp(torch.from_numpy(first.probability), held).numpy()
        return Prior(stamped, stamped, first.mask)
    return first


def walked(image: np.ndarray, mask: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """The random walker's mask [H, W] from the strokes and the cores of a mask [H, W].

    The mask itself where that makes seeds of one label only.
    """
    seeds = np.where(fixed != FREE, fixed, cores(mask))
    if np.unique(seeds[seeds != FREE]).size < 2:
        return mask
    return walker.complete(image, seeds)


def cores(mask: np.ndarray) -> np.ndarray:
    """Seeds int64 [H, W]: the inner part of everything, with its label; -1 elsewhere.

    Along every border a band stays free, as wide as the widest disc of an annotator; in a piece
    that would vanish it is narrower, so that the deepest half remains. Where the foreground is
    thin the band is at most half of its greatest depth, or there would be no background beside it,
    and no branch vanishes either.
    """
    band, slender = min(mask.shape) * simulated_annotator.WIDEST, simulated_annotator.thin(mask)
    if slender:
        band = min(band, CORE * simulated_annotator.inside_depth(mask > 0).max())
    seeds = np.full(mask.shape, FREE, np.int64)
    for label in np.unique(mask):
        depth = simulated_annotator.inside_depth(mask == label)
        deepest = deepest_of_piece(depth)
        if slender:
            near = ndimage.maximum_filter(depth, 2 * int(np.ceil(band)) + 1)
            deepest = np.minimum(near, deepest)
        seeds[(depth > 0) & (depth > np.minimum(band, CORE * deepest))] = label
    return seeds


def deepest_of_piece(depth: np.ndarray) -> np.ndarray:
    """The greatest depth of the 8-connected piece that a pixel belongs to, float64 [H, W]."""
    pieces, count = ndimage.label(depth > 0, EIGHT)
    greatest = np.zeros(count + 1)
    if count:
        greatest[1:] = ndimage.maximum(depth, pieces, np.arange(1, count + 1))
    return greatest[pieces]
