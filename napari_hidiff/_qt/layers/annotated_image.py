"""The workbench of one image: its mask, its helper layers, its annotation and its sidecar.

One workbench per image layer, and what earlier sessions kept of each image.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer
from napari.utils import DirectLabelColormap
from napari.utils.events import Event
from napari.utils.notifications import show_info, show_warning
from napari.viewer import Viewer
from qtpy.QtCore import QObject, QTimer

from napari_hidiff._qt import files, preferences, threads
from napari_hidiff._qt.layers import layer_data
from napari_hidiff._qt.layers.autosave import Autosave
from napari_hidiff._qt.layers.layer_data import check_layer, helper, mask_shape, pixels
from napari_hidiff._qt.layers.mask_link import MaskLink
from napari_hidiff._qt.threads import forget_images
from napari_hidiff.annotation import annotation, sidecar
from napari_hidiff.annotation.annotation import Annotation
from napari_hidiff.annotation.session import Session
from napari_hidiff.annotation.sidecar import SavedSession
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card
from napari_hidiff.masks import Changes, Index, difference, slicer

CHANGES = DirectLabelColormap(color_dict=layer_data.CHANGED)
PREVIEW = DirectLabelColormap(color_dict={None: "#ffffff", 0: "transparent"})


class Bench:
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
        self._viewer, self._changed, self._card = viewer, changed, card
        self.leading = layer_data.channel_axes(image, card)
        shape = layer_data.mask_shape(image, self.leading)
        data = np.zeros(shape, np.uint8)
        self.annotation = Annotation(shape)
        slices = kept.slices if kept else {}
        self.annotation.restore(slices, data)
        self.annotation.begin(kept.log if kept else None, slices, channels=self.leading)
        if kept is not None:
            annotation.relock(self.annotation, kept.log, data)
        self.mask = layer_data.mask_layer(image, card, self.leading, data)
        self.mask.opacity = preferences.opacity()
        self.autosave = Autosave(self.annotation, keep)
        self._helpers: dict[str, Layer] = {}
        self._add(self.mask)
        self.link = MaskLink(self.mask, self.annotation, self._shown_index, self._on_change)

    def session(self, index: Index) -> Session:
        """The session of a slice; raises InputError as :meth:`MaskLink.session`."""
        return self.link.session(index)

    def show_probability(self, index: Index, probability: np.ndarray) -> None:
        """Put a foreground probability into its layer; probability : float32 [K, H, W]."""
        foreground = probability[0] if len(probability) == 1 else 1 - probability[0]
        self._map("probability", 1.0, index, foreground)

    def show_uncertainty(self, index: Index, entropy: np.ndarray, labels: int) -> None:
        """Put the entropy [H, W], in nats, of a result with so many labels into its layer."""
        self._map("uncertainty", float(np.log(labels)), index, entropy)

    def preview(self, index: Index, step: int | None) -> None:
        """Show the outline of a step of the run over the mask; None hides it."""
        session = self.annotation.sessions.get(index)
        if step is None or session is None or session.run is None:
            if "step" in self._helpers:
                self._helpers["step"].visible = False
            return
        self._outline("step", PREVIEW, index, session.view(step))
        self.show_probability(index, session.run.shown[step].probability)

    def show_changes(self, index: Index, before: np.ndarray, after: np.ndarray) -> None:
        """Count what a result changed, and draw it into a layer; :meth:`reveal` shows it."""
        kinds, self.changes = difference(before, after)
        where = np.flatnonzero(kinds)
        self._last = index, where, after.flat[where], self.changes
        self._outline("changes", CHANGES, index, kinds)

    def changes_in(self, index: Index) -> Changes | None:
        """What the last result changed, if it was in this slice."""
        return self.changes if self._last is not None and self._last[0] == index else None

    def reject(self, index: Index) -> None:
        """Take back the result that was written last, and write that down; raises InputError."""
        self.link.reject()
        self.annotation.note("reject", slice=index)
        self.changes = self._last = None
        self._show_changes(False)
        self.autosave.touch()

    def reveal(self, visible: bool) -> None:
        """Show or hide what the last result changed."""
        self._revealed = visible
        self._show_changes(visible and self.changes is not None)

    def freeze(self, label: int, on: bool) -> None:
        """Freeze a class of the mask where it is, or let it go."""
        annotation.freeze(self.annotation, label, self.mask.data, on)
        self.autosave.touch()
        self._changed()

    def select(self) -> None:
        """Take the mask in the hand."""
        self._viewer.layers.selection.active = self.mask

    def accept(self, index: Index, facts: Mapping[str, Any]) -> None:
        """Take a slice's mask as it stands for final, and write down how it came about."""
        self.session(index).accept()
        self.link.keep()
        self.annotation.note("accept", slice=index, **facts)
        key = "napari-hidiff"
        accepted = {**self.mask.metadata.get(key, {}), str(index): dict(facts)}
        self.mask.metadata = {**self.mask.metadata, key: accepted}
        self.autosave.touch()
        self.autosave.flush()

    def export(self, path: Path) -> None:
        """Write the whole mask with classes and place; raises InputError as ``write_labels``."""
        files.export(path, self.mask, self.image, self._card.classes if self._card else None)

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
        for name in ("step", "changes"):
            helper = self._helpers.pop(name, None)
            if helper is not None and helper in self._viewer.layers:
                self._viewer.layers.remove(helper)

    def _on_change(self) -> None:
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
        layer = self._helper(
            name,
            lambda: layer_data.outline_layer(
                self.image, self.leading, self.annotation.shape, name, colours
            ),
        )
        layer.data[slicer(index)] = values
        layer.visible = True
        layer.refresh()

    def _helper(self, name: str, make: Callable[[], Layer], below_mask: bool = False) -> Layer:
        layer = self._helpers.get(name)
        if layer is None or layer not in self._viewer.layers:  # the user may have removed it
            layer = self._helpers[name] = make()
            position = self._viewer.layers.index(self.mask) if below_mask else None
            self._add(layer, position)
        return layer

    def _add(self, layer: Image | Labels, position: int | None = None) -> None:
        """Add a layer; the brush stays in the hand: a helper never becomes the active layer."""
        selection = self._viewer.layers.selection
        active = self.mask if layer is self.mask else selection.active
        if position is None:
            self._viewer.layers.append(layer)
        else:
            self._viewer.layers.insert(position, layer)
        selection.active = active


