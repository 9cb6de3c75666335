"""A layer whose history is tested: what napari does to a mask, without napari."""

import numpy as np

from napari_hidiff.annotation.undo import MaskHistory

SHAPE = (12, 16)
STROKE = (slice(2, 5), slice(3, 9))
OTHER = (slice(7, 9), slice(0, 4))


class Layer:
    """A mask with a linear history as napari's Labels layer keeps it, reporting to a timeline."""

    def __init__(self) -> None:
        self.data = np.zeros(SHAPE, np.uint8)
        self.timeline = MaskHistory(self.data)
        self._past: list[np.ndarray] = []
        self._future: list[np.ndarray] = []

    def paint(self, where: tuple[slice, slice], label: int) -> None:
        self._put(where, label)
        self.timeline.painted(self.data)

    def write(self, mask: np.ndarray) -> None:
        self._put(..., self.timeline.around_fixed(mask))
        self.timeline.wrote(self.data)

    def undo(self) -> None:
        self._travel(self._past, self._future)

    def redo(self) -> None:
        self._travel(self._future, self._past)

    def _put(self, where: object, value: object) -> None:
        before = self.data.copy()
        self.data[where] = value
        if not np.array_equal(before, self.data):  # an edit without effect has no history
            self._past.append(before)
            self._future.clear()

    def _travel(self, source: list[np.ndarray], target: list[np.ndarray]) -> None:
        if source:
            target.append(self.data.copy())
            self.data[...] = source.pop()
            self.timeline.moved(self.data)


def model_mask(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, SHAPE).astype(np.uint8)
