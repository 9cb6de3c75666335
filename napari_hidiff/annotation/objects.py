"""Objects one by one with a prompted model: a label of a label map is an object, the others stay.

A volume goes through slice by slice: :func:`napari_hidiff.annotation.refinement.propagate` hands
the mask of a slice to the next as its prior.
"""

from typing import TYPE_CHECKING

import numpy as np

from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Sampling
from napari_hidiff.masks import FREE

if TYPE_CHECKING:
    from napari_hidiff.inference.model import HiDiff


def refine_object(
    model: "HiDiff",
    image: np.ndarray,
    labels: np.ndarray,
    label: int,
    strokes: np.ndarray | None = None,
    prior: np.ndarray | None = None,
    sampling: Sampling | None = None,
) -> np.ndarray:
    """A label map in which one object is refined and all others are as they were.

    image : as for :meth:`HiDiff.refine`. labels : integer [H, W], 0 = background.
    label : the object, at least 1; it may be new. strokes : integer [H, W], what the user painted,
    ``FREE`` or a label; what has another label than the object's is not the object.
    prior : a mask or probability of the object, as for :meth:`HiDiff.refine`; None = its pixels in
    ``labels``, unless a stroke lies on it: strokes alone are worth more than the answer to the
    strokes before (``python -m benchmarks.prompted_choices``).
    sampling : None = what the card recommends.

    Returns a new array of the dtype of ``labels``; strokes stand in it as they were painted.

    Raises
    ------
    InputError : the model has classes of its own; a label out of range; neither strokes nor pixels
        of the object; or something does not fit the image.
    """
    check_object(model, labels, label)
    if strokes is None:
        strokes = np.full(labels.shape, FREE, np.int32)
    if strokes.shape != labels.shape:
        raise InputError(f"the strokes have shape {strokes.shape}, the labels {labels.shape}")
    if prior is None and not (strokes == label).any() and (labels == label).any():
        prior = (labels == label).astype(np.uint8)
    how = sampling or model.sampling()
    found = model.refine(
        image,
        prior,
        told(labels, label, strokes),
        sampler=how.sampler,
        steps=how.steps,
        samples=how.samples,
        seed=how.seed,
    )
    refined = with_object(labels, label, found.mask)
    return np.where(strokes != FREE, strokes, refined).astype(labels.dtype)


def with_object(labels: np.ndarray, label: int, found: np.ndarray) -> np.ndarray:
    """``labels`` [H, W], where an object is what was found of it: ``found`` > 0, [H, W]."""
    others = np.where(labels == label, 0, labels)
    return np.where(found > 0, label, others).astype(labels.dtype)


def told(labels: np.ndarray, label: int, strokes: np.ndarray) -> np.ndarray:
    """What a prompted model is told of one object: int8 [H, W], 1 = the object, 0 = not, -1 = free.

    labels, strokes : as for :func:`refine_object`. Other objects are not this one, unless a stroke
    on them says so.
    """
    fixed = np.full(labels.shape, FREE, np.int8)
    fixed[(labels != 0) & (labels != label)] = 0
    fixed[strokes != FREE] = 0
    fixed[strokes == label] = 1
    return fixed


def next_label(labels: np.ndarray, strokes: np.ndarray | None = None) -> int:
    """The label of a new object: one more than the largest in ``labels`` and ``strokes``.

    InputError where the integer dtype of ``labels`` holds no larger one.
    """
    top = max(int(labels.max(initial=0)), 0 if strokes is None else int(strokes.max(initial=0)))
    if top >= np.iinfo(labels.dtype).max:
        raise InputError(f"labels of the type {labels.dtype} end at {top}: there is no next one")
    return top + 1


def check_object(model: "HiDiff", labels: np.ndarray, label: int) -> None:
    """InputError if a label map [H, W] can have no such object, or the model finds none."""
    if not model.card.prompted:
        raise InputError(f"{model.card.name} finds its own classes, not any object")
    if labels.dtype.kind not in "ui" or labels.ndim != 2:
        raise InputError(f"labels are whole numbers [H, W], not {labels.dtype} {labels.shape}")
    if not 1 <= label <= np.iinfo(labels.dtype).max:
        raise InputError(f"an object has a label in 1..{np.iinfo(labels.dtype).max}, not {label}")
