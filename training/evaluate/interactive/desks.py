"""Where strokes and answers meet: the plugin's session, or, for one arm, a mask without one."""

from collections.abc import Callable, Iterable

import numpy as np

from napari_hidiff.annotation.constraints import Guards, Local
from napari_hidiff.annotation.session import Prior, Session
from napari_hidiff.annotation.undo import FREE
from napari_hidiff.diffusion.samplers import Step

Steps = Callable[[np.ndarray, Local | None], Iterable[Step]]
"""The steps of a re-refinement, given the fixed map int [H, W] and what has to be computed."""


class Desk:
    """A session driven as the plugin drives it: segment, paint, re-refine, write.

    prior : of the segmentor; its mask is the first.  labels : of the model.
    """

    def __init__(self, prior: Prior, labels: int) -> None:
        self.session = Session(np.zeros_like(prior.mask))
        self.session.prior = prior
        self.session.wrote(prior.mask)
        self._labels = labels

    @property
    def mask(self) -> np.ndarray:
        """The mask as it stands, uint8 [H, W]; do not write."""
        return self.session.timeline.content

    @property
    def fixed(self) -> np.ndarray:
        """int32 [H, W], the label of every painted pixel, -1 elsewhere."""
        return self.session.timeline.fixed

    def paint(self, values: np.ndarray) -> None:
        """A stroke int [H, W], -1 off it; it also fixes pixels that have its label already."""
        timeline = self.session.timeline
        timeline.painted(np.where(values != FREE, values, self.mask).astype(self.mask.dtype))
        timeline.confirm(np.flatnonzero(values != FREE))

    def refine(self, steps: Steps, total: int, prior: Prior, guards: Guards) -> None:
        """A run of ``total`` steps from a prior, whose last step is written into the mask."""
        session = self.session
        session.prior = prior
        run = session.start(total, self._labels, guards)
        for step in steps(run.fixed, run.local):
            session.add_step(step.mask, step.probability)
        session.wrote(session.view(run.steps), run.steps)

    def complete(self, mask: np.ndarray) -> None:
        """Write a mask [H, W] that is not from a run around the painted pixels."""
        self.session.wrote(self.session.timeline.around_fixed(mask))


class OpenDesk(Desk):
    """The same without a clamp. A session always restores painted pixels, so this arm alone keeps
    its mask and its strokes itself."""

    def __init__(self, prior: Prior, labels: int) -> None:
        super().__init__(prior, labels)
        self._mask = prior.mask.copy()
        self._strokes = np.full(prior.mask.shape, FREE, np.int32)

    @property
    def mask(self) -> np.ndarray:
        return self._mask

    @property
    def fixed(self) -> np.ndarray:
        return self._strokes.copy()

    def paint(self, values: np.ndarray) -> None:
        where = values != FREE
        self._strokes[where] = values[where]
        self._mask = np.where(where, values, self._mask).astype(self._mask.dtype)

    def refine(self, steps: Steps, total: int, prior: Prior, guards: Guards) -> None:
        *_, last = steps(np.full_like(self._strokes, FREE), None)
        self._mask = last.mask

    def complete(self, mask: np.ndarray) -> None:
        self._mask = mask.astype(self._mask.dtype)
