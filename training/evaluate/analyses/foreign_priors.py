"""Masks from elsewhere, refined once without a stroke: does it help, and does it do no harm?

A mask is what a prior may be: of another program, of a neighbouring slice, drawn in haste. Here
such masks are made from the truth, or come from a second model.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from scipy import ndimage

from napari_hidiff.errors import InputError
from napari_hidiff.inference import volumes
from napari_hidiff.inference.box import found_in
from napari_hidiff.inference.catalog import load_model
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import Box, dice
from napari_hidiff.training.datasets import Case, Dataset

from ..damage import damage
from ..output import Content, Report, Table, figure, interval, numbers, plain, verdict
from ..scoring import foreground_slices, set_of
from ..study import OnCase, Options, Record, Study, Task, files_of, fingerprint, silent
from .scored import mean_interval

FORMAT = 3
"""Raise it when the figures of a record change their meaning: records are then computed anew."""
BORDER, SHIFT, SCALE = 0.08, 0.2, 1.25
"""Of the object's size (the root of its pixels): how far its border moves, how far the object
moves; and by which factor it is too large or too small."""
TOLERANCE = 0.0005
"""A change of Dice that counts as none."""

Mask = np.ndarray
Maker = Callable[[Mask, np.random.Generator], Mask]
"""(truth bool [H, W], random) -> mask bool [H, W]."""


def grown(truth: Mask, rng: np.random.Generator) -> Mask:
    """The border too far out."""
    found: Mask = ndimage.distance_transform_edt(~truth) <= BORDER * _size(truth)
    return found


def shrunk(truth: Mask, rng: np.random.Generator) -> Mask:
    """The border too far in; the deepest pixels stay."""
    depth = ndimage.distance_transform_edt(truth)
    found: Mask = depth > min(BORDER * _size(truth), 0.7 * depth.max())
    return found


def shifted(truth: Mask, rng: np.random.Generator) -> Mask:
    """The object elsewhere, in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    offset = SHIFT * _size(truth) * np.array([np.sin(angle), np.cos(angle)])
    return np.asarray(ndimage.shift(truth.astype(np.uint8), offset, order=0) > 0)


def scaled(truth: Mask, rng: np.random.Generator) -> Mask:
    """The object too large or too small, as in a neighbouring slice."""
    factor = SCALE if rng.random() < 0.5 else 1 / SCALE
    centre = np.array(ndimage.center_of_mass(truth))
    offset = centre - centre / factor
    found = ndimage.affine_transform(truth.astype(np.uint8), np.eye(2) / factor, offset, order=0)
    return np.asarray(found > 0)


def holed(truth: Mask, rng: np.random.Generator) -> Mask:
    """Holes, cuts, and a few places too thick (:mod:`..damage`)."""
    prior = damage(truth[None].astype(np.float32), int(rng.integers(2**31)))
    found: Mask = prior[0] >= 0.5
    return found


MAKERS: Mapping[str, Maker] = {
    "exact": lambda truth, rng: truth,
    "grown": grown,
    "shrunk": shrunk,
    "shifted": shifted,
    "scaled": scaled,
    "holes": holed,
}
"""The masks by name."""
BOX = "box"
"""The whole box around the object, which a prompted model takes as a box."""
MODEL = "second model"
"""The mask of the model that ``--control`` names; a prompted one is handed the object's box."""


class Job(NamedTuple):
    """One slice of a case, None for a picture."""

    slice: int | None


