"""One annotator on one subject: strokes on the largest error, an answer after each, a record."""

import time
from typing import Any
from zlib import crc32

import numpy as np
from scipy import ndimage

from napari_hidiff.annotation.undo import FREE
from napari_hidiff.training import simulated_annotator

from .answers import Answer
from .desks import Desk, OpenDesk
from .moments import Moment
from .policies import Policy
from .subjects import Place, Subject

TOLERANCE = 0.0005
"""A loss of Dice that does not count as one."""
FAR = 2
"""Pixels farther from the stroke than so many of its radii are far from it."""


def annotate(
    subject: Subject,
    policy: Policy,
    answer: Answer | None,
    most: int,
    seed: int = 0,
    wrong: float = 0.0,
) -> dict[str, Any]:
    """Up to ``most`` strokes on a subject; what happened, as JSON-able data.

    Entries: ``dice`` [most + 1], after so many strokes and their answers; it stays at its last
    value once no error is left. ``painted`` [most + 1], pixels of all strokes so far.
    ``strokes``: how many there were. For every answer an entry of ``before`` (Dice just before it,
    with the stroke), ``after``, ``seconds``, ``changed`` (pixels off the stroke) and ``lost_far``
    (correct pixels lost farther than 2 r from it). ``fixed_changed``: painted pixels that answers
    changed, in all. ``helped`` and ``harmed``: the answers that gained and lost most Dice, packed
    (:class:`Moment`), or None.

    wrong : share of strokes with a wrong label, in an arm that has any; ``seed`` and the subject
    decide which.
    """
    desk = (Desk if policy.clamp else OpenDesk)(subject.prior, subject.model.labels)
    log = Log(subject, desk)
    rng = np.random.default_rng([seed, crc32(_name(subject.place).encode())])
    if answer is not None and policy.once:
        log.answered(answer, None)
    log.stroke_done(0)
    for _ in range(most):
        judged = subject.judged(desk.mask)
        stroke = simulated_annotator.next_stroke(judged, subject.truth, subject.place.kind)
        if stroke is None:
            break
        mistaken = rng if policy.wrong and rng.random() < wrong else None
        desk.paint(
            simulated_annotator.painted(stroke, subject.truth, subject.model.labels, mistaken)
        )
        if answer is not None and not policy.once:
            log.answered(answer, stroke)
        log.stroke_done(int(stroke.where.sum()))
    return log.record(most)


class Log:
    """Watches a desk and keeps the figures."""

    def __init__(self, subject: Subject, desk: Desk) -> None:
        self._subject, self._desk = subject, desk
        self._dice: list[float] = []
        self._painted: list[int] = []
        self._answers: dict[str, list[Any]] = {
            name: [] for name in ("before", "after", "seconds", "changed", "lost_far")
        }
        self._fixed_changed = 0
        self._helped: Moment | None = None
        self._harmed: Moment | None = None

    def stroke_done(self, pixels: int) -> None:
        """A stroke of so many pixels was painted and answered."""
        self._dice.append(self._subject.dice(self._desk.mask))
        self._painted.append((self._painted or [0])[-1] + pixels)

    def answered(self, answer: Answer, stroke: simulated_annotator.Stroke | None) -> None:
        """Let the answer come, to a stroke or to none, and keep what it did."""
        subject, desk = self._subject, self._desk
        mask, fixed = desk.mask.copy(), desk.fixed
        start = time.perf_counter()
        answer(desk)
        seconds = time.perf_counter() - start
        where = np.zeros(mask.shape, bool) if stroke is None else stroke.where
        radius = 0.0 if stroke is None else stroke.radius
        before, after = subject.judged(mask), subject.judged(desk.mask)
        gone = (before == subject.truth) & (after != subject.truth)
        kept = self._answers
        kept["before"].append(subject.dice(mask))
        kept["after"].append(subject.dice(desk.mask))
        kept["seconds"].append(seconds)
        kept["changed"].append(int(((mask != desk.mask) & ~where).sum()))
        kept["lost_far"].append(int((gone & farther(where, FAR * radius)).sum()))
        self._fixed_changed += int(((fixed != FREE) & (fixed != desk.mask)).sum())
        self._remember(Moment(len(self._dice), mask, desk.mask.copy(), fixed, where))

    def _remember(self, moment: Moment) -> None:
        gain = self._answers["after"][-1] - self._answers["before"][-1]
        moment.gain = gain
        if self._helped is None or gain > self._helped.gain:
            self._helped = moment
        if self._harmed is None or gain < self._harmed.gain:
            self._harmed = moment

    def record(self, most: int) -> dict[str, Any]:
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


def _name(place: Place) -> str:
    return f"{place.case}/{place.slice}"
