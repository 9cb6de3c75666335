"""The arms of the experiment: what happens after every stroke."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from napari_hidiff.annotation.constraints import MARGIN, REACH, Guards
from napari_hidiff.annotation.walker import BETA
from napari_hidiff.errors import InputError
from napari_hidiff.inference.model import HiDiff

from ..arms import ONE_STEP
from ..experiments import Options

NOTHING, MODEL, WALKER = "nothing", "model", "walker"
"""Who answers a stroke."""
SEGMENTOR, CURRENT, BOTH, EVEN = "segmentor", "current", "both", "even"
"""The prior of a re-refinement: the segmentor's, the mask as it stands, their mean, or 1/K."""


EVERYWHERE, NEAR, CERTAIN = Guards(), Guards(near=REACH), Guards(certain=True)
STRICT = Guards(near=REACH, certain=True)
FIRM, NEAR_FIRM = Guards(margin=MARGIN), Guards(near=REACH, margin=MARGIN)

CORE = 0.5
"""The random walker's seeds: a core reaches no nearer to a border than this share of a depth."""


@dataclass(frozen=True)
class Policy:
    """One arm.

    title : what it is, one line.  answer : who answers a stroke.  prior : what a re-refinement
    starts from.  sampler : None = the experiment's.  every_step : all T steps.  middle : begin at
    T // 2 with the mask as it stands.  guards : what an answer may change.  clamp : keep fixed
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


def chosen(options: Options) -> tuple[Policy, ...]:
    """The arms that were asked for, in that order, each once; by default without a control model
    all but its arm.

    InputError: an unknown arm, none at all, or the control's arm without its model.
    """
    names = options.arms
    if names is None:
        names = tuple(name for name in DEFAULT if name != "control" or options.control)
    if unknown := [name for name in names if name not in POLICIES]:
        raise InputError(f"unknown arm {unknown[0]!r}: choose from {', '.join(POLICIES)}")
    if not names:
        raise InputError("an experiment needs at least one arm")
    policies = tuple(POLICIES[name] for name in dict.fromkeys(names))
    if options.control is None and any(policy.control for policy in policies):
        raise InputError("the arm control needs its model: --control FILE")
    return policies


def settings_of(policy: Policy, model: HiDiff, options: Options) -> dict[str, Any]:
    """Sampler, steps and samples of an arm's re-refinements, or what the walker does; empty where
    nobody answers."""
    if policy.answer == WALKER:
        return {"beta": BETA, "core": CORE, "seeds": "band, local where thin"}
    if policy.answer != MODEL:
        return {}
    given = {"sampler": options.sampler, "steps": options.steps, "samples": options.samples}
    settings = dict(model.card.defaults) | {k: v for k, v in given.items() if v is not None}
    if policy.sampler is not None:
        settings["sampler"] = policy.sampler
    if policy.every_step:
        settings["steps"] = model.process.steps
    return settings


def seeds_of(policy: Policy, model: HiDiff, options: Options) -> Sequence[int]:
    """The seeds that make a difference: only the first for an arm without randomness."""
    sampler = settings_of(policy, model, options).get("sampler", ONE_STEP)
    return options.seeds if policy.wrong or sampler != ONE_STEP else options.seeds[:1]
