"""Image layers in, mask layers out: which slice is shown, what is refused, what is copied."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Labels, Layer, Shapes, Vectors
from napari.utils import DirectLabelColormap

from napari_hidiff._qt import preferences
from napari_hidiff._qt.files import source_of
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.stack import check_lazy
from napari_hidiff.io.pictures import CMYK, is_cmyk
from napari_hidiff.io.record import CLASSES
from napari_hidiff.io.volume import millimetres
from napari_hidiff.masks import ADDED, DARK, LABELS, RELABELLED, REMOVED, Index, slicer

MADE = "napari-hidiff-made"
"""Where the metadata of a layer that was made beside a mask say what it shows."""

ARCS = 48
"""Straight pieces of a ring."""

STROKES = "#ffd400"
CHANGED: dict[int | None, str] = {
    None: "transparent",
    0: "transparent",
    ADDED: "#1f9d3a",
    REMOVED: "#e000a0",
    RELABELLED: "#c46a00",
}
"""Colours of the outline layer: pixels that a result added, removed or gave another label. They
stand out from white and from black, and from the colours of classes."""
STEP: dict[int | None, str] = {None: "transparent", 0: "transparent", 1: "white", DARK: "black"}
"""Colours of the dashes round a step."""
MINE = STEP | {1: "#ff8c00", 2: "white"}
"""Colours of the dashes round the user's strokes, on background and on any class."""


OBJECTS = ("#ff7ab8", "#c8a165", "#4f9dff", "#ffd400", "#19d3c5", "#b07bff", "#ff8c1a")
"""Colours of the objects after the first: of label 2 the third, and so on, over and over."""


def channel_axes(layer: Image, card: Card | None) -> int:
    """How many leading axes of the layer are channels: 1 for a stack [C, ..., H, W], else 0.

    A layer that is not RGB counts as such a stack if the model has several channels and the first
    axis is exactly as long.
    """
    if card is None or layer.rgb or len(card.channels) < 2 or layer.ndim < 3:
        return 0
    return int(layer.data.shape[0] == len(card.channels))


def pixels(layer: Image) -> Any:
    """The array of a layer, perhaps a lazy one; of a multiscale layer that of its finest level."""
    return layer.data[0] if layer.multiscale else layer.data


def check_layer(layer: Image) -> None:
    """Refuse what cannot be worked on, before anything is allocated.

    Raises
    ------
    InputError : a lazy layer that is too large, one without pixels, one in colours for print.
    """
    check_lazy(pixels(layer), layer.name)
    if 0 in layer.data.shape:
        raise InputError(f"{layer.name} has no pixels: its shape is {layer.data.shape}.")
    if layer.ndim < 2:
        raise InputError(f"{layer.name} has {layer.ndim} axis; an image needs two.")
    path = layer.source.path
    if layer.rgb and layer.data.shape[-1] == 4 and path is not None and _is_print(str(path)):
        raise InputError(f"{layer.name} {CMYK}.")


@cache
def _is_print(path: str) -> bool:
    """Whether the four channels of a file are no colours and alpha, but cyan to black."""
    return is_cmyk(Path(path))


def mask_shape(layer: Image, leading: int) -> tuple[int, ...]:
    """The shape of the mask of a layer, whose first ``leading`` axes are channels."""
    return tuple(layer.data.shape[leading : layer.ndim])


def plane(layer: Image, leading: int, index: Index) -> Any:
    """The pixels of a slice of the mask as a layer has them, [H, W, C]; perhaps a lazy array."""
    found = pixels(layer)[(slice(None),) * leading + slicer(index)]
    if layer.rgb:
        return found
    return np.moveaxis(found.reshape(-1, *found.shape[leading:]), 0, -1)


def spacing_of(layer: Layer, leading: int) -> tuple[float, ...] | None:
    """Spacing of the mask's axes in mm; None where a unit of the layer is no length."""
    pairs = zip(layer.scale[leading:], layer.units[leading:], strict=True)
    sides = [None if (one := millimetres(unit)) is None else side * one for side, unit in pairs]
    return None if None in sides else tuple(float(side) for side in sides if side is not None)


def labels_of(layer: Labels, wanted: tuple[int, ...]) -> np.ndarray:
    """The labels of a layer of the user's, 0..255, of the shape ``wanted``.

    Raises
    ------
    InputError : naming the layer, where it has another shape or other labels.
    """
    labels = layer.data
    if layer.multiscale or not isinstance(labels, np.ndarray) or labels.shape != wanted:
        raise InputError(
            f"Wrong shape: {layer.name} has shape {labels.shape}, the image needs {wanted}."
        )
    if labels.min() < 0 or labels.max() > 255:
        raise InputError(f"Labels beyond 0 to 255: {layer.name} has some.")
    return labels


