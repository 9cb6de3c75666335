"""The first images of a kind: strokes until all are good, with nothing to begin with.

A simulated annotator brings every image of a set to a Dice of :data:`GOAL`, one after another. In
one arm a small segmentor is trained on the finished masks after each :data:`EVERY` images, and is
used for the images that follow where it is better than none on the images held out.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_hidiff.errors import InputError
from napari_hidiff.inference.catalog import load_model, read_card
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.training import simulated_annotator
from napari_hidiff.training.datasets import Case, Dataset
from napari_hidiff.training.universal.own_segmentor import AGAIN, OWN_RECIPE

from ..output import Content, plain
from ..scoring import set_of
from ..study import (
    OnCase,
    Options,
    Record,
    Study,
    digest,
    files_of,
    fingerprint,
    pack_array,
    silent,
    unpack_array,
)
from .first_images_report import PICTURE, draw
from .own_models import Finished, own_model
from .policies import POLICIES, Answer, Policy, answer_of, arm_settings
from .subjects import LazyCase, Subject, Workspace

GOAL = 0.90
"""Dice at which an image is finished."""
EVERY = 8
"""Images after which the segmentor is trained again."""
POOR = 0.5
"""Dice of a first mask below which the annotator clears it, which counts as a stroke."""
TARGETS = {"walker-strokes": 1 / 3, "refine": 2 / 3}
"""What share of another arm's strokes the own segmentor may need at most."""
OWN = "own"
ARMS = {
    "paint": "paint only",
    "walker-strokes": "random walker from strokes",
    "refine": "universal",
    OWN: "universal + own segmentor",
}


class FirstImages:
    """The annotators of all arms on the images of one set, in the order of a seed."""

    def __init__(
        self, model: HiDiff, dataset: Dataset, options: Options, study: Study, folder: Path
    ) -> None:
        self.model, self.dataset, self.options = model, dataset, options
        self.study, self.folder = study, folder
        self._print = fingerprint(model)
        self._loaded: tuple[str, HiDiff] | None = None

    def alone(self, arm: str, case: Case) -> Record:
        """An arm in which no image depends on another."""
        policy = POLICIES[arm]
        decides = self._decides(case) | {"arm": arm}
        if policy.answer == "model":
            decides["model"] = self._print
        return self.study.records.get(
            f"{arm}-{case.id}",
            decides,
            lambda: self._annotated(policy, self.model, self._subject(self.model, case)),
        )

    def own(self, cases: Sequence[Case], seed: int) -> tuple[list[Record], list[Content]]:
        """The arm with a segmentor trained again and again: its records in the order of ``cases``,
        and what every training was worth."""
        records: list[Record] = []
        rounds: list[Content] = []
        start = self.options.model
        chain: list[Any] = [self._print, seed, OWN_RECIPE, AGAIN]
        for first in range(0, len(cases), EVERY):
            if first:
                chain = [digest({"chain": chain, "masks": [r["mask"] for r in records]})]
                start = self._trained(cases[:first], records, seed, start, chain[0])
                rounds.append({"images": first} | held_out(start))
            for case in cases[first : first + EVERY]:
                if not (first and rounds[-1]["better"]):
                    records.append(self.alone("refine", case))
                    continue
                records.append(self._from_draft(start, case, seed, chain[0]))
        return records, rounds

    def _trained(
        self, cases: Sequence[Case], records: Sequence[Record], seed: int, start: str, key: str
    ) -> str:
        """The file of the model with a segmentor trained on these images."""
        finished = []
        for case, record in zip(cases, records, strict=True):
            image = self.dataset.load(case).image
            mask = unpack_array(record["mask"], image.shape[:2])
            name = case.id.replace("/", "-")
            finished.append(Finished(name, np.asarray(image, np.uint8), mask))
        name = f"{set_of(cases[0].id)}-s{seed}-{len(cases)}-{key[:8]}"
        self.study.on_case(0.0, f"training on {len(cases)} images of {set_of(cases[0].id)}")
        folder = self.folder / "own" / name
        return str(own_model(start, finished, seed, folder, str(self.model.device)))

    def _own(self, file: str) -> HiDiff:
        """The model of a file; the last one stays loaded."""
        if self._loaded is None or self._loaded[0] != file:
            device, engine = str(self.model.device), self.model.backend.wanted
            self._loaded = file, load_model(file, device, engine)
        return self._loaded[1]

    def _from_draft(self, file: str, case: Case, seed: int, key: str) -> Record:
        """An image that begins with the mask of an own segmentor, unless that is poor."""

        def compute() -> Record:
            own = self._own(file)
            found = self._annotated(POLICIES["refine"], own, self._subject(own, case))
            if not found["cleared"]:
                return found
            alone = self.alone("refine", case)
            more = {"cleared": True, "draft": found["draft"]}
            return alone | {"strokes": min(alone["strokes"] + 1, self.options.strokes)} | more

        decides = self._decides(case) | {"chain": key, "poor": POOR}
        return self.study.records.get(f"{OWN}-s{seed}-{case.id}", decides, compute)

    def _annotated(self, policy: Policy, model: HiDiff, subject: Subject) -> Record:
        settings = arm_settings(policy, model, self.options)
        answer = answer_of(policy, subject, model, settings, self.options.seeds[0])
        return to_goal(subject, answer, self.options.strokes)

    def _subject(self, model: HiDiff, case: Case) -> Subject:
        loaded = LazyCase(case, self.dataset, model)
        (place,) = loaded.subjects(1, self.options.stroke)
        return loaded.subject(place)

    def _decides(self, case: Case) -> dict[str, Any]:
        return {
            "data": [self.dataset.name, self.dataset.longest_side],
            "files": files_of(case),
            "strokes": self.options.strokes,
            "stroke": self.options.stroke,
            "goal": GOAL,
        }


