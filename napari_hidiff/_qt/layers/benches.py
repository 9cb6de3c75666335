"""One workbench per image layer, and what earlier sessions kept of each image."""

from collections.abc import Callable, Iterator
from contextlib import suppress

from napari.layers import Image, Labels, Layer
from napari.utils.events import Event
from napari.utils.notifications import show_info, show_warning
from napari.viewer import Viewer
from qtpy.QtCore import QObject, QTimer

from napari_hidiff._qt import preferences, threads
from napari_hidiff._qt.layers.annotated_image import Bench
from napari_hidiff._qt.layers.layer_data import check_layer, helper, mask_shape, pixels
from napari_hidiff._qt.memory import forget_images
from napari_hidiff.annotation import sidecar
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card


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
        self._offers: dict[Image, sidecar.Kept] = {}
        self._looking: dict[Image, threads.Job] = {}
        self._closed = False

    def __iter__(self) -> Iterator[Bench]:
        return iter(self._open.values())

    def of(self, image: Image | None) -> Bench | None:
        """The bench of an image, once something was done to it."""
        return None if image is None else self._open.get(image)

    def offer(self, image: Image | None) -> sidecar.Kept | None:
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
        self, image: Image, key: str, kept: sidecar.Kept | None, problem: str | None
    ) -> None:
        self._keys[image] = key
        if problem is not None:
            show_warning(problem)
        if image in self._open:
            self._open[image].autosave.into(sidecar.path_of(key), replace=False, key=key)
        elif kept is not None and kept.slices:
            self._offers[image] = kept
        self._changed()
