"""One simulated annotator on one subject, and the figures of many of them.

Strokes go to the largest error, an answer comes after each, and a record keeps the Dice after 0, 1,
2, ... strokes.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from napari_hidiff.masks import FREE
from napari_hidiff.training import simulated_annotator

from ..metrics import paired_bootstrap
from ..output import Content
from ..scoring import set_of
from ..study import Record
from .policies import Answer, Policy
from .subjects import Answered, Subject, SubjectId, UnclampedWorkspace, Workspace

PAINT, REFINE = "paint", "refine"
DISPLAYED = 4
"""Decimals of Dice and seconds in a row."""
TOLERANCE = 0.0005
"""A loss of Dice that does not count as one."""
FAR = 2
"""Pixels farther from the stroke than so many of its radii are far from it."""
AFTER = (0, 1, 2, 3, 5, 10, 20)
"""Strokes after which the mean Dice is listed."""
AREAS = (10, 20)
"""Strokes up to which the area under a curve is taken."""
GOALS = (0.85, 0.90, 0.95)
"""Values of Dice to be reached."""


def annotate(
    subject: Subject,
    policy: Policy,
    answer: Answer | None,
    most: int,
    seed: int = 0,
    wrong: float = 0.0,
) -> Record:
    """Up to ``most`` strokes on a subject; what happened, as JSON-able data.

    Entries: ``dice`` [most + 1], after so many strokes and their answers; it stays at its last
    value once no error is left. ``painted`` [most + 1], pixels of all strokes so far.
    ``strokes``: how many there were. For every answer an entry of ``before`` (Dice just before it,
    with the stroke), ``after``, ``seconds``, ``changed`` (pixels off the stroke) and ``lost_far``
    (correct pixels lost farther than 2 r from it). ``fixed_changed``: painted pixels that answers
    changed, in all. ``helped`` and ``harmed``: the answers that gained and lost most Dice, packed
    (:class:`Answered`), or None.

    wrong : share of strokes with a wrong label, in an arm that has any; ``seed`` and the subject
    decide which.
    """
    workspace = (Workspace if policy.clamp else UnclampedWorkspace)(
        subject.prior, subject.model.labels
    )
    log = AnnotationLog(subject, workspace)
    rng = np.random.default_rng([seed, crc32(_name(subject.id).encode())])
    if answer is not None and policy.once:
        log.answered(answer, None)
    log.stroke_done(0)
    for _ in range(most):
        judged = subject.judged(workspace.mask)
        stroke = simulated_annotator.next_stroke(judged, subject.truth, subject.id.kind)
        if stroke is None:
            break
        mistaken = rng if policy.wrong and rng.random() < wrong else None
        workspace.paint(
            simulated_annotator.painted(stroke, subject.truth, subject.model.labels, mistaken)
        )
        if answer is not None and not policy.once:
            log.answered(answer, stroke)
        log.stroke_done(int(stroke.where.sum()))
    return log.record(most)


class AnnotationLog:
    """The figures of a workspace as it is worked on."""

    def __init__(self, subject: Subject, workspace: Workspace) -> None:
        self._subject, self._workspace = subject, workspace
        self._dice: list[float] = []
        self._painted: list[int] = []
        self._answers: dict[str, list[Any]] = {
            name: [] for name in ("before", "after", "seconds", "changed", "lost_far")
        }
        self._fixed_changed = 0
        self._helped: Answered | None = None
        self._harmed: Answered | None = None

    def stroke_done(self, pixels: int) -> None:
        """A stroke of so many pixels was painted and answered."""
        self._dice.append(self._subject.dice(self._workspace.mask))
        self._painted.append((self._painted or [0])[-1] + pixels)

    def answered(self, answer: Answer, stroke: simulated_annotator.Stroke | None) -> None:
        """Call the answer, to a stroke or to none, and log its effect."""
        subject, workspace = self._subject, self._workspace
        mask, fixed = workspace.mask.copy(), workspace.fixed
        start = time.perf_counter()
        answer(workspace)
        seconds = time.perf_counter() - start
        where = np.zeros(mask.shape, bool) if stroke is None else stroke.where
        radius = 0.0 if stroke is None else stroke.radius
        before, after = subject.judged(mask), subject.judged(workspace.mask)
        gone = (before == subject.truth) & (after != subject.truth)
        figures = self._answers
        figures["before"].append(subject.dice(mask))
        figures["after"].append(subject.dice(workspace.mask))
        figures["seconds"].append(seconds)
        figures["changed"].append(int(((mask != workspace.mask) & ~where).sum()))
        figures["lost_far"].append(int((gone & farther(where, FAR * radius)).sum()))
        self._fixed_changed += int(((fixed != FREE) & (fixed != workspace.mask)).sum())
        self._remember(Answered(len(self._dice), mask, workspace.mask.copy(), fixed, where))

    def _remember(self, moment: Answered) -> None:
        gain = self._answers["after"][-1] - self._answers["before"][-1]
        moment.gain = gain
        if self._helped is None or gain > self._helped.gain:
            self._helped = moment
        if self._harmed is None or gain < self._harmed.gain:
            self._harmed = moment

    def record(self, most: int) -> Record:
        """Everything, the curves continued to ``most`` strokes."""
        rest = most + 1 - len(self._dice)
        return {
            "strokes": len(self._dice) - 1,
            "dice": self._dice + self._dice[-1:] * rest,
            "painted": self._painted + self._painted[-1:] * rest,
            **self._answers,
            "fixed_changed": self._fixed_changed,
            "helped": None if self._helped is None else self._helped.packed(),
            "harmed": None if self._harmed is None else self._harmed.packed(),
        }


def farther(where: np.ndarray, distance: float) -> np.ndarray:
    """Pixels bool [H, W] farther than ``distance`` from any of ``where``; all where it is empty."""
    if not where.any():
        return np.ones(where.shape, bool)
    return np.asarray(ndimage.distance_transform_edt(~where)) > distance


def _name(subject: SubjectId) -> str:
    return f"{subject.case}/{subject.slice}"


@dataclass(frozen=True)
class AnnotatorRun:
    """One annotator: on which subject, in which arm, with which seed, and the record of it."""

    subject: SubjectId
    arm: str
    seed: int
    record: Record


def summarise(runs: Sequence[AnnotatorRun], policies: Sequence[Policy], strokes: int) -> Content:
    """``arms``, ``differences``, ``cases`` and ``runs`` of the object; plain data."""
    arms = {policy.name: [run for run in runs if run.arm == policy.name] for policy in policies}
    curves = {name: mean_curve(own) for name, own in arms.items()}
    goal = curves[PAINT][-1] if PAINT in curves else None
    areas = areas_for(strokes)
    return {
        "arms": {
            policy.name: {"title": policy.title}
            | _curve_figures(arms[policy.name], curves[policy.name], goal, strokes)
            | harm(arms[policy.name])
            for policy in policies
        },
        "differences": _differences(arms, areas),
        "cases": _cases(arms, areas),
        "runs": [_row(run) for run in runs],
    }


def by_set(
    runs: Sequence[AnnotatorRun], policies: Sequence[Policy], strokes: int
) -> dict[str, Content]:
    """``n`` cases and the curve figures of every arm by set; empty where ids name no set."""
    sets: dict[str, list[AnnotatorRun]] = {}
    for run in runs:
        if name := set_of(run.subject.case):
            sets.setdefault(name, []).append(run)
    summaries = {name: summarise(own, policies, strokes) for name, own in sets.items()}
    return {
        name: {
            "n": len(one["cases"]),
            "arms": {
                arm: {key: figures[key] for key in ("dice", "after", "nauc", "strokes_to")}
                for arm, figures in one["arms"].items()
            },
            "differences": one["differences"],
        }
        for name, one in summaries.items()
    }


def by_case(runs: Sequence[AnnotatorRun], value: Callable[[Record], Any]) -> dict[str, np.ndarray]:
    """A figure of the records by case: the mean over seeds, then over slices."""
    found: dict[str, dict[SubjectId, list[Any]]] = {}
    for run in runs:
        found.setdefault(run.subject.case, {}).setdefault(run.subject, []).append(value(run.record))
    return {
        case: np.mean([np.mean(seeds, 0) for seeds in places.values()], 0)
        for case, places in found.items()
    }


def over_cases(runs: Sequence[AnnotatorRun], value: Callable[[Record], Any]) -> np.ndarray:
    """The mean over cases of a figure of the records."""
    return np.asarray(np.mean(list(by_case(runs, value).values()), 0))


def mean_curve(runs: Sequence[AnnotatorRun]) -> list[float]:
    """Mean Dice after 0, 1, ... strokes."""
    return [float(value) for value in over_cases(runs, lambda record: record["dice"])]


def harm(runs: Sequence[AnnotatorRun]) -> Content:
    """Harm of answers; shares and means are over all answers of an arm."""
    records = [run.record for run in runs]
    answers = sum(len(record["seconds"]) for record in records)
    found: Content = {
        "re_refines": answers,
        "fixed_changed": sum(record["fixed_changed"] for record in records),
    }
    if answers:
        seconds = np.concatenate([record["seconds"] for record in records])
        found |= {
            "lowered": sum(map(lowered, records)) / answers,
            "changed_off_stroke": sum(map(changed_off, records)) / answers,
            "lost_far": sum(sum(record["lost_far"]) for record in records) / answers,
            "seconds": {
                "median": float(np.median(seconds)),
                "p95": float(np.percentile(seconds, 95)),
            },
        }
    return found


def lowered(record: Record) -> int:
    """How many answers lowered Dice by more than the tolerance against the mask before them."""
    pairs = zip(record["before"], record["after"], strict=True)
    return sum(after < before - TOLERANCE for before, after in pairs)


def changed_off(record: Record) -> int:
    """How many answers changed at least one pixel off the stroke."""
    return sum(pixels > 0 for pixels in record["changed"])


def _curve_figures(
    runs: Sequence[AnnotatorRun], curve: list[float], goal: float | None, strokes: int
) -> Content:
    figures: Content = {
        "dice": curve,
        "after": {str(n): curve[n] for n in AFTER if n <= strokes},
        "nauc": {str(k): nauc(curve, k) for k in areas_for(strokes)},
        "strokes_to": {f"{level:.2f}": _reaching(runs, level, strokes) for level in GOALS},
        "painted": float(over_cases(runs, lambda record: record["painted"][-1])),
    }
    if goal is not None:
        first = strokes_to(curve, goal)
        share = None if first is None else first / strokes
        figures["as_painting"] = {"dice": goal, "strokes": first, "share": share}
    return figures


def _reaching(runs: Sequence[AnnotatorRun], goal: float, strokes: int) -> dict[str, float]:
    """Mean strokes to a goal, ``strokes`` where it is never reached, and how many cases those
    are (a case of several seeds or slices counts in parts)."""

    def needed(record: Record) -> tuple[float, float]:
        first = strokes_to(record["dice"], goal)
        return (strokes, 1) if first is None else (first, 0)

    values = np.array(list(by_case(runs, needed).values()))
    return {"mean": float(values[:, 0].mean()), "never": float(values[:, 1].sum())}


def _naucs(runs: Sequence[AnnotatorRun], k: int) -> dict[str, float]:
    """The normalised area by case: that of the mean is the mean of the areas."""
    return {case: nauc(curve, k) for case, curve in by_case(runs, lambda r: r["dice"]).items()}


def _differences(arms: dict[str, list[AnnotatorRun]], areas: Sequence[int]) -> Content:
    """``refine_minus`` every other arm and every arm ``minus_paint``, intervals over cases."""

    def apart(arm: str, other: str) -> Content:
        found = {}
        for k in areas:
            one, two = _naucs(arms[arm], k), _naucs(arms[other], k)
            found[f"nauc_{k}"] = paired_bootstrap([one[case] - two[case] for case in one])._asdict()
        return found

    differences = {}
    if REFINE in arms:
        others = [name for name in arms if name != REFINE]
        differences["refine_minus"] = {name: apart(REFINE, name) for name in others}
    if PAINT in arms:
        others = [name for name in arms if name != PAINT]
        differences["minus_paint"] = {name: apart(name, PAINT) for name in others}
    return differences


def _cases(arms: dict[str, list[AnnotatorRun]], areas: Sequence[int]) -> list[Record]:
    """A row per case: its slices, the kinds of strokes, and its areas by arm."""
    places: dict[str, dict[SubjectId, None]] = {}
    for runs in arms.values():
        for run in runs:
            places.setdefault(run.subject.case, {})[run.subject] = None
    naucs = {k: {name: _naucs(runs, k) for name, runs in arms.items()} for k in areas}
    return [
        {
            "id": case,
            "slices": [place.slice for place in own if place.slice is not None],
            "stroke": sorted({place.kind for place in own}),
        }
        | {f"nauc_{k}": {name: naucs[k][name][case] for name in arms} for k in areas}
        for case, own in places.items()
    ]


def _row(run: AnnotatorRun) -> Content:
    """What one annotator did: the curve, and sums over the answers."""
    record = run.record
    return {
        "case": run.subject.case,
        "slice": run.subject.slice,
        "arm": run.arm,
        "seed": run.seed,
        "strokes": record["strokes"],
        "dice": [round(value, DISPLAYED) for value in record["dice"]],
        "painted": record["painted"][-1],
        "seconds": round(sum(record["seconds"]), DISPLAYED),
        "fixed_changed": record["fixed_changed"],
        "lowered": lowered(record),
        "changed_off_stroke": changed_off(record),
        "lost_far": sum(record["lost_far"]),
    }


def areas_for(strokes: int) -> tuple[int, ...]:
    """The areas that so many strokes allow; the whole curve where they are fewer than any."""
    return tuple(k for k in AREAS if k <= strokes) or (strokes,)


def nauc(curve: ArrayLike, k: int) -> float:
    """Area under Dice_0..Dice_k by trapezoids, divided by k: in [0, 1]."""
    return float(np.trapezoid(np.asarray(curve, np.float64)[: k + 1]) / k)


def strokes_to(curve: ArrayLike, goal: float) -> int | None:
    """The first number of strokes after which Dice is at least ``goal``; None if it never is."""
    reached = np.flatnonzero(np.asarray(curve) >= goal)
    return int(reached[0]) if reached.size else None
