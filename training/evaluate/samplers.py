"""Ways to refine with one model: a sampler with its steps and samples, by name."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from napari_hidiff.inference import volumes
from napari_hidiff.inference.model import HiDiff

from .arms import Subject
from .link import unlinked


@dataclass(frozen=True)
class Way:
    """A sampler (``one-step``, ``ddim``, ``ancestral``) with its steps and samples.

    unlink : undo the focal loss's link in what the network predicts (:mod:`.link`).
    """

    sampler: str
    steps: int = 1
    samples: int = 1
    unlink: bool = False

    def probability(self, model: HiDiff, subject: Subject, seed: int) -> np.ndarray:
        """The refined probability of a subject, float32 [K, D, H, W]."""
        used = unlinked(model) if self.unlink else model
        return volumes.refine(
            used,
            subject.planes,
            subject.prior,
            sampler=self.sampler,
            steps=self.steps,
            samples=self.samples,
            seed=seed,
        )

    @property
    def forwards(self) -> int:
        """Passes of the refiner."""
        return self.steps * self.samples


WAYS: Mapping[str, Way] = {
    "one-step": Way("one-step"),
    "ddim-2x1": Way("ddim", 2),
    "ddim-2x5": Way("ddim", 2, 5),
    "ddim-3x1": Way("ddim", 3),
    "ddim-3x5": Way("ddim", 3, 5),
    "ddim-5x1": Way("ddim", 5),
    "ddim-5x5": Way("ddim", 5, 5),
    "ddim-10x1": Way("ddim", 10),
    "ddim-10x5": Way("ddim", 10, 5),
    "ancestral-10x1": Way("ancestral", 10),
    "ancestral-10x5": Way("ancestral", 10, 5),
}
"""Every way by its name, sampler-STEPSxSAMPLES; any of them may end in ``-unlinked``."""
UNLINKED = "-unlinked"


def way_of(name: str) -> Way:
    """The way of a name; KeyError for others."""
    if name.endswith(UNLINKED):
        return replace(WAYS[name.removesuffix(UNLINKED)], unlink=True)
    return WAYS[name]


def spelled(names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Ways by name as plain data."""
    return {name: asdict(way_of(name)) for name in names}
