"""All images under annotation, and what earlier sessions kept of each."""

from collections.abc import Callable, Iterator
from contextlib import suppress

from napari.layers import Image, Labels, Layer
from napari.utils.events import Event
from napari.utils.notifications import show_info, show_warning
from napari.viewer import Viewer
from qtpy.QtCore import QObject, QTimer, Signal

from napari_hidiff._qt import preferences, threads
from napari_hidiff._qt.layers.annotated_image import AnnotatedImage
from napari_hidiff._qt.layers.layer_data import check_layer, helper, mask_shape, pixels
from napari_hidiff.annotation import sidecar
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card


class AnnotatedImages(QObject):
    """Opens, finds and closes annotated images; looks for sidecars in a thread.

    viewer : napari's viewer.
    abandon : called before an annotated image is closed; ends the work on it, and returns whether
        there was some.
    """

    changed = Signal()
    """Something was found, or something changed in an annotated image."""
    replaced = Signal()
    """An image layer was given other pixels."""
    stroke_ended = Signal(object)
    """A stroke was finished on the mask of this :class:`AnnotatedImage`."""

    def __init__(self, viewer: Viewer, abandon: Callable[[AnnotatedImage], bool]) -> None:
        super().__init__()
        self._viewer, self._abandon = viewer, abandon
        self._open: dict[Image, AnnotatedImage] = {}
        self._keys: dict[Image, str] = {}
        self._offers: dict[Image, sidecar.SavedSession] = {}
        self._looking: dict[Image, threads.Job] = {}
        self._closed = False
        self._maps = False
        self._alike: float | None = None

    def __iter__(self) -> Iterator[AnnotatedImage]:
        return iter(self._open.values())

    def of(self, image: Image | None) -> AnnotatedImage | None:
        """The annotated image of a layer, once something was done to it."""
        return None if image is None else self._open.get(image)

    def offer(self, image: Image | None) -> sidecar.SavedSession | None:
        """What an earlier session kept of an image, until work on it has begun."""
        return None if image is None or image in self._open else self._offers.get(image)

    def images(self) -> list[Image]:
        """The image layers that are not made for an annotated image."""
        return [layer for layer in self._others() if isinstance(layer, Image)]

    def masks(self) -> list[Labels]:
        """The Labels layers that are not helpers of an annotated image."""
        return [layer for layer in self._others() if isinstance(layer, Labels)]

    def image_of(self, layer: Layer | None) -> Image | None:
        """The image that a layer is, or is the mask of; None for any other layer."""
        for image, annotated in self._open.items():
            if layer == annotated.mask:  # it may be a proxy
                return image
        return next((image for image in self.images() if image == layer), None)

    def show_maps(self, wanted: bool) -> None:
        """Whether results fill layers of probability and uncertainty from now on."""
        self._maps = wanted
        for annotated in self:
            annotated.maps_wanted = wanted

    def limit_brush(self, share: float | None) -> None:
        """Paint only pixels that look like the one under the centre of the brush from now on.

        share : how like, 0..1 (:func:`napari_hidiff.annotation.brush.similar`); None = all pixels.
        """
        self._alike = share
        for annotated in self:
            annotated.link.brush.share = share

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

    def open(self, image: Image, card: Card | None, go_on: bool = False) -> AnnotatedImage:
        """The annotated image of a layer; a new one, if need be, and then from the kept strokes.

        Without ``go_on`` the kept strokes stay in their file, which is moved aside as soon as
        there are new ones. Raises InputError for an image that is refused or was removed.
        """
        annotated = self._open.get(image)
        if annotated is not None and annotated.mask.data.shape != annotated.annotation.shape:
            self._close(image, annotated)  # the layer was given another mask, and is left alone
            self.look_up(image)
        if image not in self._open:
            if image not in self._viewer.layers:
                raise InputError(f"Work stopped: {image.name} was removed.")
            kept = self._offers.get(image) if go_on else None
            keep = preferences.keep_strokes
            annotated = AnnotatedImage(self._viewer, image, card, keep, self.changed.emit, kept)
            self._open[image] = annotated
            annotated.maps_wanted = self._maps
            annotated.link.brush.share = self._alike
            annotated.link.stroke_ended = lambda: self.stroke_ended.emit(annotated)
            if self._offers.pop(image, None) is not None and not go_on:
                show_info("Earlier strokes stay in their file.")
            if image in self._keys:
                key = self._keys[image]
                path = kept.path if kept else None
                annotated.autosave.into(path or sidecar.path_of(key), kept is not None, key)
        return self._open[image]

    def looked_up(self, image: Image) -> bool:
        """Whether it is known what an earlier session kept of an image."""
        return image in self._keys

    def put_away(self, image: Image) -> list[Layer]:
        """End the work on an image, which is kept; its layers, the topmost first, may be removed
        after this."""
        annotated = self._open.get(image)
        if annotated is None:
            return []
        layers = annotated.layers
        self._close(image, annotated)
        return layers

    def decline(self, image: Image) -> None:
        """The user does not want to go on from what was kept."""
        self._offers.pop(image, None)
        self.changed.emit()

    def removed(self, layer: Layer) -> None:
        """A layer left the viewer: close the annotated it was the image or the mask of."""
        for image, annotated in list(self._open.items()):
            if layer in (image, annotated.mask):
                if self._close(image, annotated):
                    show_warning(f"Work stopped, strokes are kept: {layer.name} was removed.")
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
        for annotated in self._open.values():
            annotated.close(tidy)
        self._open.clear()

    def _others(self) -> list[Layer]:
        return [layer for layer in self._viewer.layers if not helper(layer)]

    def _other_pixels(self, event: Event) -> None:
        """An image layer was given other data. Where these have another shape, the mask and the
        strokes do not belong to them: the work on them ends, and nothing of it is lost."""
        image = event.source
        annotated = self._open.get(image)
        if annotated is None:
            self._forget(image)
        elif mask_shape(image, annotated.leading) != annotated.annotation.shape:
            self._close(image, annotated)
            show_warning(
                f"Press Find for a new mask: {image.name} now has shape {image.data.shape}, its "
                f"mask {annotated.annotation.shape}. That mask and its strokes are kept."
            )
        self.look_up(image)
        self.replaced.emit()

    def _close(self, image: Image, annotated: AnnotatedImage) -> bool:
        """End the work on an image, which is kept; whether some was under way."""
        busy = self._abandon(annotated)
        del self._open[image]
        annotated.close(tidy=False)
        self._forget(image)
        # Not while napari is still busy with the removal of the image.
        QTimer.singleShot(0, lambda: self._tidy(annotated))
        return busy

    def _tidy(self, annotated: AnnotatedImage) -> None:
        """What is left to do for a closed image, once napari is done with its own layers."""
        if not self._closed:
            annotated.tidy()
        threads.forget_images()

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
        self.changed.emit()