def check_place(layer: Labels, image: Layer, leading: int) -> None:
    """Refuse a Labels layer that does not lie over an image of its size, voxel by voxel.

    leading : axes of the image that are channels. The corners of both grids are compared in the
    world; a tenth of the image's smallest voxel side is nothing.

    Raises
    ------
    InputError : naming the layer.
    """
    sizes = layer.data.shape
    corners = [*product(*((-0.5, size - 0.5) for size in sizes))]
    over = np.array([image.data_to_world((0,) * leading + at)[leading:] for at in corners])
    here = np.array([layer.data_to_world(at) for at in corners])
    for axis, (mine, other) in enumerate(zip(layer.units, image.units[leading:], strict=True)):
        lengths = millimetres(mine), millimetres(other)
        if lengths[0] and lengths[1]:
            here[:, axis] *= lengths[0] / lengths[1]
    off = float(np.linalg.norm(here - over, axis=1).max())
    step = 2 ** np.arange(len(sizes))[::-1]  # how far along an axis the next corner is in the list
    sides = np.linalg.norm(over[step] - over[0], axis=1) / sizes
    if off > 0.1 * sides.min():
        raise InputError(
            f"Wrong place: {layer.name} lies elsewhere than {image.name}, by up to {off:.3g}: "
            "give it the image's scale, translation, rotation and affine."
        )


def shown_index(dims: Any, layer: Image, leading: int) -> Index:
    """The slice of the mask of ``layer`` that a viewer with these ``dims`` shows.

    Raises
    ------
    InputError : :func:`check_layer`'s, or the layer is not shown as a plane of pixels.
    """
    check_layer(layer)
    if dims.ndisplay != 2:
        raise InputError("The view is 3-D: switch to 2-D (the cube button) to work on a slice.")
    axes = sorted(axis - (dims.ndim - layer.ndim) for axis in dims.displayed)
    if axes[0] < leading:
        raise InputError(f"No plane is shown: choose two image axes of {layer.name}.")
    at = np.round(layer.world_to_data(dims.point)).astype(int)
    place = [-1 if axis in axes else int(at[axis]) for axis in range(leading, layer.ndim)]
    hidden = [axis for axis in range(leading, layer.ndim) if axis not in axes]
    if any(not 0 <= at[axis] < layer.data.shape[axis] for axis in hidden):
        raise InputError(f"No slice here: move the slider to where {layer.name} is.")
    return tuple(place)


def orientation(layer: Image) -> tuple[str, str]:
    """How napari's camera shows an image upright: where its rows and columns grow to.

    The arrays of NIfTI, DICOM and NRRD files grow to superior, anterior and the patient's right.
    Radiologists see superior and anterior on top, and the patient's right and anterior on the left.
    """
    source = source_of(layer.metadata) if preferences.radiological() else None
    return ("up", "left") if source is not None and source.turned else ("down", "right")


def prepare_drawing() -> None:
    """Do once what napari does when it draws its first mask, and what would stall the window then:
    import pandas, work out patterns of lines, compile the colouring. May be called in a thread.

    It compiles with OpenMP only: numba's other threads must not run from two threads at once.
    """
    import_module("pandas")
    import_module("vispy.visuals.line.dash_atlas").DashAtlas()
    try:
        import_module("numba.np.ufunc.omppool")
    except ImportError:
        return
    for dtype in (np.uint8, np.int32):
        class_colours(None).map(np.zeros((2, 2), dtype))


def same_place(first: Image, second: Image) -> bool:
    """Whether two layers lie over each other, pixel by pixel."""

    def lies(layer: Image) -> list[np.ndarray]:
        affine = layer.affine.affine_matrix
        return [layer.scale, layer.translate, layer.rotate, layer.shear, affine]

    same_shape = first.data.shape == second.data.shape
    return same_shape and all(map(np.allclose, lies(first), lies(second)))


def helper(layer: Layer) -> bool:
    """Whether a layer is one of our maps or outlines, not an image or a mask of the user's."""
    return MADE in layer.metadata


