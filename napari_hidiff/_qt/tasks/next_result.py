"""What comes next: another answer to the same strokes, or the next uncertain place."""

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.notifications import show_info

from napari_hidiff._qt import messages, threads
from napari_hidiff._qt.controls.annotate_page import AnnotatePage
from napari_hidiff._qt.layers.annotated_image import AnnotatedImage
from napari_hidiff._qt.tasks.refinement import Refinement
from napari_hidiff._qt.tasks.run_view import Target
from napari_hidiff.annotation.constraints import Guards
from napari_hidiff.annotation.refinement import Settings
from napari_hidiff.annotation.suggestions import Place, RunSamples, look_radius
from napari_hidiff.masks import Index

if TYPE_CHECKING:
    from napari_hidiff.annotation.suggestions import Alternative
    from napari_hidiff.inference.model import HiDiff


class Alternatives:
    """Outlines the alternatives of the last run in turn; draws samples where it has none."""

    def __init__(self, page: AnnotatePage, work: Refinement) -> None:
        self._page, self._work = page, work

    def next(self, target: Target, model: "HiDiff", settings: Settings, guards: Guards) -> None:
        """Outline the next alternative, as soon as it is known.

        guards : what alternatives may change in the mask, if they have to be drawn.

        Raises InputError as :meth:`Refinement.advance`.
        """
        session, samples = target.annotated().session(target.index), self._work.preview.samples
        if samples is None or not samples.are_of(session):
            several = settings.with_samples(model.card)
            show_info(messages.drawing(several))
            self._work.advance(
                target, model, several, restart=guards, then=lambda: self._seek(target)
            )
        elif samples.shares is None:
            self._seek(target)
        else:
            self._outline(target, samples)

    def _seek(self, target: Target) -> None:
        samples = self._work.preview.samples
        if samples is None:
            return

        def found(alternatives: "list[Alternative]") -> None:
            session = target.annotated().session(target.index)
            if samples.run is session.run:
                samples.offer(alternatives)
                shares = [round(share, 4) for share in samples.shares or ()]
                target.annotated().annotation.journal.alternatives(target.index, shares)
                self._outline(target, samples)

        self._work.seek("comparing answers", threads.alternatives, samples.each, done=found)

    def _outline(self, target: Target, samples: RunSamples) -> None:
        if len(samples.shares or ()) < 2:
            show_info(messages.agree(len(samples.each)))
        else:
            shown = samples.after(self._page.steps_slider.value())
            target.annotated().annotation.journal.show(target.index, shown)
            self._work.preview.show(target.annotated(), target.index, shown)
            self._work.changed.emit()


def look_at(viewer: Any, annotated: AnnotatedImage, index: Index, place: Place) -> None:
    """Mark a place in a slice and move the camera there; where the whole layer is in view, closer
    as well."""
    layer, at = annotated.mask, iter(place[:2])
    position = [next(at) if axis < 0 else axis for axis in index]
    sides = [size for size, axis in zip(layer.data.shape, index, strict=True) if axis < 0]
    annotated.mark(index, position, look_radius((sides[0], sides[1])) / 2)
    first = viewer.dims.ndim - layer.ndim
    axes = [axis - first for axis in viewer.dims.displayed]
    camera, world = viewer.scene.camera, np.array(layer.data_to_world(position))
    camera.center = (*camera.center[:-2], *world[axes])
    size = np.ptp(layer.extent.world, axis=0)[axes]
    canvas = np.array(viewer.canvas.viewbox_size(viewer.layers))
    if np.all(canvas / camera.zoom >= size):
        camera.zoom = 2 * float((canvas / size).min())  # half of both sides: a quarter of the image
