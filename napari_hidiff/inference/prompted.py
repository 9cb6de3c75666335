"""A prompted model at work: through a window around what the user said, at the model's own scale.

The window holds the strokes on the object and the mask that the prompt brings along. It goes
through the network with ``longest_side`` pixels on its longer side, as training pictures do, and is
enlarged and asked again while the answer runs out of it. The answer comes back at full size;
strokes are kept there as they were painted. Around the window the mask stays as it was.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional as F

from napari_hidiff.diffusion.samplers import Step
from napari_hidiff.errors import InputError
from napari_hidiff.inference.preprocessing import SMALLEST, soften
from napari_hidiff.masks import FREE

Area = tuple[slice, slice]
"""Rows and columns."""
Ask = Callable[[np.ndarray, np.ndarray | None, np.ndarray, np.ndarray | None], Iterator[Step]]
"""(image float32 [h, w, C], prior float32 [1, h, w] or None, fixed int16 [h, w], a mask [h, w] to
start from or None) -> the steps of a refinement of a window."""

CONTEXT, ROOM = 5.0, 3.0
"""A window is so many times as long as the strokes on the object, and as what is known of the
object, or the whole image: closer looks cost accuracy (``python -m benchmarks.prompted_choices``).
"""
ENLARGED = 3
"""How many times a window is enlarged, each time to twice its side."""
FOUND = 0.5
"""What is more probable than this is the object."""


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


def steps(
    ask: Ask, image: np.ndarray, prompt: Prompt, side: int, rule: dict[str, float]
) -> Iterator[Step]:
    """The steps of a refinement of ``image`` float32 [H, W, C] at full size, [S, 1, H, W].

    side : pixels of a window's longer side in the network. rule : keyword arguments of
    :func:`preprocessing.soften`, for priors that are masks.
    """
    known = max(CONTEXT * _longest(prompt.fixed == 1), ROOM * _longest(prompt.object))
    area = around(prompt.object, image.shape[:2], max(float(side), known))
    for left in reversed(range(ENLARGED + 1)):
        view = View(area, image.shape[:2], side)
        run = ask(view.image(image), view.prior(prompt, rule), *view.marks(prompt))
        first = next(run)
        answer = view.back(first.probability)[0] >= FOUND
        if not (left and view.runs_out(answer)):
            break
        held = prompt.object
        held[area] |= answer
        area = around(held, image.shape[:2], 2.0 * max(answer.shape))
    yield view.pasted(first, prompt)
    for step in run:
        yield view.pasted(step, prompt)


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


class View:
    """A window of an image of ``size`` (H, W), and the way into the network and back.

    side : pixels of its longer side in the network.
    """

    def __init__(self, area: Area, size: tuple[int, int], side: int) -> None:
        self.area, self.whole = area, size
        self.shape = tuple(part.stop - part.start for part in area)
        factor = side / max(self.shape)
        self.size = tuple(max(SMALLEST, round(length * factor)) for length in self.shape)

    def image(self, image: np.ndarray) -> np.ndarray:
        """The window float32 [h, w, C] of an image float32 [H, W, C]."""
        return _resized(image[self.area].transpose(2, 0, 1), self.size, "bicubic").transpose(
            1, 2, 0
        )

    def prior(self, prompt: Prompt, rule: dict[str, float]) -> np.ndarray | None:
        """The window float32 [1, h, w] of the prior; masks are softened at the network's scale."""
        if prompt.prior is None:
            return None
        prior = prompt.prior[self.area]
        found = _resized(prior[None].astype(np.float32), self.size)
        return found if prior.dtype.kind == "f" else soften(found[0] >= FOUND, 1, **rule)

    def marks(self, prompt: Prompt) -> tuple[np.ndarray, np.ndarray | None]:
        """The fixed map int16 [h, w] of the window, and the mask uint8 [h, w] to start from."""
        fixed = self._shrunk(prompt.fixed[self.area])
        if prompt.start is None:
            return fixed, None
        start = _resized(prompt.start[None][(..., *self.area)].astype(np.float32), self.size)
        return fixed, (start[0] >= FOUND).astype(np.uint8)

    def _shrunk(self, fixed: np.ndarray) -> np.ndarray:
        """A fixed map in which every stroke pixel counts, those on the object first."""
        if max(self.size) >= max(self.shape):
            rows, columns = (
                np.arange(new) * old // new for new, old in zip(self.size, self.shape, strict=True)
            )
            enlarged: np.ndarray = fixed[rows[:, None], columns]
            return enlarged
        found = np.full(self.size, FREE, fixed.dtype)
        for label in (0, 1):
            at = np.nonzero(fixed == label)
            place = [x * new // old for x, new, old in zip(at, self.size, self.shape, strict=True)]
            found[tuple(place)] = label
        return found

    def back(self, x: np.ndarray) -> np.ndarray:
        """Values float32 [..., h, w] of the network at the size of the window."""
        resized = _resized(x.reshape(-1, *x.shape[-2:]), self.shape)
        return resized.reshape(*x.shape[:-2], *self.shape)

    def runs_out(self, answer: np.ndarray) -> bool:
        """Whether an answer bool [h, w] touches a border of the window inside the image."""
        edges = zip(
            (answer[0], answer[-1], answer[:, 0], answer[:, -1]),
            (
                inside
                for part, length in zip(self.area, self.whole, strict=True)
                for inside in (part.start > 0, part.stop < length)
            ),
            strict=True,
        )
        return any(inside and edge.any() for edge, inside in edges)

    def pasted(self, step: Step, prompt: Prompt) -> Step:
        """A step of the window as one of the whole image, with every fixed pixel as it is fixed."""
        around = 0.0 if prompt.prior is None else prompt.prior.astype(np.float32)
        free = prompt.fixed == FREE

        def whole(x: np.ndarray) -> np.ndarray:
            full = np.empty((*x.shape[:-2], *self.whole), np.float32)
            full[...] = around
            full[(..., *self.area)] = self.back(x)
            return np.where(free, full, prompt.fixed).astype(np.float32, copy=False)

        sample = (whole(step.sample.astype(np.float32)) >= FOUND).astype(np.uint8)
        each = whole(step.each)
        mean = each[0] if len(each) == 1 else whole(step.probability)
        return replace(step, sample=sample, each=each, probability=mean)


def _resized(x: np.ndarray, size: tuple[int, ...], mode: str = "bilinear") -> np.ndarray:
    """float32 [C, H, W] at another size; what is made smaller is smoothed first."""
    if x.shape[1:] == size:
        return x
    tensor = torch.from_numpy(np.ascontiguousarray(x))[None]
    resized: np.ndarray = F.interpolate(tensor, size, mode=mode, antialias=True)[0].numpy()
    return resized.clip(0, 1) if mode == "bilinear" else resized
