"""What the boxes on top of the panel say: the image, its slice, and what to start from."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from napari.viewer import Viewer

from napari_hidiff._qt import messages
from napari_hidiff._qt.controls.sections import ChannelBox, SliceRange
from napari_hidiff._qt.layers.annotated_image import AnnotatedImage
from napari_hidiff._qt.layers.annotated_images import AnnotatedImages
from napari_hidiff._qt.layers.layer_data import (
    channel_axes,
    check_layer,
    check_place,
    labels_of,
    mask_shape,
    orientation,
    pixels,
    same_place,
    shown_index,
    spacing_of,
)
from napari_hidiff._qt.tasks.models import Models
from napari_hidiff._qt.tasks.run_view import Target
from napari_hidiff.annotation.session import Session
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.stack import Channels, Stack, guess
from napari_hidiff.masks import slicer

RGB = 3
FEW = 8
"""Values of an image that is likely to be a mask."""
"""Channels of a colour image; a fourth is its alpha."""


class Selection:
    """The chosen image, with its annotation, and the chosen Labels layer.

    viewer : napari's viewer; boxes : those of :func:`settings.choose_box`; channels : asks which
    layer is which channel, where one layer does not have them all.
    """

    def __init__(
        self,
        viewer: Viewer,
        boxes: Any,
        channels: ChannelBox,
        annotated_images: AnnotatedImages,
        models: Models,
    ) -> None:
        self._viewer, self._boxes, self._annotated_images, self._models = (
            viewer,
            boxes,
            annotated_images,
            models,
        )
        self._channels = channels
        self._stack: Stack | None = None
        self._over: list[Image] = []

    @property
    def image(self) -> Image | None:
        """The chosen image layer."""
        image: Image | None = self._boxes.image.value
        return image

    @property
    def annotated(self) -> AnnotatedImage | None:
        """The chosen image with its mask, once something was done to it."""
        return self._annotated_images.of(self.image)

    @property
    def session(self) -> Session | None:
        """The session of the shown slice, once something was done to it."""
        try:
            target = self.target()
        except InputError:
            return None
        return self.annotated.annotation.sessions.get(target.index) if self.annotated else None

    @property
    def card(self) -> Card | None:
        """The card of the loaded model."""
        return self._models.model.card if self._models.model else None

    def target(self) -> Target:
        """The shown slice; raises InputError for an image or a view that is refused."""
        image = self.image
        if image is None:
            raise InputError("Open an image and choose it first.")
        index = shown_index(self._viewer.dims, image, self._leading(image))
        stack = self.stack(image)
        return Target(lambda: self._bench_of(image, stack), index, stack)

    def _bench_of(self, image: Image, stack: Stack) -> AnnotatedImage:
        """An image with its mask, for what was made of ``stack``."""
        leading = image.ndim - len(stack.shape)
        if leading < 0 or mask_shape(image, leading) != stack.shape:
            raise InputError(f"Result left out: {image.name} has another shape by now.")
        return self._annotated_images.open(image, self.card)

    def picture(self) -> np.ndarray:
        """The shown slice as the model would get it; raises InputError as :meth:`target`, and where
        a channel has no layer yet."""
        target = self.target()
        if self._asks and not self._channels.complete:
            raise InputError(messages.missing(self._channels.missing))
        return target.image

    def candidates(self) -> dict[str, tuple[Card, np.ndarray]]:
        """The installed models that read images of the chosen kind, by name: the card, and the
        shown slice as the model reads it. Raises InputError as :meth:`target`."""
        image = self.image
        if image is None:
            raise InputError("Open an image and choose it first.")
        over, found = self._lying_over(), {}
        for name, card in self._models.cards.items():
            leading = channel_axes(image, card)
            index = shown_index(self._viewer.dims, image, leading)
            stack = _read_by(card, image, leading, over)
            if stack is not None:
                found[name] = (card, stack.plane(index))
        return found

    def stack(self, image: Image) -> Stack:
        """All slices of an image layer, with those of the layers of its other channels."""
        check_layer(image)
        arrays, channels = (pixels(image),), self._layout(image)
        if channels == "apart":
            arrays = tuple(map(pixels, self._channels.chosen))
        spacing = spacing_of(image, self._leading(image))
        if self._stack is None or not self._stack.same(arrays, channels, spacing):
            self._stack = Stack(arrays, channels, spacing)
        return self._stack

    def volume(self) -> tuple[Target, int]:
        """The shown slice, and the axis of the mask that slices follow each other along.

        Raises InputError as :meth:`target`, and where there is only one slice.
        """
        target = self.target()
        axis = self._slice_axis()
        if axis is None:
            raise InputError("This image has only one slice.")
        return target, axis

    def offer_slices(self, box: SliceRange) -> bool:
        """Whether the image has several slices; then say which in ``box``."""
        axis = self._slice_axis()
        if axis is None or self.image is None:
            box.setVisible(False)
            return False
        leading = self._leading(self.image)
        shape = mask_shape(self.image, leading)
        names = [str(name) for name in self.image.axis_labels[leading:]]
        plain = all(name.lstrip("-").isdigit() for name in names)  # napari's -3, -2, -1
        if plain:
            names = list("TZYX"[-len(names) :]) if len(names) <= 4 else names
        box.offer(names, axis, shape[axis])
        return True

    def stand_upright(self) -> None:
        """Show the chosen image as its file says that it stands (:func:`orientation`)."""
        if self.image is not None:
            self._viewer.scene.camera.orientation2d = orientation(self.image)

    def turn(self, axis: int) -> None:
        """Turn the view so that its first slider goes along an axis of the mask."""
        if self.image is None:
            return
        dims = self._viewer.dims
        at = dims.ndim - len(mask_shape(self.image, self._leading(self.image))) + axis
        rest = sorted(other for other in range(dims.ndim) if other != at)
        dims.order = (*rest[:-2], at, *rest[-2:])

    def _slice_axis(self) -> int | None:
        """The hidden axis of the mask that the slider of the view goes along, the last if several;
        None for a picture, or where the view is 3-D."""
        try:
            index = self.target().index
        except InputError:
            return None
        return next((axis for axis in range(len(index) - 1, -1, -1) if index[axis] >= 0), None)

    def ask_for_channels(self) -> None:
        """Ask which layer is which channel, if the model has several and the image has one."""
        self._over = self._lying_over()
        if self._asks and self.image is not None and self.card is not None:
            self._channels.ask(self.image, self.card.channels, self._over)
        else:
            self._channels.hide_rows()

    def is_channel(self, image: Image) -> bool:
        """Whether an image is a channel of the chosen one, which it lies over."""
        return self._asks and image in self._over

    def _lying_over(self) -> list[Image]:
        """The layers that may be channels of the chosen image, itself among them."""
        if self.image is None:
            return []
        grey = [one for one in self._annotated_images.images() if not one.rgb]
        return [one for one in grey if same_place(one, self.image)]

    def labels(self) -> np.ndarray | None:
        """The labels to start from, of the whole mask's shape; None: the model's own.

        Raises InputError for labels that do not fit the image, or lie elsewhere.
        """
        layer: Labels | None = self._boxes.prior.value
        if layer is None or self.image is None:
            return None
        leading = self._leading(self.image)
        labels = labels_of(layer, mask_shape(self.image, leading))
        check_place(layer, self.image, leading)
        return labels

    def like_masks(self) -> list[str]:
        """Names of images of the chosen one's size that look like masks: few whole numbers."""
        if self.image is None:
            return []
        shape = mask_shape(self.image, self._leading(self.image))
        others = [one for one in self._annotated_images.images() if one is not self.image]
        return [one.name for one in others if one.data.shape == shape and _like_mask(one)]

    def mask(self, target: Target) -> np.ndarray | None:
        """The slice [H, W] of :meth:`labels` to start from."""
        labels = self.labels()
        return None if labels is None else labels[slicer(target.index)]

    @property
    def _asks(self) -> bool:
        image = self.image
        if image is None or self.card is None or image.rgb or self._leading(image):
            return False
        return not self.card.prompted and len(self.card.channels) > 1 and len(self._over) > 1

    def _layout(self, image: Image) -> Channels:
        if image.rgb:
            return "last"
        if self._leading(image):
            return "first"
        return "apart" if self._asks and self._channels.complete else "none"

    def _leading(self, image: Image) -> int:
        return self.annotated.leading if self.annotated else channel_axes(image, self.card)


def _like_mask(image: Image) -> bool:
    array = pixels(image)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "bu":
        return False
    some = array[tuple(slice(None, None, max(1, size // 256)) for size in array.shape)]
    return len(np.unique(some)) <= FEW


def _read_by(card: Card, image: Image, leading: int, over: Sequence[Image]) -> Stack | None:
    """The slices of an image as a model reads them; None where it has other channels.

    leading : axes of the image that are channels; over : the layers that may be channels of it.
    """
    channels = len(card.channels)
    if card.prompted:  # it reads any number of channels
        return Stack((pixels(image),), "last" if image.rgb else "first" if leading else "none")
    if image.rgb:
        return Stack((pixels(image),), "last") if channels == RGB else None
    if leading:
        return Stack((pixels(image),), "first")
    if channels == 1:
        return Stack((pixels(image),), "none")
    guessed = guess(card.channels, [layer.name for layer in over])
    if None in guessed:
        return None
    return Stack(tuple(pixels(over[at]) for at in guessed if at is not None), "apart")
