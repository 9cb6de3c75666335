"""The arms of the experiment: a model, the random walker or nothing answers every stroke."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from napari_hidiff.annotation.constraints import EIGHT, MARGIN, REACH, Guards
from napari_hidiff.annotation.session import Prior
from napari_hidiff.annotation.suggestions import BETA, random_walk
from napari_hidiff.diffusion.samplers import Step, clamp_fixed
from napari_hidiff.errors import InputError
from napari_hidiff.inference import preprocessing
from napari_hidiff.inference.card import LocalRegion
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import FREE
from napari_hidiff.training import simulated_annotator

from ..scoring import ONE_STEP, seeds_of, settings_of
from ..study import Options
from .subjects import Subject, Workspace

NOTHING, MODEL, WALKER, STROKES_WALKER = "nothing", "model", "walker", "strokes walker"
"""What answers a stroke; the second walker knows the strokes alone, not the mask."""
SEGMENTOR, CURRENT, BOTH, EVEN = "segmentor", "current", "both", "even"
"""The prior of a re-refinement: the segmentor's, the current mask, their mean, or 1/K."""

EVERYWHERE, NEAR, CERTAIN = Guards(), Guards(near=REACH), Guards(certain=True)
STRICT = Guards(near=REACH, certain=True)
FIRM, NEAR_FIRM = Guards(margin=MARGIN), Guards(near=REACH, margin=MARGIN)

CORE = 0.5
"""The random walker's seeds: a core reaches no nearer to a border than this share of a depth."""


@dataclass(frozen=True)
class Policy:
    """One arm.

    title : what it is, one line.  answer : what answers a stroke.  prior : what a re-refinement
    starts from.  sampler : None = the experiment's.  every_step : all T steps.  middle : begin at
    T // 2 with the current mask.  guards : what an answer may change.  clamp : keep fixed
    pixels.  control : ask the second model.  once : a single answer, before the first stroke.
    wrong : some strokes carry a wrong label.
    """

    name: str
    title: str
    answer: str = MODEL
    prior: str = SEGMENTOR
    sampler: str | None = None
    every_step: bool = False
    middle: bool = False
    guards: Guards = EVERYWHERE
    clamp: bool = True
    control: bool = False
    once: bool = False
    wrong: bool = False


POLICIES = {
    policy.name: policy
    for policy in (
        Policy("paint", "paint only", NOTHING),
        Policy("refine", "re-refine after every stroke"),
        Policy("refine-ddim", "re-refine with ddim", sampler="ddim"),
        Policy("no-clamp", "re-refine, painted pixels are not kept", clamp=False),
        Policy("control", "one-step control model", sampler=ONE_STEP, control=True),
        Policy("walker", "random walker from strokes and cores", WALKER),
        Policy("walker-strokes", "random walker from strokes alone", STROKES_WALKER),
        Policy("berdiff", "prior 1/K, all steps", prior=EVEN, sampler="ancestral", every_step=True),
        Policy("once", "refine once, then paint only", once=True),
        Policy("refine-near", "changes near the stroke only", guards=NEAR),
        Policy("refine-certain", "changes that the model is surer of", guards=CERTAIN),
        Policy("refine-near-certain", "both guards", guards=STRICT),
        Policy("refine-firm", "toss-ups stay as they are", guards=FIRM),
        Policy("near-firm", "the same, near the stroke only", guards=NEAR_FIRM),
        Policy("both-firm", "the same, prior: the mean of both", prior=BOTH, guards=FIRM),
        Policy("refine-current", "prior: the current mask", prior=CURRENT),
        Policy("refine-both", "prior: mean of segmentor and current mask", prior=BOTH),
        Policy("near-current", "near, prior: the current mask", prior=CURRENT, guards=NEAR),
        Policy("near-both", "near, prior: the mean of both", prior=BOTH, guards=NEAR),
        Policy("refine-middle", "ddim from T/2 of the current mask", sampler="ddim", middle=True),
        Policy("paint-wrong", "paint only, some strokes wrong", NOTHING, wrong=True),
        Policy("refine-wrong", "re-refine, some strokes wrong", wrong=True),
    )
}
"""Every arm by name; docs/interactive.md describes them."""

PROMPTED = ("paint", "refine", "walker-strokes")
"""The arms by default of a prompted model, which starts from an empty mask."""

DEFAULT = (
    "paint",
    "refine",
    "refine-ddim",
    "no-clamp",
    "control",
    "walker",
    "berdiff",
    "once",
    "refine-near",
)


