"""What the boxes on top of the panel say: the image, where it is worked on, what to start from."""

from typing import Any

import numpy as np
from napari.layers import Image, Labels
from napari.viewer import Viewer

from napari_hidiff._qt.bench import Bench
from napari_hidiff._qt.benches import Benches
from napari_hidiff._qt.layers import channel_axes, labels_of, mask_shape, shown_plane
from napari_hidiff._qt.models import Models
from napari_hidiff._qt.runs import Target
from napari_hidiff.card import Card
from napari_hidiff.errors import InputError
from napari_hidiff.session import Session, slicer


class Chosen:
    """The chosen image, with its bench, and the chosen Labels layer.

    viewer : napari's viewer; boxes : those of :func:`choices.choose_box`.
    """

    def __init__(self, viewer: Viewer, boxes: Any, benches: Benches, models: Models) -> None:
        self._viewer, self._boxes, self._benches, self._models = viewer, boxes, benches, models

    @property
    def image(self) -> Image | None:
        """The chosen image layer."""
        image: Image | None = self._boxes.image.value
        return image

    @property
    def bench(self) -> Bench | None:
        """The workbench of the chosen image, once something was done to it."""
        return self._benches.of(self.image)

    @property
    def session(self) -> Session | None:
        """The session of the shown slice, once something was done to it."""
        try:
            target = self.target()
        except InputError:
            return None
        return self.bench.annotation.sessions.get(target.index) if self.bench else None

    @property
    def card(self) -> Card | None:
        """The card of the loaded model."""
        return self._models.model.card if self._models.model else None

    def target(self) -> Target:
        """The shown slice; raises InputError for an image or a view that is refused."""
        image = self.image
        if image is None:
            raise InputError("Open an image and choose it first.")
        plane = shown_plane(self._viewer.dims, image, self._leading(image))
        return Target(lambda: self._benches.open(image, self.card), plane.index, plane.image)

    def labels(self) -> np.ndarray | None:
        """The labels to start from, of the whole mask's shape; None: the model's own.

        Raises InputError for labels that do not fit the image.
        """
        layer: Labels | None = self._boxes.prior.value
        if layer is None or self.image is None:
            return None
        return labels_of(layer, mask_shape(self.image, self._leading(self.image)))

    def mask(self, target: Target) -> np.ndarray | None:
        """The slice [H, W] of :meth:`labels` to start from."""
        labels = self.labels()
        return None if labels is None else labels[slicer(target.index)]

    def _leading(self, image: Image) -> int:
        return self.bench.leading if self.bench else channel_axes(image, self.card)
