"""Completion of strokes without a model."""

import numpy as np
import pytest

from napari_hidiff.annotation.suggestions import random_walk
from napari_hidiff.errors import InputError


@pytest.fixture
def disc() -> tuple[np.ndarray, np.ndarray]:
    """A bright disc in noise, 16 bits, and which pixels are inside."""
    rows, columns = np.mgrid[:48, :64]
    inside = (rows - 24) ** 2 + (columns - 30) ** 2 < 12**2
    noise = np.random.default_rng(0).normal(0, 1500, inside.shape)
    return (8000 + 30000 * inside + noise).clip(0).astype(np.uint16), inside


def strokes(shape: tuple[int, int]) -> np.ndarray:
    fixed = np.full(shape, -1)
    fixed[22:26, 28:33] = 1
    fixed[4, 2:60] = 0
    return fixed


@pytest.mark.parametrize("channels", [0, 3])
def test_two_strokes_find_the_disc(disc: tuple[np.ndarray, np.ndarray], channels: int) -> None:
    image, inside = disc
    fixed = strokes(image.shape)
    pixels = np.stack([image] * channels, -1) if channels else image
    mask = random_walk(pixels, fixed)
    assert mask.dtype == np.uint8
    assert 2 * np.sum(mask * inside) / (mask.sum() + inside.sum()) > 0.95
    np.testing.assert_array_equal(mask[fixed >= 0], fixed[fixed >= 0])
    np.testing.assert_array_equal(mask, random_walk(pixels, fixed))


def test_labels_keep_their_values(disc: tuple[np.ndarray, np.ndarray]) -> None:
    image, _ = disc
    fixed = strokes(image.shape)
    fixed[fixed == 1] = 3
    fixed[44, 2:60] = 2
    assert set(np.unique(random_walk(image, fixed))) == {0, 2, 3}


def test_nothing_is_left_to_complete() -> None:
    fixed = np.arange(16).reshape(4, 4) % 2
    np.testing.assert_array_equal(random_walk(np.zeros((4, 4)), fixed), fixed)


@pytest.mark.parametrize(
    ("image", "fixed", "line"),
    [
        (np.zeros((8, 8)), np.full((8, 8), -1), "Paint inside the object first"),
        (np.zeros((8, 8)), np.where(np.eye(8), 1, -1), "Erase on the background first"),
        (np.full((8, 8), np.nan), np.arange(64).reshape(8, 8) % 3 - 1, "NaN"),
        (np.zeros((8, 9)), np.full((8, 8), -1), "shape"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(
    image: np.ndarray, fixed: np.ndarray, line: str
) -> None:
    with pytest.raises(InputError, match=line) as error:
        random_walk(image, fixed)
    assert "\n" not in str(error.value)