def arms_named(options: Options, prompted: bool = False) -> tuple[Policy, ...]:
    """The arms that were asked for, in that order, each once; by default without a control model
    all but its arm, and of a ``prompted`` model :data:`PROMPTED`.

    InputError: an unknown arm, none at all, or the control's arm without its model.
    """
    names = options.arms
    if names is None and prompted:
        names = PROMPTED
    elif names is None:
        names = tuple(name for name in DEFAULT if name != "control" or options.control)
    if unknown := [name for name in names if name not in POLICIES]:
        raise InputError(f"unknown arm {unknown[0]!r}: choose from {', '.join(POLICIES)}")
    if not names:
        raise InputError("an experiment needs at least one arm")
    policies = tuple(POLICIES[name] for name in dict.fromkeys(names))
    if options.control is None and any(policy.control for policy in policies):
        raise InputError("the arm control needs its model: --control FILE")
    return policies


def arm_settings(policy: Policy, model: HiDiff, options: Options) -> dict[str, Any]:
    """Sampler, steps and samples of an arm's re-refinements, or the random walker's parameters;
    empty where nothing answers."""
    if policy.answer == WALKER:
        return {"beta": BETA, "core": CORE, "seeds": "band, local where thin"}
    if policy.answer == STROKES_WALKER:
        return {"beta": BETA, "seeds": "strokes, and the border until one is on the background"}
    if policy.answer != MODEL:
        return {}
    settings = settings_of(model, options)
    if policy.sampler is not None:
        settings["sampler"] = policy.sampler
    if policy.every_step:
        settings["steps"] = model.process.steps
    return settings


def arm_seeds(policy: Policy, model: HiDiff, options: Options) -> Sequence[int]:
    """The seeds that make a difference: only the first for an arm without randomness."""
    sampler = arm_settings(policy, model, options).get("sampler", ONE_STEP)
    return seeds_of(None if policy.wrong else sampler, options.seeds)


Answer = Callable[[Workspace], None]
"""Changes the mask of a workspace after a stroke."""


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
        return lambda at: at.complete(walked(subject.image, at.mask, at.fixed))
    if policy.answer == STROKES_WALKER:
        return lambda at: at.complete(walked_from_strokes(subject.image, at.fixed))
    if policy.answer != MODEL:
        raise ValueError(f"no answer is named {policy.answer!r}")

    sampling = model.sampling(**settings, seed=seed)

    def answer(workspace: Workspace) -> None:
        prior = prior_of(policy, subject, workspace)
        total, start = sampling.passes, None
        if policy.middle:
            at = model.process.steps // 2
            start = workspace.mask, at
            total = 1 + sum(t < at for t in model.process.timesteps(sampling.steps))

        def steps(fixed: np.ndarray, local: LocalRegion | None) -> Iterable[Step]:
            return model.steps(
                subject.plane,
                prior.given,
                fixed,
                **asdict(sampling),
                normalised=True,
                start=start,
                local=local,
            )

        workspace.refine(steps, total, prior, policy.guards)

    return answer


def prior_of(policy: Policy, subject: Subject, workspace: Workspace) -> Prior:
    """The prior of a re-refinement of the current mask."""
    first = subject.prior
    if policy.prior in (CURRENT, BOTH):
        card, mask = subject.model.card, workspace.mask.copy()
        soft = preprocessing.soften(mask, card.outputs, **card.soften)
        if policy.prior == CURRENT:
            return Prior(mask, soft, mask)
        mean = (soft + first.probability) / 2
        return Prior(mean, mean, subject.model.mask_of(mean))
    if policy.prior == EVEN:
        even = np.full_like(first.probability, 1 / max(2, len(first.probability)))
        return Prior(even, even, subject.model.mask_of(even))
    if not policy.clamp:
        fixed = torch.from_numpy(workspace.fixed.astype(np.int64))
        stamped = clamp_fixed(torch.from_numpy(first.probability), fixed).numpy()
        return Prior(stamped, stamped, first.mask)
    return first


def walked(image: np.ndarray, mask: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """The random walker's mask [H, W] from the strokes and the cores of a mask [H, W].

    The mask itself where that makes seeds of one label only.
    """
    seeds = np.where(fixed != FREE, fixed, cores(mask))
    if np.unique(seeds[seeds != FREE]).size < 2:
        return mask
    return random_walk(image, seeds)


def walked_from_strokes(image: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """The random walker's mask [H, W] from the strokes alone; until one lies on the background the
    border of the image counts as such. Empty where no stroke lies on an object."""
    seeds = fixed.copy()
    if not (fixed == 0).any():
        rim = np.ones(fixed.shape, bool)
        rim[1:-1, 1:-1] = False
        seeds[rim & (fixed == FREE)] = 0
    if not (fixed > 0).any():
        return np.zeros(fixed.shape, np.uint8)
    return random_walk(image, seeds)


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
    return np.asarray(greatest[pieces])
