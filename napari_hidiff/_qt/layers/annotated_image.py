"""One image under annotation: its mask, its helper layers, its annotation and its sidecar."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Layer, Shapes
from napari.utils import DirectLabelColormap

from napari_hidiff._qt import files, preferences
from napari_hidiff._qt.layers import layer_data
from napari_hidiff._qt.layers.autosave import Autosave
from napari_hidiff._qt.layers.mask_link import MaskLink
from napari_hidiff.annotation.annotation import Annotation
from napari_hidiff.annotation.entries import AcceptFacts
from napari_hidiff.annotation.session import Session
from napari_hidiff.annotation.sidecar import SavedSession
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card
from napari_hidiff.io.record import RATER
from napari_hidiff.masks import (
    Changes,
    Index,
    dashed_outlines,
    difference,
    entropy,
    slicer,
)

CHANGES = DirectLabelColormap(color_dict=layer_data.CHANGED)
STROKES = DirectLabelColormap(color_dict=layer_data.MINE)
PREVIEW = DirectLabelColormap(color_dict=layer_data.STEP)


class AnnotatedImage:
    """Everything that belongs to one image while it is worked on.

    viewer : napari's viewer; image : the layer; card : of the model, None without one.
    keep : asked before each saving of the sidecar; changed : called after every change.
    kept : what the sidecar has of an earlier session to go on from.

    Raises
    ------
    InputError : the image layer is of a kind that is refused, or ``kept`` does not fit it.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        image: Image,
        card: Card | None,
        keep: Callable[[], bool],
        changed: Callable[[], None],
        kept: SavedSession | None = None,
    ) -> None:
        layer_data.check_layer(image)
        self.image = image
        self.changes: Changes | None = None
        """What the last result changed, as long as it stands in the mask."""
        self._last: tuple[Index, np.ndarray, np.ndarray, Changes] | None = None
        self._revealed = True
        self.marked: Index | None = None
        """The slice that has a ring round a doubtful place."""
        self.maps_wanted = False
        """Whether results fill a layer of probability and one of uncertainty."""
        self._viewer, self._changed, self._card = viewer, changed, card
        self.leading = layer_data.channel_axes(image, card)
        shape = layer_data.mask_shape(image, self.leading)
        data = np.zeros(shape, np.uint8)
        self.annotation = Annotation(shape)
        slices = kept.slices if kept else {}
        self.annotation.restore(slices, data)
        log, rater = kept.log if kept else None, preferences.rater()
        self.annotation.begin(log, slices, channels=self.leading, rater=rater)
        if kept is not None:
            self.annotation.relock(kept.log, data)
        self.mask = layer_data.mask_layer(image, card, self.leading, data)
        self.mask.opacity = preferences.opacity()
        if rater:  # for whoever saves the layer
            self.mask.metadata[RATER] = rater
        self.autosave = Autosave(self.annotation, keep)
        self._helpers: dict[str, Layer] = {}
        self._exported = self.annotation.revision
        self._add(self.mask)
        self.link = MaskLink(
            self.mask,
            self.annotation,
            self._shown_index,
            self._on_change,
            lambda index: layer_data.plane(image, self.leading, index),
        )

    def session(self, index: Index) -> Session:
        """The session of a slice; raises InputError as :meth:`MaskLink.session`."""
        return self.link.session(index)

    def show_maps(self, index: Index, probability: np.ndarray) -> None:
        """Where maps are wanted, put the foreground's probability and the entropy in nats into
        their layers; probability : float32 [K, H, W]."""
        if not self.maps_wanted:
            return
        foreground = probability[0] if len(probability) == 1 else 1 - probability[0]
        self._map("probability", 1.0, index, foreground)
        most = float(np.log(max(2, len(probability))))
        self._map("uncertainty", most, index, entropy(probability))

    def preview(self, index: Index, step: int | None) -> None:
        """Show the outline of a step of the run over the mask; None hides it."""
        session = self.annotation.sessions.get(index)
        if step is None or session is None or session.run is None:
            if "step" in self._helpers:
                self._helpers["step"].visible = False
            return
        view = session.view(step)
        self._outline("step", PREVIEW, index, dashed_outlines(view, view > 0))
        self.show_maps(index, session.run.shown[step].probability)

    def show_changes(self, index: Index, before: np.ndarray, after: np.ndarray) -> None:
        """Count what a result changed, and draw it into a layer; :meth:`reveal` shows it."""
        kinds, self.changes = difference(before, after)
        where = np.flatnonzero(kinds)
        self._last = index, where, after.flat[where], self.changes
        self._outline("changes", CHANGES, index, kinds)

    def prepare_changes(self) -> None:
        """Add the layer that results are drawn into, hidden: napari takes its time for that."""
        self._outlines("changes", CHANGES)

    def changes_in(self, index: Index) -> Changes | None:
        """What the last result changed, if it was in this slice."""
        return self.changes if self._last is not None and self._last[0] == index else None

    def reject(self, index: Index) -> None:
        """Take back the result that was written last, and write that down; raises InputError."""
        self.link.reject()
        self.annotation.journal.reject(index)
        self.changes = self._last = None
        self._show_changes(False)
        self.autosave.touch()

    def reveal(self, visible: bool) -> None:
        """Show or hide what the last result changed."""
        self._revealed = visible
        self._show_changes(visible and self.changes is not None)

    def freeze(self, label: int, on: bool) -> None:
        """Freeze a class of the mask where it is, or let it go."""
        self.annotation.freeze(label, self.mask.data, on)
        self.autosave.touch()
        self._changed()

    def put(self, mask: np.ndarray, known: bool, own: bool) -> None:
        """Put a mask from a file, of the mask's shape, into every slice that has labels.

        known : the model knows them, and can refine it. own : it is what the model found, and an
        update starts from its own first mask.
        """
        index = self.shown()
        hidden = [axis for axis, at in enumerate(index) if at >= 0]
        planes = tuple(axis for axis, at in enumerate(index) if at < 0)
        masks: dict[Index, np.ndarray] = {}
        for place in np.argwhere(mask.any(axis=planes)) if hidden else [()]:
            at = dict(zip(hidden, map(int, place), strict=True))
            where = tuple(at.get(axis, -1) for axis in range(len(index)))
            masks[where] = mask[slicer(where)]
        for where, plane in masks.items():
            session = self.session(where)
            if known:
                session.begin(None if own else plane.copy())
        self.link.write_many(masks)

    @property
    def worth_saving(self) -> bool:
        """Whether there is a mask, or something was found or painted, or the mask was said to be
        done."""
        sessions = self.annotation.sessions.values()
        worth = any(session.begun or session.worth_keeping for session in sessions)
        return worth or bool(self.mask.data.any())

    @property
    def all_done(self) -> bool:
        """Whether every slice is done."""
        sessions, shape = self.annotation.sessions, self.mask.data.shape
        hidden = [axis for axis, at in enumerate(next(iter(sessions), ())) if at >= 0]
        slices = int(np.prod([shape[axis] for axis in hidden]))
        return len(sessions) >= slices and all(session.done for session in sessions.values())

    @property
    def selected(self) -> bool:
        """Whether the mask is the active layer."""
        return bool(self._viewer.layers.selection.active == self.mask)  # perhaps a proxy of it

    def show_strokes(self, index: Index | None) -> None:
        """Outline the user's strokes in a slice, on background too; None hides them."""
        helper = self._helpers.get("strokes")
        if index is None:
            if helper is not None:
                helper.visible = False
            return
        session = self.annotation.sessions.get(index)
        if session is not None:
            kinds = np.clip(session.timeline.fixed + 1, 0, 2)
            self._outline("strokes", STROKES, index, dashed_outlines(kinds, kinds))

    def mark(self, index: Index, position: Sequence[float], radius: float) -> None:
        """Draw a ring of a radius in pixels round a position in a slice, until the mask changes."""
        axes = [axis for axis, at in enumerate(index) if at < 0]
        layer = self._helper("place", lambda: layer_data.ring_layer(self.image, self.leading))
        layer_data.draw_ring(layer, position, axes, radius)
        layer.visible = True
        self.marked = index

    def draw(self) -> Shapes:
        """Take a layer in the hand to draw a rectangle on."""
        layer = self._helper("box", lambda: layer_data.box_layer(self.image, self.leading))
        assert isinstance(layer, Shapes)
        self._viewer.layers.selection.active = layer
        layer.mode = "add_rectangle"
        return layer

    @property
    def drawing(self) -> bool:
        """Whether that layer is in the hand."""
        active = self._viewer.layers.selection.active
        return active is not None and active == self._helpers.get("box")

    def select(self) -> None:
        """Take the mask in the hand."""
        self._viewer.layers.selection.active = self.mask

    def accept(self, index: Index, facts: AcceptFacts) -> None:
        """Take a slice's mask as it stands for final, and write down how it came about."""
        self.session(index).accept()
        self.link.keep()
        self.annotation.journal.accept(index, facts)
        key = "napari-hidiff"
        accepted = {**self.mask.metadata.get(key, {}), str(index): dict(facts)}
        self.mask.metadata = {**self.mask.metadata, key: accepted}
        self.autosave.touch()
        self.autosave.flush()

    def withdraw(self, index: Index) -> None:
        """A slice's mask is not final after all; it stays as it is."""
        self.session(index).withdraw()
        self.annotation.journal.withdraw(index)
        self.autosave.touch()
        self._changed()

    def export(self, path: Path) -> None:
        """Write the whole mask with classes and place; raises InputError as ``write_labels``."""
        classes = self._card.classes if self._card else None
        files.export(path, self.mask, self.image, classes, preferences.rater())
        self._exported = self.annotation.revision

    def writer(self) -> Callable[[Path], None]:
        """What writes the mask as it is now, as :meth:`export` does, from any thread."""
        classes = self._card.classes if self._card else None
        data, rater = self.mask.data.copy(), preferences.rater()
        write = files.writer(data, self.mask, self.image, classes, rater)
        revision = self.annotation.revision

        def to(path: Path) -> None:
            write(path)
            self._exported = revision

        return to

    @property
    def exported(self) -> bool:
        """Whether the mask as it is was written to a file, or came from one."""
        return self.annotation.revision == self._exported

    def mark_exported(self, on: bool) -> None:
        """Say whether the mask as it is, is in a file of the user's."""
        self._exported = self.annotation.revision if on else -1

    @property
    def layers(self) -> list[Layer]:
        """The layers of this image that are in the viewer beside it, the topmost first."""
        mine = {self.mask, *self._helpers.values()}
        return [layer for layer in reversed(self._viewer.layers) if layer in mine]

    @property
    def unsaved(self) -> bool:
        """Whether there is work that is neither in a file of the user's nor kept on disk."""
        kept = preferences.keep_strokes() and not self.autosave.failing
        return not kept and not self.exported

    def close(self, tidy: bool = True) -> None:
        """Save and let go of the mask; mask and maps stay, with ``tidy`` the outlines go."""
        self.autosave.close()
        self.link.close()
        if tidy:
            self.tidy()

    def tidy(self) -> None:
        """Remove the outlines from the viewer; once the image is gone they stay with the mask.

        napari's canvas does not always survive it when the lowest layer and then others are removed
        or hidden and an image is added (napari 0.9, vispy 0.17, Mesa): the next drawing ends all.
        """
        if self.image not in self._viewer.layers:
            return
        for name in ("step", "changes", "strokes", "place", "box"):
            helper = self._helpers.pop(name, None)
            if helper is not None and helper in self._viewer.layers:
                self._viewer.layers.remove(helper)

    def _on_change(self) -> None:
        if self.marked is not None:
            self._helpers["place"].visible = False
            self.marked = None
        if self._last is not None:  # an undo takes a result back, a redo brings it again
            index, where, values, changes = self._last
            stands = not where.size or (self.mask.data[slicer(index)].flat[where] == values).any()
            self.changes = changes if stands else None
            self._show_changes(self._revealed and bool(stands))
        self.autosave.touch()
        self._changed()

    def _show_changes(self, visible: bool) -> None:
        helper = self._helpers.get("changes")
        if helper is not None and helper.visible != visible:  # napari draws all anew when told
            helper.visible = visible

    def shown(self) -> Index:
        """The slice on display; raises InputError as :func:`layers.shown_index`."""
        return layer_data.shown_index(self._viewer.dims, self.image, self.leading)

    def _shown_index(self) -> Index | None:
        try:
            return self.shown()
        except InputError:
            return None

    def _map(self, name: str, top: float, index: Index, values: np.ndarray) -> None:
        layer = self._helper(
            name,
            lambda: layer_data.map_layer(
                self.image, self.leading, self.annotation.shape, name, top
            ),
            below_mask=True,
        )
        layer.data[slicer(index)] = values
        layer.refresh()

    def _outline(
        self, name: str, colours: DirectLabelColormap, index: Index, values: np.ndarray
    ) -> None:
        layer = self._outlines(name, colours)
        layer.data[slicer(index)] = values
        layer.visible = True
        layer.refresh()

    def _outlines(self, name: str, colours: DirectLabelColormap) -> Layer:
        return self._helper(
            name,
            lambda: layer_data.outline_layer(
                self.image, self.leading, self.annotation.shape, name, colours
            ),
        )

    def _helper(self, name: str, make: Callable[[], Layer], below_mask: bool = False) -> Layer:
        layer = self._helpers.get(name)
        if layer is None or layer not in self._viewer.layers:  # the user may have removed it
            layer = self._helpers[name] = make()
            position = self._viewer.layers.index(self.mask) if below_mask else None
            self._add(layer, position)
        return layer

    def _add(self, layer: Layer, position: int | None = None) -> None:
        """Add a layer; the brush stays in the hand: a helper never becomes the active layer."""
        selection = self._viewer.layers.selection
        active = self.mask if layer is self.mask else selection.active
        if position is None:
            self._viewer.layers.append(layer)
        else:
            self._viewer.layers.insert(position, layer)
        selection.active = active
