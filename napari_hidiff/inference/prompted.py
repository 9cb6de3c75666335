"""A prompted model at work: through a window around what the user said, at the model's own scale.

The window holds the strokes on the object and the mask that the prompt brings along. It goes
through the network with ``longest_side`` pixels on its longer side, as training pictures do, and is
enlarged and asked again while the answer runs out of it. The answer comes back at full size;
strokes are kept there as they were painted. Around the window the mask stays as it was.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from napari_hidiff.diffusion.samplers import Step
from napari_hidiff.engine.precision import full_precision
from napari_hidiff.errors import InputError
from napari_hidiff.inference.resampling import FOUND, Area, View, whole_at
from napari_hidiff.networks.refiner import probabilities
from napari_hidiff.networks.segmentor_registry import OwnSegmentor

Ask = Callable[[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray | None], Iterator[Step]]
"""(image float32 [h, w, C], prior float32 [1, h, w] or None, fixed int16 [h, w], a mask [h, w] to
start from or None) -> the steps of a refinement of a window."""

Normalise = Callable[[np.ndarray], np.ndarray]

CONTEXT, ROOM = 5.0, 3.0
"""A window is so many times as long as the strokes on the object, and as what is known of the
object, or the whole image: closer looks cost accuracy (``python -m benchmarks.prompted_choices``).
"""
ENLARGED = 3
"""How many times a window is enlarged, each time to twice its side."""


TRUST = 0.25
"""How far a prior of an own segmentor goes from 1/2: a few images make a network surer than right,
and with more than this strokes correct it too slowly (docs/own-model.md)."""


@dataclass(frozen=True)
class Prompt:
    """What a model is told of an object in an image [H, W].

    prior : a mask bool [H, W], or a probability float32 [H, W]; None where nothing is known. One
        that holds no object, or is 1/2 everywhere, counts as None.
    fixed : int16 [H, W], -1 = free, else 0 or 1.
    start : a mask uint8 [H, W] that the sampler begins with, or None.

    Raises
    ------
    InputError : neither prior nor fixed pixels say where the object is.
    """

    prior: np.ndarray | None
    fixed: np.ndarray
    start: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not says_where(self.prior):
            object.__setattr__(self, "prior", None)
        if self.prior is None and not (self.fixed == 1).any():
            raise InputError(
                "Paint a stroke inside the object first, or give a box or a mask: this model finds "
                "what it is pointed at"
            )

    @property
    def object(self) -> np.ndarray:
        """What is said to be the object so far, bool [H, W]."""
        painted = self.fixed == 1
        array: np.ndarray = painted if self.prior is None else painted | (self.prior >= FOUND)
        return array


def says_where(prior: np.ndarray | None) -> bool:
    """Whether a prior, a mask or probabilities of any shape, holds an object."""
    if prior is None:
        return False
    top = prior.max()
    return bool(top >= FOUND and not top == prior.min() == FOUND)


def prior(segmentor: nn.Module, image: np.ndarray, side: int, normalise: Normalise) -> np.ndarray:
    """The prior float32 [1, H, W] of a prompted model for an image float32 [H, W, C].

    It is that of its own segmentor, which sees the whole image at the model's scale, drawn towards
    1/2 (:data:`TRUST`); a model that needs a prompt knows no object before it: 0 everywhere.
    side : longer side at the model's scale, pixels. normalise : the model's intensity rule.
    """
    size = image.shape[0], image.shape[1]
    if not isinstance(segmentor, OwnSegmentor):
        return np.zeros((1, *size), np.float32)
    view, device = whole_at(side, size), next(segmentor.parameters()).device
    seen = np.ascontiguousarray(normalise(view.image(image)).transpose(2, 0, 1))
    with torch.inference_mode(), full_precision(device):
        logits, _ = segmentor.own(torch.from_numpy(seen)[None].to(device))
        probability = view.back(probabilities(logits)[0].float().cpu().numpy())
    return FOUND + TRUST * (probability - FOUND)


def steps(
    ask: Ask, image: np.ndarray, prompt: Prompt, side: int, rule: dict[str, float]
) -> Iterator[Step]:
    """The steps of a refinement of ``image`` float32 [H, W, C] at full size, [S, 1, H, W].

    side : pixels of a window's longer side in the network. rule : keyword arguments of
    :func:`preprocessing.soften`, for priors that are masks.
    """
    known = max(CONTEXT * _longest(prompt.fixed == 1), ROOM * _longest(prompt.object))
    size = image.shape[0], image.shape[1]
    area = around(prompt.object, size, max(float(side), known))
    prior = prompt.prior
    if prior is not None and prior.dtype.kind == "f":
        prior = prior[None]
    for left in reversed(range(ENLARGED + 1)):
        view = View(area, size, side / max(part.stop - part.start for part in area))
        seen = None if prior is None else view.prior(prior, 1, rule)
        start = None if prompt.start is None else view.mask(prompt.start, 1)
        run = ask(view.image(image), seen, view.fixed(prompt.fixed), start)
        first = next(run)
        answer = view.back(first.probability)[0] >= FOUND
        if not (left and view.runs_out(answer)):
            break
        held = prompt.object
        held[area] |= answer
        area = around(held, size, 2.0 * max(answer.shape))
    beside = 0.0 if prompt.prior is None else prompt.prior.astype(np.float32)
    yield view.pasted(first, prompt.fixed, beside)
    for step in run:
        yield view.pasted(step, prompt.fixed, beside)


def around(marked: np.ndarray, size: tuple[int, int], wanted: float) -> Area:
    """A window around marked pixels bool [H, W]: square, as far as the image reaches.

    Its side is that of the image, halved while it remains at least ``wanted``, which is at least
    the side of the marked box. It moves in steps of an eighth, so that a few more pixels of a
    stroke seldom change it.
    """
    length = max(size)
    while length / 2 >= wanted:
        length = -(-length // 2)
    step = max(1, length // 8)
    rows, columns = (
        _span(start, stop, min(length, whole), whole, step)
        for (start, stop), whole in zip(_box(marked), size, strict=True)
    )
    return rows, columns


def _box(marked: np.ndarray) -> list[tuple[int, int]]:
    """First row and the one after the last, and the same of the columns, of marked pixels."""
    found = []
    for axis in (1, 0):
        at = np.flatnonzero(marked.any(axis))
        found.append((int(at[0]), int(at[-1]) + 1))
    return found


def _longest(marked: np.ndarray) -> int:
    """The longer side of the box around marked pixels; 0 where there are none."""
    return max(stop - start for start, stop in _box(marked)) if marked.any() else 0


def _span(start: int, stop: int, length: int, whole: int, step: int) -> slice:
    first = round(((start + stop - length) / 2) / step) * step
    first = min(max(first, 0), whole - length)
    return slice(first, first + length)
