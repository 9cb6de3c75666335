"""A picture of a refinement: image, truth, every mask coloured by right and wrong, what changed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from napari_hidiff.io.storage import atomic_write as whole_file


class Stage(NamedTuple):
    """One picture of the demo: a name, a mask uint8 ``[H, W]`` and its Dice with the truth."""

    name: str
    mask: np.ndarray
    dice: float


class Demo(NamedTuple):
    """image ``[H, W, C]``, truth uint8 ``[H, W]``, the prior, every step, the result."""

    image: np.ndarray
    truth: np.ndarray
    stages: list[Stage]
    record: dict[str, Any]


FOUND, ADDED, MISSED = "#f0f0f0", "#e69f00", "#56b4e9"
"""Colours safe for colour-blind readers: right, added, missed (or of another class)."""

BETTER, WORSE = "#009e73", "#cc79a7"
"""Colours of what a refinement put right, and of what it made wrong."""

COLUMNS = 6
"""Masks in one picture; longer runs show the first, the last and some between."""


def save_stages(
    path: Path, image: np.ndarray, truth: np.ndarray, stages: "Sequence[Stage]"
) -> None:
    """Write a png: whole images above, the most changed part, enlarged, below.

    image: ``[H, W]`` or ``[H, W, C]``; truth: integer ``[H, W]``; stages: masks of that shape with
    their Dice, the prior first and the result last.  Raises InputError if ``path`` cannot be
    written.
    """
    first, last = stages[0].mask, stages[-1].mask
    before = [stage for stage in stages[:-1] if not np.array_equal(stage.mask, last)]
    shown = _some([*before, stages[-1]], COLUMNS)
    detail = detail_window(first, last)
    panels = [("image", displayable(image)), ("truth", errors_in_colour(truth, truth))]
    panels += [
        (f"{stage.name}\nDice {stage.dice:.4f}", errors_in_colour(stage.mask, truth))
        for stage in shown
    ]
    if not np.array_equal(first, last):
        right, wrong = (int(((first != last) & (one == truth)).sum()) for one in (last, first))
        changed = f"refining put {right} pixels\nright, {wrong} wrong"
        panels.append((changed, changes_in_colour(first, last, truth)))

    figure = Figure(figsize=(2.6 * len(panels), 6.1), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(panels), squeeze=False)
    for (title, picture), whole, part in zip(panels, axes[0], axes[1], strict=True):
        show_picture(whole, picture, "antialiased")
        whole.set_title(title, fontsize=12)
        rows, columns = detail
        height, width = rows.stop - rows.start, columns.stop - columns.start
        corner = (columns.start, rows.start)
        whole.add_patch(Rectangle(corner, width, height, fill=False, color="#00e676", lw=1.5))
        show_picture(part, picture[detail], "nearest")
    handles = [
        Patch(facecolor=FOUND, edgecolor="black", label="found"),
        Patch(facecolor=ADDED, edgecolor="black", label="added though not in the truth"),
        Patch(facecolor=MISSED, edgecolor="black", label="missed"),
        Patch(facecolor=BETTER, edgecolor="black", label="put right"),
        Patch(facecolor=WORSE, edgecolor="black", label="made wrong"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=12)
    with whole_file(path) as (part,):
        figure.savefig(part, format=path.suffix.removeprefix(".") or "png")


def detail_window(before: np.ndarray, after: np.ndarray) -> tuple[slice, slice]:
    """The window of a quarter of each side in which two masks ``[H, W]`` differ most.

    The middle if they are equal.
    """
    height, width = (max(1, size // 4) for size in before.shape)
    total = np.zeros((before.shape[0] + 1, before.shape[1] + 1), np.int64)
    total[1:, 1:] = (before != after).cumsum(0).cumsum(1)
    inside = total[height:, width:] - total[:-height, width:]
    inside = inside - (total[height:, :-width] - total[:-height, :-width])
    if not inside.any():
        top, left = (before.shape[0] - height) // 2, (before.shape[1] - width) // 2
    else:
        top, left = (int(at) for at in np.unravel_index(inside.argmax(), inside.shape))
    return slice(top, top + height), slice(left, left + width)


def _some(stages: "Sequence[Stage]", limit: int) -> "list[Stage]":
    chosen = np.linspace(0, len(stages) - 1, min(limit, len(stages))).round().astype(int)
    return [stages[index] for index in chosen]


def errors_in_colour(mask: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """RGB uint8 ``[H, W, 3]``: right foreground, added, missed or of another class."""
    picture = np.zeros((*mask.shape, 3), np.uint8)
    picture[(mask == truth) & (truth > 0)] = rgb(FOUND)
    picture[(mask > 0) & (truth == 0)] = rgb(ADDED)
    picture[(mask != truth) & (truth > 0)] = rgb(MISSED)
    return picture


def changes_in_colour(before: np.ndarray, after: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """RGB uint8 ``[H, W, 3]``: the changed pixels that are right now, and those that were right."""
    picture = np.zeros((*after.shape, 3), np.uint8)
    picture[(before != after) & (after == truth)] = rgb(BETTER)
    picture[(before != after) & (before == truth)] = rgb(WORSE)
    return picture


def displayable(image: np.ndarray) -> np.ndarray:
    """An image of any dtype as uint8 RGB, stretched between its extremes unless it is uint8."""
    image = image[:, :, :3] if image.ndim == 3 and image.shape[2] >= 3 else image
    image = image[:, :, 0] if image.ndim == 3 and image.shape[2] < 3 else image
    if image.dtype != np.uint8:
        low, high = float(image.min()), float(image.max())
        image = ((image - low) / max(high - low, 1e-12) * 255).astype(np.uint8)
    return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)


def rgb(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color[1:]))


def show_picture(axes: Axes, picture: np.ndarray, interpolation: str) -> None:
    axes.imshow(picture, interpolation=interpolation)
    axes.set_xticks([])
    axes.set_yticks([])