class Benches(QObject):
    """Opens, finds and closes workbenches; looks for sidecars in a thread.

    viewer : napari's viewer.
    changed : called when something was found, or something changed on a bench.
    abandon : called before a bench is closed; ends the work on it and tells if there was some.
    replaced : called when an image layer was given other pixels.
    """

    def __init__(
        self,
        viewer: Viewer,
        changed: Callable[[], None],
        abandon: Callable[[Bench], bool],
        replaced: Callable[[], None],
    ) -> None:
        super().__init__()
        self._viewer, self._changed, self._abandon = viewer, changed, abandon
        self._replaced = replaced
        self._open: dict[Image, Bench] = {}
        self._keys: dict[Image, str] = {}
        self._offers: dict[Image, sidecar.SavedSession] = {}
        self._looking: dict[Image, threads.Job] = {}
        self._closed = False

    def __iter__(self) -> Iterator[Bench]:
        return iter(self._open.values())

    def of(self, image: Image | None) -> Bench | None:
        """The bench of an image, once something was done to it."""
        return None if image is None else self._open.get(image)

    def offer(self, image: Image | None) -> sidecar.SavedSession | None:
        """What an earlier session kept of an image, until work on it has begun."""
        return None if image is None or image in self._open else self._offers.get(image)

    def images(self) -> list[Image]:
        """The image layers that are not made by a bench."""
        return [layer for layer in self._others() if isinstance(layer, Image)]

    def masks(self) -> list[Labels]:
        """The Labels layers that are not helpers of a bench."""
        return [layer for layer in self._others() if isinstance(layer, Labels)]

    def look_up(self, image: Image) -> None:
        """Find out, once per image, what an earlier session kept of it."""
        if image in self._looking:
            return
        image.events.data.disconnect(self._other_pixels)  # once is enough
        image.events.data.connect(self._other_pixels)
        with suppress(InputError):  # what is refused has no key
            check_layer(image)
            self._looking[image] = threads.Job(
                threads.look_up, pixels(image), done=lambda found: self._found(image, *found)
            )

    def open(self, image: Image, card: Card | None, go_on: bool = False) -> Bench:
        """The bench of an image; a new one, if need be, and then from the kept strokes.

        Without ``go_on`` the kept strokes stay in their file, which is moved aside as soon as
        there are new ones. Raises InputError for an image that is refused or was removed.
        """
        bench = self._open.get(image)
        if bench is not None and bench.mask.data.shape != bench.annotation.shape:
            self._close(image, bench)  # the layer was given another mask, and is left alone
            self.look_up(image)
        if image not in self._open:
            if image not in self._viewer.layers:
                raise InputError(f"{image.name} was removed: the work on it was stopped.")
            kept = self._offers.get(image) if go_on else None
            keep = preferences.keep_strokes
            bench = Bench(self._viewer, image, card, keep, self._changed, kept)
            self._open[image] = bench
            if self._offers.pop(image, None) is not None and not go_on:
                show_info("The strokes of an earlier session stay in their file.")
            if image in self._keys:
                key = self._keys[image]
                path = kept.path if kept else None
                bench.autosave.into(path or sidecar.path_of(key), kept is not None, key)
        return self._open[image]

    def decline(self, image: Image) -> None:
        """The user does not want to go on from what was kept."""
        self._offers.pop(image, None)
        self._changed()

    def removed(self, layer: Layer) -> None:
        """A layer left the viewer: close the bench it was the image or the mask of."""
        for image, bench in list(self._open.items()):
            if layer in (image, bench.mask):
                if self._close(image, bench):
                    show_warning(
                        f"{layer.name} was removed: the work on it was stopped, strokes are kept."
                    )
                if image in self._viewer.layers:
                    self.look_up(image)
        if isinstance(layer, Image) and not helper(layer):
            layer.events.data.disconnect(self._other_pixels)
            self._forget(layer)

    def close(self, tidy: bool) -> None:
        """Save and let go of everything; with ``tidy`` outlines are removed from the viewer."""
        self._closed = True
        for image, job in self._looking.items():
            image.events.data.disconnect(self._other_pixels)
            job.cancel()
        for bench in self._open.values():
            bench.close(tidy)
        self._open.clear()

    def _others(self) -> list[Layer]:
        return [layer for layer in self._viewer.layers if not helper(layer)]

    def _other_pixels(self, event: Event) -> None:
        """An image layer was given other data. Where these have another shape, the mask and the
        strokes do not belong to them: the work on them ends, and nothing of it is lost."""
        image = event.source
        bench = self._open.get(image)
        if bench is None:
            self._forget(image)
        elif mask_shape(image, bench.leading) != bench.annotation.shape:
            self._close(image, bench)
            show_warning(
                f"{image.name} now has shape {image.data.shape}, its mask "
                f"{bench.annotation.shape}: the mask stays as it is, strokes are kept, and Segment "
                "begins a new one."
            )
        self.look_up(image)
        self._replaced()

    def _close(self, image: Image, bench: Bench) -> bool:
        """End the work on an image, which is kept; whether some was under way."""
        busy = self._abandon(bench)
        del self._open[image]
        bench.close(tidy=False)
        self._forget(image)
        # Not while napari is still busy with the removal of the image.
        QTimer.singleShot(0, lambda: self._tidy(bench))
        return busy

    def _tidy(self, bench: Bench) -> None:
        """What is left to do for a closed bench, once napari is done with its own layers."""
        if not self._closed:
            bench.tidy()
        forget_images()

    def _forget(self, image: Image) -> None:
        """Nothing is known of an image any more."""
        job = self._looking.pop(image, None)
        if job is not None:
            job.cancel()
        self._keys.pop(image, None)
        self._offers.pop(image, None)

    def _found(
        self, image: Image, key: str, kept: sidecar.SavedSession | None, problem: str | None
    ) -> None:
        self._keys[image] = key
        if problem is not None:
            show_warning(problem)
        if image in self._open:
            self._open[image].autosave.into(sidecar.path_of(key), replace=False, key=key)
        elif kept is not None and kept.slices:
            self._offers[image] = kept
        self._changed()
