"""Paint and Erase: the tools of the mask layer, with a brush that fits what is there."""

from typing import Any
from weakref import WeakKeyDictionary

from napari_hidiff._qt.controls.annotate_page import AnnotatePage
from napari_hidiff._qt.layers.annotated_image import AnnotatedImage
from napari_hidiff._qt.tasks.selection import Selection
from napari_hidiff.masks import slicer, typical_half_width


class Brush:
    """Takes the tools of the chosen image's mask in hand, and shows which one is."""

    def __init__(self, page: AnnotatePage, selection: Selection) -> None:
        self._page, self._selection = page, selection
        self._fitted: WeakKeyDictionary[AnnotatedImage, None] = WeakKeyDictionary()
        self._connected: WeakKeyDictionary[AnnotatedImage, None] = WeakKeyDictionary()

    def paint(self) -> None:
        """Paint on the mask; pressed again: move the view. Raises InputError without an image."""
        self._take("paint")

    def erase(self) -> None:
        """Erase on the mask; pressed again: move the view. Raises InputError without an image."""
        self._take("erase")

    def paint_with(self, label: int) -> None:
        """Paint with a label from now on. Raises InputError without an image."""
        annotated = self._selection.target().annotated()
        annotated.mask.selected_label = label
        if not (annotated.selected and annotated.mask.mode == "paint"):
            self.paint()

    def show(self, event: Any = None) -> None:
        """Bring the buttons up to date."""
        annotated = self._selection.annotated
        mode = ""
        if annotated is not None and annotated.selected:
            if annotated not in self._connected:
                self._connected[annotated] = None
                annotated.mask.events.mode.connect(self.show)
            mode = str(annotated.mask.mode)
        self._page.paint.setChecked(mode == "paint")
        self._page.erase.setChecked(mode == "erase")

    def close(self) -> None:
        """Let go of the masks."""
        for annotated in list(self._connected):
            annotated.mask.events.mode.disconnect(self.show)
        self._connected.clear()

    def _take(self, mode: str) -> None:
        target = self._selection.target()
        annotated = target.annotated()
        mask = annotated.mask
        held = annotated.selected and mask.mode == mode
        self._fit(annotated, slicer(target.index))
        annotated.session(target.index)
        annotated.select()
        mask.mode = "pan_zoom" if held else mode
        if not mask.selected_label:
            mask.selected_label = 1
        self.show()

    def _fit(self, annotated: AnnotatedImage, shown: Any) -> None:
        """Make the brush as wide as half of what is there, once; then it is the user's."""
        if annotated in self._fitted:
            return
        width = typical_half_width(annotated.mask.data[shown])
        if width is not None:
            self._fitted[annotated] = None
            annotated.mask.brush_size = max(1, round(width))
