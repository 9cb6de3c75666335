"""The class list at work: which class is painted with, hidden or frozen on the chosen mask."""

import contextlib
from weakref import WeakKeyDictionary

import numpy as np
from napari.utils import DirectLabelColormap
from napari.utils.notifications import show_info
from qtpy.QtCore import QTimer

from napari_hidiff._qt.controls.class_list import ClassesBox
from napari_hidiff._qt.layers import layer_data
from napari_hidiff._qt.layers.annotated_image import AnnotatedImage
from napari_hidiff._qt.tasks.selection import Selection
from napari_hidiff.errors import InputError
from napari_hidiff.masks import Label, slicer

COUNTING = 120
"""Milliseconds without a change after which pixels are counted."""


class Classes:
    """Joins the class list to the mask of the chosen image."""

    def __init__(self, box: ClassesBox, selection: Selection) -> None:
        self.box, self._selection = box, selection
        box.chosen.connect(self.paint_with)
        box.shown.connect(self.show)
        box.frozen.connect(self.freeze)
        self._hidden: WeakKeyDictionary[AnnotatedImage, set[int]] = WeakKeyDictionary()
        self._told: WeakKeyDictionary[AnnotatedImage, set[int]] = WeakKeyDictionary()
        self._connected: WeakKeyDictionary[AnnotatedImage, None] = WeakKeyDictionary()
        self._top: WeakKeyDictionary[AnnotatedImage, int] = WeakKeyDictionary()
        self._counted: dict[int, int] = {}
        self._timer = QTimer(self.box)
        self._timer.setSingleShot(True)
        self._timer.setInterval(COUNTING)
        self._timer.timeout.connect(self._count)

    def refresh(self) -> None:
        """Bring the list up to date: at once, but for the counts, which wait for a quiet hand."""
        annotated = self._selection.annotated
        self._offer()
        if annotated is not None and annotated not in self._connected:
            self._connected[annotated] = None
            annotated.link.refused = lambda labels: self._refused(annotated, labels)
            annotated.mask.events.selected_label.connect(self._selected)
        self._update()
        self._timer.start()

    def _offer(self) -> None:
        """Offer the classes of the model; of a prompted one the objects so far."""
        card, annotated = self._selection.card, self._selection.annotated
        if card is None or not card.prompted:
            self.box.offer(card.classes if card else ())
            return
        top = 1
        if annotated is not None:
            top = max(self._top.get(annotated, 1), int(annotated.mask.selected_label))
            self._top[annotated] = top
        colours = layer_data.label_colours(card)
        objects = [Label(f"object {label}", colours[label]) for label in range(1, top + 1)]
        self.box.offer((card.classes[0], *objects), more=True)

    def _selected(self, event: object = None) -> None:
        self._offer()
        self._update()

    def paint_with(self, label: int) -> None:
        """Take the brush, in the colour of a class."""
        annotated = self._selection.annotated
        if annotated is not None:
            annotated.mask.selected_label = label
            if annotated.mask.mode in ("pan_zoom", "transform", "erase", "pick"):
                annotated.mask.mode = "paint"
            annotated.select()
        self._update()

    def show(self, label: int, visible: bool) -> None:
        """Show or hide a class; only its colour changes."""
        annotated = self._selection.annotated
        if annotated is None:
            return
        hidden = self._hidden.setdefault(annotated, set())
        (hidden.discard if visible else hidden.add)(label)
        colours = dict(layer_data.class_colours(self._selection.card).color_dict)
        unseen: dict[int | None, object] = dict.fromkeys(hidden, "transparent")
        annotated.mask.colormap = DirectLabelColormap(color_dict=colours | unseen)
        self._update()

    def freeze(self, label: int, on: bool) -> None:
        """Freeze a class where it is, or let it go."""
        annotated = self._selection.annotated
        if annotated is None:
            return
        annotated.freeze(label, on)
        self._told.setdefault(annotated, set()).discard(label)
        self._update()

    def close(self) -> None:
        """Count no more, and let go of the masks."""
        self._timer.stop()
        for annotated in list(self._connected):
            annotated.mask.events.selected_label.disconnect(self._selected)
        self._connected.clear()

    def _refused(self, annotated: AnnotatedImage, labels: frozenset[int]) -> None:
        """Say once, per class and freezing, why a stroke left pixels as they were."""
        told = self._told.setdefault(annotated, set())
        for label in sorted(labels - told):
            show_info(f"{self._name(label)} is frozen: unlock it to paint.")
        told |= labels

    def _name(self, label: int) -> str:
        card = self._selection.card
        known: tuple[Label, ...] = card.classes if card else ()
        return known[label].name.capitalize() if label < len(known) else f"Label {label}"

    def _update(self, event: object = None) -> None:
        annotated = self._selection.annotated
        if annotated is None:
            self.box.update_state(False, None, set(), set(), {})
            return
        self.box.update_state(
            True,
            int(annotated.mask.selected_label),
            self._hidden.get(annotated, set()),
            set(annotated.annotation.locks),
            self._counted,
        )

    def _count(self) -> None:
        annotated, self._counted = self._selection.annotated, {}
        if annotated is not None and annotated.mask.data.shape == annotated.annotation.shape:
            with contextlib.suppress(InputError):  # the view is 3-D: there is no slice
                shown = annotated.mask.data[slicer(annotated.shown())]
                self._counted = dict(enumerate(np.bincount(shown.ravel()).tolist()))
            self._top[annotated] = int(annotated.mask.data.max(initial=0))
            self._offer()
        self._update()
