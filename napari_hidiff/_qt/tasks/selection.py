"""What the boxes on top of the panel say: the image, where it is worked on, what to start from.

The class list at work: which class is painted with, hidden or frozen on the chosen mask.
"""

import contextlib
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Image, Labels
from napari.utils import DirectLabelColormap
from napari.utils.notifications import show_info
from napari.viewer import Viewer
from qtpy.QtCore import QTimer

from napari_hidiff._qt import messages
from napari_hidiff._qt.controls.class_list import ClassesBox
from napari_hidiff._qt.controls.sections import ChannelBox, VolumeBox
from napari_hidiff._qt.layers import layer_data
from napari_hidiff._qt.layers.annotated_image import Bench, Benches
from napari_hidiff._qt.layers.layer_data import (
    channel_axes,
    check_layer,
    check_place,
    labels_of,
    mask_shape,
    pixels,
    same_place,
    shown_index,
)
from napari_hidiff._qt.tasks.models import Models
from napari_hidiff._qt.tasks.run_view import Target
from napari_hidiff.annotation.session import Session
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.stack import Channels, Stack
from napari_hidiff.masks import Label, slicer


class Chosen:
    """The chosen image, with its bench, and the chosen Labels layer.

    viewer : napari's viewer; boxes : those of :func:`choices.choose_box`; channels : asks which
    layer is which channel, where one layer does not have them all.
    """

    def __init__(
        self, viewer: Viewer, boxes: Any, channels: ChannelBox, benches: Benches, models: Models
    ) -> None:
        self._viewer, self._boxes, self._benches, self._models = viewer, boxes, benches, models
        self._channels = channels
        self._stack: Stack | None = None
        self._over: list[Image] = []

    @property
    def image(self) -> Image | None:
        """The chosen image layer."""
        image: Image | None = self._boxes.image.value
        return image

    @property
    def bench(self) -> Bench | None:
        """The workbench of the chosen image, once something was done to it."""
        return self._benches.of(self.image)

    @property
    def session(self) -> Session | None:
        """The session of the shown slice, once something was done to it."""
        try:
            target = self.target()
        except InputError:
            return None
        return self.bench.annotation.sessions.get(target.index) if self.bench else None

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

    def _bench_of(self, image: Image, stack: Stack) -> Bench:
        """The workbench of an image, for what was made of ``stack``."""
        leading = image.ndim - len(stack.shape)
        if leading < 0 or mask_shape(image, leading) != stack.shape:
            raise InputError(f"{image.name} has another shape by now: the result is left out.")
        return self._benches.open(image, self.card)

    def picture(self) -> np.ndarray:
        """The shown slice as the model would get it; raises InputError as :meth:`target`, and where
        a channel has no layer yet."""
        target = self.target()
        if self._asks and not self._channels.complete:
            raise InputError(messages.missing(self._channels.missing))
        return target.image

    def stack(self, image: Image) -> Stack:
        """All slices of an image layer, with those of the layers of its other channels."""
        check_layer(image)
        arrays, channels = (pixels(image),), self._layout(image)
        if channels == "apart":
            arrays = tuple(map(pixels, self._channels.chosen))
        if self._stack is None or not self._stack.same(arrays, channels):
            self._stack = Stack(arrays, channels)
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

    def offer_slices(self, box: VolumeBox) -> None:
        """Show what can be done to many slices, if the image has several."""
        axis = self._slice_axis()
        if axis is None or self.image is None:
            box.setVisible(False)
            return
        leading = self._leading(self.image)
        shape = mask_shape(self.image, leading)
        names = [str(name) for name in self.image.axis_labels[leading:]]
        plain = all(name.lstrip("-").isdigit() for name in names)  # napari's -3, -2, -1
        if plain:
            names = list("TZYX"[-len(names) :]) if len(names) <= 4 else names
        box.offer(names, axis, shape[axis])

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

    def _lying_over(self) -> list[Image]:
        """The layers that may be channels of the chosen image, itself among them."""
        if self.image is None:
            return []
        grey = [one for one in self._benches.images() if not one.rgb]
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

    def mask(self, target: Target) -> np.ndarray | None:
        """The slice [H, W] of :meth:`labels` to start from."""
        labels = self.labels()
        return None if labels is None else labels[slicer(target.index)]

    @property
    def _asks(self) -> bool:
        image = self.image
        if image is None or self.card is None or image.rgb or self._leading(image):
            return False
        return len(self.card.channels) > 1 and len(self._over) > 1

    def _layout(self, image: Image) -> Channels:
        if image.rgb:
            return "last"
        if self._leading(image):
            return "first"
        return "apart" if self._asks and self._channels.complete else "none"

    def _leading(self, image: Image) -> int:
        return self.bench.leading if self.bench else channel_axes(image, self.card)


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