def placement(layer: Layer, leading: int) -> dict[str, Any]:
    """What a layer of the mask's shape needs to lie exactly over the image."""
    kept = slice(leading, None)
    shear = np.asarray(layer.shear)
    if shear.ndim == 1:  # the upper triangle of a matrix, row by row
        rows = np.triu_indices(layer.ndim, 1)[0]
        shear = shear[rows >= leading]
    else:
        shear = shear[kept, kept]
    return {
        "scale": layer.scale[kept],
        "translate": layer.translate[kept],
        "rotate": layer.rotate[kept, kept],
        "shear": shear,
        "affine": layer.affine.affine_matrix[kept, kept],
        "units": layer.units[kept],
        "axis_labels": layer.axis_labels[kept],
        "metadata": dict(layer.metadata),
    }


def class_colours(card: Card | None) -> DirectLabelColormap:
    """:func:`label_colours`, for a layer."""
    return DirectLabelColormap(color_dict=label_colours(card))


def label_colours(card: Card | None) -> dict[int | None, str]:
    """The card's colours for its labels, background transparent; any other label in yellow, or with
    a prompted model in a colour of its own, as far as there are some."""
    colours: dict[int | None, str] = {None: STROKES, 0: "transparent", 1: "#ff4b3e"}
    if card is not None:
        colours |= {label: kind.color for label, kind in enumerate(card.classes) if label}
        if card.prompted:
            others = range(len(card.classes), LABELS)
            colours |= {label: OBJECTS[label % len(OBJECTS)] for label in others}
    return colours


def mask_layer(layer: Image, card: Card | None, leading: int, data: np.ndarray) -> Labels:
    """The mask over an image: where the user paints and results are written."""
    placed = placement(layer, leading)
    if card is not None:  # for whoever saves the layer
        placed["metadata"][CLASSES] = [asdict(kind) for kind in card.classes]
    return Labels(
        data,
        name=f"{layer.name} mask",
        colormap=class_colours(card),
        **placed,
    )


def outline_layer(
    layer: Layer, leading: int, shape: tuple[int, ...], name: str, colours: DirectLabelColormap
) -> Labels:
    """A layer that shows outlines and cannot be painted on, hidden at first."""
    outlines = Labels(
        np.zeros(shape, np.uint8),
        name=f"{layer.name} {name}",
        colormap=colours,
        opacity=1.0,
        visible=False,
        **placement(layer, leading),
    )
    outlines.metadata[MADE] = name
    outlines.contour = 1
    outlines.editable = False
    return outlines


def ring_layer(layer: Layer, leading: int, name: str = "doubtful place") -> Vectors:
    """A layer for a ring, white in black: to be seen on every image.

    A layer of points would do, but takes napari thrice the time to draw first: it has texts.
    """
    made = Vectors(
        np.zeros((2 * ARCS, 2, layer.ndim - leading)),
        name=f"{layer.name} {name}",
        vector_style="line",
        edge_color=["black"] * ARCS + ["white"] * ARCS,
        **placement(layer, leading),
    )
    made.metadata[MADE] = "place"
    return made


def draw_ring(ring: Vectors, position: Sequence[float], axes: Sequence[int], radius: float) -> None:
    """Draw the ring of :func:`ring_layer` round a position, in pixels along two axes."""
    turns = np.linspace(0, 2 * np.pi, ARCS + 1)
    width = max(1.0, radius / 12) / 2
    data = np.zeros_like(ring.data)
    for part, size in enumerate((radius, radius - width)):
        points = np.tile(np.asarray(position, float), (ARCS + 1, 1))
        points[:, axes] += size * np.stack([np.sin(turns), np.cos(turns)], 1)
        data[part * ARCS : (part + 1) * ARCS] = np.stack([points[:-1], np.diff(points, axis=0)], 1)
    ring.edge_width = width
    ring.data = data


def map_layer(layer: Image, leading: int, shape: tuple[int, ...], name: str, top: float) -> Image:
    """A float layer of the mask's shape over an image, 0..``top``, hidden at first.

    That of a volume is float16: half the memory, and finer than anybody sees.
    """
    made = Image(
        np.zeros(shape, np.float32 if len(shape) == 2 else np.float16),
        name=f"{layer.name} {name}",
        colormap="magma",
        contrast_limits=(0.0, top),
        blending="additive",
        visible=False,
        **placement(layer, leading),
    )
    made.metadata[MADE] = name
    return made


def box_layer(layer: Image, leading: int) -> Shapes:
    """A layer to draw a rectangle on, white, over an image."""
    made = Shapes(
        ndim=layer.ndim - leading,
        name=f"{layer.name} box",
        edge_color="white",
        face_color="transparent",
        edge_width=max(1.0, max(mask_shape(layer, leading)[-2:]) / 300),
        **placement(layer, leading),
    )
    made.metadata[MADE] = "box"
    return made
