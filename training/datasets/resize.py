"""Pictures and slices at a smaller size, for work at the size that a screen or a network has."""

from dataclasses import replace

import numpy as np
from skimage.transform import resize

from .sample import Sample


def shrunk(sample: Sample, longest_side: int) -> Sample:
    """The sample with its pictures or slices at most ``longest_side`` pixels high and wide.

    The image becomes float32 in its own range, smoothed against aliasing; labels are those of the
    nearest pixel; the spacing grows. Nothing is ever enlarged, and slices stay as many.
    """
    height, width = sample.mask.shape[-2:]
    factor = longest_side / max(height, width)
    if factor >= 1:
        return sample
    size = (max(1, round(height * factor)), max(1, round(width * factor)))
    slices = sample.image if sample.volume else sample.image[None]
    image = np.stack([_smooth(plane, size) for plane in slices])
    spacing = sample.spacing
    if spacing is not None:
        y, x = spacing[-2] * height / size[0], spacing[-1] * width / size[1]
        spacing = (*spacing[:-2], y, x)
    inside = sample.field_of_view
    return replace(
        sample,
        image=image if sample.volume else image[0],
        mask=nearest(sample.mask, size),
        field_of_view=None if inside is None else nearest(inside, size),
        spacing=spacing,
    )


def nearest(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Labels [..., H, W] at another size, each that of the pixel under its centre."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int)
        for new, old in zip(size, labels.shape[-2:], strict=True)
    )
    return labels[..., rows[:, None], columns]


def _smooth(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return resize(
        plane.astype(np.float32), size, order=1, anti_aliasing=True, preserve_range=True
    ).astype(np.float32)
