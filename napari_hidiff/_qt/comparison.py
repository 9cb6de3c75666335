"""The dock widget "HiDiff compare": two raters' masks of one image, and where they disagree."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Labels, Vectors
from napari.utils import DirectLabelColormap
from napari.utils.notifications import show_info
from napari.viewer import Viewer
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QFileDialog, QVBoxLayout, QWidget

from napari_hidiff._qt import threads
from napari_hidiff._qt.controls.compare_page import COLOURS, ComparePage, called
from napari_hidiff._qt.files import opened_from
from napari_hidiff._qt.layers.layer_data import (
    check_place,
    draw_ring,
    helper,
    labels_of,
    outline_layer,
    ring_layer,
    spacing_of,
)
from napari_hidiff._qt.shortcuts import Shortcuts
from napari_hidiff._qt.threads import Job, attempt
from napari_hidiff.agreement import (
    Comparison,
    Place,
    check_pair,
    compare,
    write_agreement,
)
from napari_hidiff.errors import InputError
from napari_hidiff.io.record import CLASSES, RATER
from napari_hidiff.io.record import labels_of as classes_of
from napari_hidiff.io.registry import Labelled

TITLE = "HiDiff compare (HiDiff)"
"""Of the dock, as the Plugins menu gives it."""
AROUND = 6.0
"""Pixels at least between a place and its ring."""
VIEW = 4.0
"""Sides of a place, with its ring, that are in view."""
Pair = tuple[Labels, Labels]


class CompareWidget(QWidget):
    """Compare two Labels layers and go from one disagreement to the next.

    viewer : napari's viewer; napari passes it to a plugin's widget.
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._pair: Pair | None = None
        self._found: Comparison | None = None
        self._at = -1
        self._map: Labels | None = None
        self._ring: Vectors | None = None
        self._hidden: list[Labels] = []
        self._job: Job | None = None
        self._closed = False
        self.page = ComparePage()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.page)
        self.page.compare.clicked.connect(lambda: attempt(self.compare))
        self.page.next.clicked.connect(lambda: attempt(self.next))
        self.page.save.clicked.connect(lambda: attempt(self.write))
        layers = viewer.layers.events
        self._heard = (layers.inserted, layers.removed, layers.renamed, layers.reordered)
        for event in self._heard:
            event.connect(self._offer)
        self._shortcuts = Shortcuts(viewer, {"next_disagreement": self.page.next.click})
        threads.watch(self)
        self._offer()

    def choose(self, first: Labels, second: Labels) -> None:
        """Choose the two masks."""
        self.page.offer(self._masks(), (first, second))

    def compare(self) -> None:
        """Count how far the two masks agree, and show where they do not.

        Raises
        ------
        InputError : there are no two masks, or they cannot be compared.
        """
        first, second = self.page.chosen
        if first is None or second is None or first is second:
            raise InputError("Choose two masks of one image.")
        names = called(first), called(second)
        one, other = (_labelled(layer) for layer in (first, second))
        check_pair(one, other, names)
        check_place(second, first, 0)
        self._drop_job()
        self.page.show_nothing("Counting …")
        self._found, self._at, tolerance = None, -1, self.page.tolerance.value()
        done = partial(self._compared, (first, second))
        self._job = Job(compare, one, other, tolerance, names, done=done)

    def next(self) -> None:
        """Go to the next disagreement; after the last comes the first again.

        Raises
        ------
        InputError : the layer that shows them was removed.
        """
        if self._found is None or not self._found.places:
            return
        if self._map is None or self._map not in self._viewer.layers:
            raise InputError("Press Compare again: the layer of disagreements was removed.")
        places = self._found.places
        self._at = (self._at + 1) % len(places)
        place = places[self._at]
        self._look_at(place)
        what = "voxels" if self._map.ndim > 2 else "pixels"
        mark = f"{self._at + 1:,} of {len(places):,}: {place.pixels:,} {what}"
        self.page.place.setText(mark)

    def write(self, path: Path | str | None = None) -> None:
        """Save the table; without ``path`` a dialog asks for it. InputError if it cannot be."""
        if self._found is None or self._pair is None:
            return
        if path is None:
            opened = opened_from(self._pair[0])
            name = f"{self._pair[0].name}_agreement.csv"
            proposed = Path(name) if opened is None else opened.with_name(name)
            path, _ = QFileDialog.getSaveFileName(
                self, "Save the table", str(proposed), "Tables (*.csv)"
            )
        if path:
            raters = [str(layer.metadata.get(RATER, "")) for layer in self._pair]
            names = [str(layer.name) for layer in self._pair]
            pair = *names, *raters, f"{self._found.tolerance:g}"
            write_agreement(Path(path), ((pair, row) for row in self._found.rows))
            show_info(f"Saved: {Path(path).name} in {Path(path).parent}")

    def event(self, event: QEvent) -> bool:
        """napari takes a closed dock widget out of its parent: that is the end of this one."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.shut_down()
            self.deleteLater()
        return bool(super().event(event))

    def shut_down(self, window_gone: bool = False) -> None:
        """Let go of the viewer; the masks are shown again as they were."""
        if self._closed:
            return
        self._closed = True
        self._drop_job()
        self._shortcuts.close()
        for event in self._heard:
            event.disconnect(self._offer)
        if not window_gone:
            self._tidy()

    def _offer(self, event: Any = None) -> None:
        """List the masks; at first the two that are selected, or the two on top."""
        masks = self._masks()
        chosen = [layer for layer in self.page.chosen if layer in masks]
        if len(chosen) < 2:
            selected = [layer for layer in masks if layer in self._viewer.layers.selection]
            rest = [layer for layer in masks[::-1] if layer not in chosen]
            chosen = selected if len(selected) == 2 else [*chosen, *rest][:2][::-1]
        self.page.offer(masks, (chosen[0], chosen[1]) if len(chosen) == 2 else (None, None))

    def _masks(self) -> list[Labels]:
        """The Labels layers of the user's, the lowest first."""
        layers = self._viewer.layers
        return [layer for layer in layers if isinstance(layer, Labels) and not helper(layer)]

    def _compared(self, pair: Pair, found: Comparison) -> None:
        self._job = None
        if any(layer not in self._viewer.layers for layer in pair):
            self.page.show_nothing("One of the masks was removed.")
            return
        self._tidy()
        self._pair, self._found = pair, found
        names = called(pair[0]), called(pair[1])
        self.page.show_result(found, names)
        colours = DirectLabelColormap(color_dict=COLOURS)
        first, selection = pair[0], self._viewer.layers.selection
        shown = outline_layer(first, 0, found.kinds.shape, "disagreement", colours)
        shown.data, shown.contour, shown.visible = found.kinds, 0, True
        shown.opacity = 0.8
        self._ring = ring_layer(first, 0, "disagreement ring")
        self._ring.visible = False
        self._map, active = shown, selection.active
        for layer in (shown, self._ring):
            self._viewer.add_layer(layer)
        selection.active = active
        self._hidden = [layer for layer in pair if layer.visible]
        for layer in self._hidden:
            layer.visible = False

    def _look_at(self, place: Place) -> None:
        """Show the slice of a place, and put a ring round it in the middle of the view."""
        assert self._map is not None
        assert self._ring is not None
        dims, layer = self._viewer.dims, self._map
        offset = dims.ndim - layer.ndim
        world = np.array(layer.data_to_world(place.position))
        for axis in range(layer.ndim):
            if axis + offset not in dims.displayed:
                dims.set_point(axis + offset, float(world[axis]))
        axes = [axis - offset for axis in dims.displayed if axis >= offset]
        radius = place.extent / 2 + AROUND
        draw_ring(self._ring, place.position, axes[-2:], radius)
        self._ring.visible = True
        camera = self._viewer.scene.camera
        camera.center = (*camera.center[: -len(axes)], *world[axes])
        canvas = np.array(self._viewer.canvas.viewbox_size(self._viewer.layers))
        side = 2 * VIEW * radius * float(np.abs(layer.scale)[axes].max())
        camera.zoom = float(canvas.min()) / side

    def _tidy(self) -> None:
        """Remove what shows the disagreements; masks that it had hidden are seen again."""
        for layer in self._hidden:
            layer.visible = True
        self._hidden = []
        for made in (self._map, self._ring):
            if made is not None and made in self._viewer.layers:
                self._viewer.layers.remove(made)
        self._map = self._ring = None

    def _drop_job(self) -> None:
        if self._job is not None:
            self._job.cancel()
            self._job = None


def dock_comparison(viewer: Viewer) -> CompareWidget:
    """The widget of a viewer; docked beside the other one, if need be."""
    for widget in viewer.window.dock_widgets.values():
        if isinstance(widget, CompareWidget):
            return widget
    made = CompareWidget(viewer)
    viewer.window.add_dock_widget(made, name=TITLE, area="right", tabify=True)
    return made


def _labelled(layer: Labels) -> Labelled:
    """A copy of a layer as a mask with what is known of it; InputError as :func:`labels_of`."""
    labels = labels_of(layer, layer.data.shape)
    classes = classes_of(layer.metadata.get(CLASSES))
    return Labelled(labels.copy(), classes, spacing_of(layer, 0), layer.metadata.get(RATER, ""))
