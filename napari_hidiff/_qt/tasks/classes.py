"""The class list at work: which class is painted with, hidden or frozen on the chosen mask."""

import contextlib
from collections.abc import Callable
from weakref import WeakKeyDictionary

import numpy as np
from napari.utils import DirectLabelColormap
from napari.utils.notifications import show_info
from qtpy.QtCore import QTimer

from napari_hidiff._qt.controls.class_list import ClassesBox
from napari_hidiff._qt.layers import layer_data
from napari_hidiff._qt.layers.annotated_image import Bench
from napari_hidiff.annotation.session import slicer
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card, Label

COUNTING = 120
"""Milliseconds without a change after which pixels are counted."""


class Classes:
    """Joins the class list to the mask of the chosen image.

    bench : gives the workbench of the chosen image, or None; card : that of the chosen model.
    """

    def __init__(self, bench: Callable[[], Bench | None], card: Callable[[], Card | None]) -> None:
        self._bench, self._card = bench, card
        self.box = ClassesBox(self.paint_with, self.show, self.freeze)
        self._hidden: WeakKeyDictionary[Bench, set[int]] = WeakKeyDictionary()
        self._told: WeakKeyDictionary[Bench, set[int]] = WeakKeyDictionary()
        self._listening: WeakKeyDictionary[Bench, None] = WeakKeyDictionary()
        self._counted: dict[int, int] = {}
        self._timer = QTimer(self.box)
        self._timer.setSingleShot(True)
        self._timer.setInterval(COUNTING)
        self._timer.timeout.connect(self._count)

    def refresh(self) -> None:
        """Bring the list up to date: at once, but for the counts, which wait for a quiet hand."""
        card, bench = self._card(), self._bench()
        self.box.offer(card.classes if card else ())
        if bench is not None and bench not in self._listening:
            self._listening[bench] = None
            bench.link.refused = lambda labels: self._refused(bench, labels)
            bench.mask.events.selected_label.connect(self._update)
        self._update()
        self._timer.start()

    def paint_with(self, label: int) -> None:
        """Take the brush, in the colour of a class."""
        bench = self._bench()
        if bench is not None:
            bench.mask.selected_label = label
            if bench.mask.mode in ("pan_zoom", "transform", "erase", "pick"):
                bench.mask.mode = "paint"
            bench.select()
        self._update()

    def show(self, label: int, visible: bool) -> None:
        """Show or hide a class; only its colour changes."""
        bench = self._bench()
        if bench is None:
            return
        hidden = self._hidden.setdefault(bench, set())
        (hidden.discard if visible else hidden.add)(label)
        colours = dict(layer_data.class_colours(self._card()).color_dict)
        unseen: dict[int | None, object] = dict.fromkeys(hidden, "transparent")
        bench.mask.colormap = DirectLabelColormap(color_dict=colours | unseen)
        self._update()

    def freeze(self, label: int, on: bool) -> None:
        """Freeze a class where it is, or let it go."""
        bench = self._bench()
        if bench is None:
            return
        bench.freeze(label, on)
        self._told.setdefault(bench, set()).discard(label)
        self._update()

    def close(self) -> None:
        """Count no more, and let go of the masks."""
        self._timer.stop()
        for bench in list(self._listening):
            bench.mask.events.selected_label.disconnect(self._update)
        self._listening.clear()

    def _refused(self, bench: Bench, labels: frozenset[int]) -> None:
        """Say once, per class and freezing, why a stroke left pixels as they were."""
        told = self._told.setdefault(bench, set())
        for label in sorted(labels - told):
            show_info(f"{self._name(label)} is frozen: unlock it to paint.")
        told |= labels

    def _name(self, label: int) -> str:
        card = self._card()
        known: tuple[Label, ...] = card.classes if card else ()
        return known[label].name.capitalize() if label < len(known) else f"Label {label}"

    def _update(self, event: object = None) -> None:
        bench = self._bench()
        if bench is None:
            self.box.update_state(False, None, set(), set(), {})
            return
        self.box.update_state(
            True,
            int(bench.mask.selected_label),
            self._hidden.get(bench, set()),
            set(bench.annotation.locks),
            self._counted,
        )

    def _count(self) -> None:
        bench, self._counted = self._bench(), {}
        if bench is not None and bench.mask.data.shape == bench.annotation.shape:
            with contextlib.suppress(InputError):  # the view is 3-D: there is no slice
                shown = bench.mask.data[slicer(bench.shown())]
                self._counted = dict(enumerate(np.bincount(shown.ravel()).tolist()))
        self._update()
