"""Pictures of results: figures as files, and cases with contours of truth, prior and refined."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from napari_hidiff.io.storage import atomic_write
from napari_hidiff.plot import detail_window, displayable, show_picture

WHOLE = 400
"""Images with a side of more pixels are shown in part, where prior and refined differ most."""
TINTS = 128
"""Colours of a picture's palette: fewer make a smaller file, and more can hardly be seen."""


@dataclass(frozen=True)
class Row:
    """A case of the gallery.

    image : [H, W, C] as in the file; truth, prior, refined : integer masks [H, W].  A volume has
    one more axis in front of all four, and shows its slice with the most foreground.
    dice : of the prior and of the refined mask, as they are written beside them.
    colors : ``#rrggbb`` per label, that of the background is not used.
    """

    title: str
    image: np.ndarray
    truth: np.ndarray
    prior: np.ndarray
    refined: np.ndarray
    dice: tuple[float, float]
    colors: Sequence[str]

    @property
    def planes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Image, truth, prior and refined mask of what is shown, without a slice axis."""
        parts = self.image, self.truth, self.prior, self.refined
        if self.truth.ndim == 2:
            return parts
        at = richest(self.truth)
        return self.image[at], self.truth[at], self.prior[at], self.refined[at]


def best_median_worst(scores: Mapping[str, float]) -> dict[str, str]:
    """The ids with the highest, the middle and the lowest score, as ``best, median, worst``.

    Of equal scores the first id in the order of the alphabet is best, and is worst; of an even
    number of cases the lower of the two in the middle is the median. ValueError without scores.
    """
    if not scores:
        raise ValueError("there is no score to choose by")
    rising = sorted(scores, key=lambda id_: (scores[id_], id_))
    best = min(scores, key=lambda id_: (-scores[id_], id_))
    return {"best": best, "median": rising[(len(rising) - 1) // 2], "worst": rising[0]}


def richest(truth: np.ndarray) -> int:
    """The number of the slice of a mask [D, H, W] with the most foreground, the first of equals."""
    return int((truth > 0).sum((1, 2)).argmax())


def draw(path: Path, rows: Sequence[Row]) -> None:
    """A PNG with a row per case, at least one; InputError if ``path`` cannot be written.

    The picture has a palette, so that three rows of photographs stay below 400 KB.
    """
    figure = new_figure(9.2, 2.55 * len(rows), 90)
    for axes, row in zip(figure.subplots(len(rows), 4, squeeze=False), rows, strict=True):
        _draw_row(axes, row)
    save(figure, path, TINTS)


def new_figure(width: float, height: float, dpi: int) -> Figure:
    """A figure of so many inches, laid out so that nothing overlaps."""
    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path, tints: int | None = None) -> None:
    """Write a figure as a PNG, whole or not at all; InputError if ``path`` cannot be written.

    tints : colours of the palette, which makes a smaller file; None = all colours.
    """
    with atomic_write(path) as (part,):
        if tints is None:
            figure.savefig(part, format="png")
            return
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3])
        palette = drawn.quantize(tints, dither=Image.Dither.NONE)
        palette.save(part, "png", optimize=True)


def _draw_row(axes: Sequence[Axes], row: Row) -> None:
    image, *masks = row.planes
    truth, prior, refined = masks
    part = (slice(None), slice(None))
    if max(truth.shape) > WHOLE:
        part = detail_window(prior, refined)
    show_picture(axes[0], displayable(image)[part], "antialiased")
    axes[0].set_title(row.title, fontsize=9)
    before, after = (f"{value:.4f}" for value in row.dice)
    titles = ("truth", f"prior: Dice {before}", f"refined: Dice {after}")
    for axis, title, mask in zip(axes[1:], titles, masks, strict=True):
        show_picture(axis, displayable(image)[part], "antialiased")
        for label, color in enumerate(row.colors[1:], 1):
            one = mask[part] == label
            if one.any() and not one.all():
                axis.contour(one, levels=[0.5], colors=[color], linewidths=1.2)
        axis.set_title(title, fontsize=9)