class Priors:
    """The tasks of the experiment: all masks of a picture, or of some slices of a volume."""

    def __init__(self, model: HiDiff, dataset: Dataset, options: Options) -> None:
        self.model, self.dataset, self.options = model, dataset, options
        wanted = options.sampler, options.steps, options.samples
        self.sampling = model.sampling(*wanted, seed=options.seeds[0])
        self.second: HiDiff | None = None
        if options.control is not None:
            self.second = load_model(str(options.control), str(model.device), model.backend.wanted)
        models = [one for one in (model, self.second) if one is not None]
        self._decides = {
            "measured": FORMAT,
            "data": [dataset.name, dataset.longest_side],
            "models": [fingerprint(one) for one in models],
            "settings": [self.sampling.sampler, self.sampling.steps, self.sampling.samples],
            "seed": self.sampling.seed,
        }

    def tasks(self, case: Case) -> list[Task[Job]]:
        """One task for all of a case."""
        decides = {**self._decides, "files": files_of(case), "slices": self.options.slices}
        return [Task(Job(None), f"priors-{case.id}", decides, lambda: self.scores(case))]

    def scores(self, case: Case) -> Record:
        """Dice before and after by kind of mask, means over the slices of a volume."""
        sample = self.dataset.load(case)
        planes, truths = sample.image, sample.mask > 0
        if not sample.volume:
            planes, truths = planes[None], truths[None]
        given = {} if self.second is None else {MODEL: self._segmented(planes, truths)}
        seen = volumes.normalise(self.model, planes)
        rows: dict[str, list[tuple[float, float]]] = {}
        for z in foreground_slices(truths, self.options.slices):
            rng = np.random.default_rng(crc32(f"{case.id}/{z}".encode()))
            masks = {name: make(truths[z], rng) for name, make in MAKERS.items()}
            masks |= {name: mask[z] for name, mask in given.items()}
            priors = {name: mask.astype(np.uint8) for name, mask in masks.items()}
            if self.model.card.prompted:
                box = Box.around(truths[z])
                priors[BOX] = found_in(self.model, planes[z], box)
                masks[BOX] = np.zeros_like(truths[z])
                masks[BOX][box.y0 : box.y1, box.x0 : box.x1] = True
            for name, mask in masks.items():
                if mask.any():  # an empty mask points at nothing
                    after = self._refined(seen[z], priors[name])
                    before = dice(mask, truths[z])
                    rows.setdefault(name, []).append((before, dice(after, truths[z])))
        means = {name: np.mean(pairs, 0).tolist() for name, pairs in rows.items()}
        return {name: {"before": pair[0], "after": pair[1]} for name, pair in means.items()}

    def _segmented(self, planes: np.ndarray, truths: Mask) -> Mask:
        assert self.second is not None
        if self.second.card.prompted:
            found = np.zeros(truths.shape, bool)
            for z in np.flatnonzero(truths.any((1, 2))):
                found[z] = found_in(self.second, planes[z], Box.around(truths[z]))
            return found
        prior = volumes.prior(self.second, volumes.normalise(self.second, planes))
        return self.second.mask_of(prior, 0) > 0

    def _refined(self, plane: np.ndarray, prior: np.ndarray) -> Mask:
        how = self.sampling
        found = self.model.refine(
            plane,
            prior,
            sampler=how.sampler,
            steps=how.steps,
            samples=how.samples,
            seed=how.seed,
            normalised=True,
        )
        return found.mask > 0


def run(
    model: HiDiff,
    dataset: Dataset,
    cases: Sequence[Case],
    options: Options,
    state: Path,
    on_case: OnCase = silent,
) -> Content:
    """Refine every mask of every case once, without a stroke; plain data.

    ``kinds``: of each kind of mask ``n``, the mean Dice ``before`` and ``after``, their
    ``difference`` with its interval over cases, and the shares of cases that got ``better`` and
    ``worse`` by more than ``tolerance``. ``sets``: the same by set. ``images``: each case.

    InputError: a model of several classes, or a case is bad.
    """
    if model.labels != 2:
        raise InputError(f"{model.card.name} has several classes; these masks are of one object")
    priors = Priors(model, dataset, options)
    found = [
        (case.id, next(iter(records.values())))
        for case, records in Study(state, on_case).run(cases, priors.tasks)
    ]
    sets = sorted({set_of(id_) for id_, _ in found} - {""})
    how = priors.sampling
    return plain(
        {
            "pictures": [],
            "tolerance": TOLERANCE,
            "settings": {"sampler": how.sampler, "steps": how.steps, "samples": how.samples},
            "kinds": compared([record for _, record in found]),
            "sets": {
                name: compared([record for id_, record in found if set_of(id_) == name])
                for name in sets
            },
            "images": [{"id": id_, **record} for id_, record in found],
        }
    )


def compared(records: Sequence[Record]) -> dict[str, Any]:
    """Before and after by kind of mask, over cases."""
    rows = {}
    for name in (*MAKERS, BOX, MODEL):
        pairs = [(r[name]["before"], r[name]["after"]) for r in records if name in r]
        if not pairs:
            continue
        before, after = np.array(pairs).T
        rows[name] = {
            "n": len(pairs),
            "before": float(before.mean()),
            "after": float(after.mean()),
            "difference": mean_interval(after - before),
            "better": float((after - before > TOLERANCE).mean()),
            "worse": float((before - after > TOLERANCE).mean()),
        }
    return rows


def report(content: Content) -> Report:
    """A row per kind of mask; whether refinement helps it."""
    heads = ["mask", "n", "Dice before", "after", "difference", "better", "worse"]
    tables = {name: Table(heads, _rows(kinds)) for name, kinds in content["sets"].items()}
    lines = [
        f"- {name}: refined {verdict(row['difference'], 'the mask')}."
        for name, row in content["kinds"].items()
    ]
    table = Table(heads, _rows(content["kinds"]))
    facts = f"{content['settings']['sampler']}; seed {numbers(content['seeds'][:1])}"
    return Report(f"`{content['model']}`", lines, table, facts, tables)


def _rows(kinds: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            *(name, str(row["n"]), figure(row["before"]), figure(row["after"])),
            *(interval(row["difference"]), f"{row['better']:.0%}", f"{row['worse']:.0%}"),
        ]
        for name, row in kinds.items()
    ]


def _size(truth: Mask) -> float:
    return float(np.sqrt(truth.sum()))