def to_goal(subject: Subject, answer: Answer | None, most: int) -> Record:
    """Strokes on a subject until its mask is good, at most ``most``; JSON-able data.

    A first mask of the model, refined without a stroke, is where it begins; a poor one is cleared,
    and that ends it here.

    Entries: ``draft``, Dice of the first mask; ``cleared``; ``strokes``; ``dice`` before the first
    and after each; ``reached``, whether it is good at the end; ``seconds`` of all answers;
    ``mask``, the last, packed.
    """
    workspace = Workspace(subject.prior, subject.model.labels)
    if answer is not None and workspace.mask.any():
        answer(workspace)
    dice, seconds = [subject.dice(workspace.mask)], 0.0
    cleared = bool(workspace.mask.any()) and dice[0] < POOR
    for _ in range(most):
        if cleared or dice[-1] >= GOAL:
            break
        stroke = simulated_annotator.next_stroke(workspace.mask, subject.truth, subject.id.kind)
        if stroke is None:
            break
        workspace.paint(simulated_annotator.painted(stroke, subject.truth, subject.model.labels))
        if answer is not None:
            begin = time.perf_counter()
            answer(workspace)
            seconds += time.perf_counter() - begin
        dice.append(subject.dice(workspace.mask))
    return {
        "strokes": len(dice) - 1,
        "draft": dice[0],
        "cleared": cleared,
        "dice": dice,
        "reached": dice[-1] >= GOAL,
        "seconds": seconds,
        "mask": pack_array(workspace.mask),
    }


def run(
    model: HiDiff,
    dataset: Dataset,
    cases: Sequence[Case],
    options: Options,
    state: Path,
    on_case: OnCase = silent,
) -> Content:
    """All arms on every set; plain data, and the curves as a picture in ``state``.

    docs/own-model.md describes the object. InputError: a model that needs no prompt, an unknown
    arm, a bad case, or ``state`` cannot be written.
    """
    if not model.card.needs_prompt:
        raise InputError(f"{model.card.name}: the experiment is about a model that needs a prompt")
    names = options.arms or tuple(ARMS)
    if unknown := [name for name in names if name not in ARMS]:
        raise InputError(f"unknown arm {unknown[0]!r}: choose from {', '.join(ARMS)}")
    study = Study(state / "records", on_case)
    work = FirstImages(model, dataset, options, study, state)
    sets: dict[str, list[Case]] = {}
    for case in cases:
        sets.setdefault(set_of(case.id) or dataset.name, []).append(case)
    found, done = {}, 0
    for name, own in sets.items():
        found[name] = of_set(work, own, names, done)
        done += len(own)
        on_case(done, f"{name} is done")
    content = plain({"goal": GOAL, "every": EVERY, "sets": found, "pictures": [PICTURE]})
    content |= {"strokes": options.strokes, "met": [n for n, one in found.items() if one["met"]]}
    draw(content, state / PICTURE)
    return content


def of_set(work: FirstImages, cases: Sequence[Case], names: Sequence[str], done: int) -> Content:
    """The strokes of every arm on a set: sums by seed, and how they grow from image to image."""
    runs: dict[str, list[list[Record]]] = {}
    for arm in (name for name in names if name != OWN):
        by_id = {}
        for number, case in enumerate(cases):
            work.study.on_case(done + number / len(cases) / len(names), case)
            by_id[case.id] = work.alone(arm, case)
        runs[arm] = [[by_id[case.id] for case in order] for order in orders(cases, work.options)]
    rounds = []
    if OWN in names:
        runs[OWN] = []
        for seed, order in zip(work.options.seeds, orders(cases, work.options), strict=True):
            records, worth = work.own(order, seed)
            runs[OWN].append(records)
            rounds.append(worth)
    arms = {arm: _figures(own) for arm, own in runs.items()}
    shares = {
        other: _shares(arms[OWN], arms[other]) for other in arms if OWN in arms and other != OWN
    }
    met = all(
        shares[other]["mean"] <= most for other, most in TARGETS.items() if other in shares
    ) and set(TARGETS) <= set(shares)
    return {"n": len(cases), "arms": arms, "shares": shares, "met": met, "trainings": rounds}


def orders(cases: Sequence[Case], options: Options) -> list[list[Case]]:
    """The images in the order of every seed."""
    return [
        [cases[i] for i in np.random.default_rng(seed).permutation(len(cases))]
        for seed in options.seeds
    ]


def _figures(runs: Sequence[Sequence[Record]]) -> Content:
    """``strokes`` in all by seed; ``curve``, the mean over seeds of the sum so far, by image;
    ``reached``, the share of images; ``dice``, the mean at their ends; ``cleared``, first masks a
    seed; ``seconds`` an answer.
    """
    curves = np.cumsum([[one["strokes"] for one in run] for run in runs], 1)
    flat = [one for run in runs for one in run]
    answers = sum(len(one["dice"]) - 1 for one in flat)
    return {
        "strokes": [int(value) for value in curves[:, -1]],
        "mean": float(curves[:, -1].mean()),
        "low": int(curves[:, -1].min()),
        "high": int(curves[:, -1].max()),
        "curve": curves.mean(0).tolist(),
        "reached": float(np.mean([one["reached"] for one in flat])),
        "dice": float(np.mean([one["dice"][-1] for one in flat])),
        "cleared": sum(one["cleared"] for one in flat) / len(runs),
        "seconds": sum(one["seconds"] for one in flat) / max(1, answers),
    }


def _shares(one: Content, other: Content) -> dict[str, float]:
    """Strokes of an arm as shares of those of another: mean, lowest and highest of the seeds."""
    shares = np.array(one["strokes"]) / np.array(other["strokes"]).clip(1)
    return {"mean": float(shares.mean()), "low": float(shares.min()), "high": float(shares.max())}


def held_out(file: str) -> Content:
    """What the training of an own segmentor says about it, in its model's file."""
    report = read_card(Path(file)).training["held_out"]
    return {"better": report["better"], "mean": report["mean"], "n": len(report["cases"])}
