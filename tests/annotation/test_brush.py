"""Which pixels a brush limited by intensity paints, in units of any image."""

import numpy as np
import pytest

from napari_hidiff.annotation.brush import noise_of, reach, similar

SIDE = 41


def scene(low: float, high: float, noise: float, channels: int = 1) -> np.ndarray:
    """A bright band of 11 columns on a dark ground, [SIDE, SIDE, channels]."""
    columns = np.arange(SIDE)
    band = np.where(abs(columns - 20) <= 5, high, low)
    image = np.broadcast_to(band[None, :, None], (SIDE, SIDE, channels))
    return image + np.random.default_rng(0).normal(0, noise, image.shape)


@pytest.mark.parametrize(
    ("low", "high", "noise"), [(-1000, 40, 20), (0.1, 0.3, 0.01), (20000, 12000, 300)]
)
def test_the_other_side_of_an_edge_is_left_out(low, high, noise):
    image = scene(low, high, noise)
    found = similar(image, (20, 20), noise_of(image))
    assert found[:, 16:25].all()  # but for the column at the edge, which is averaged with both
    assert not found[:, :14].any()
    assert not found[:, 27:].any()
    ground = similar(image, (20, 5), noise_of(image))
    assert ground[:, :13].all()
    assert not ground[:, 15:26].any()


def test_an_even_ground_is_painted_whole():
    image = scene(100, 100, 7)
    assert similar(image, (20, 20), noise_of(image)).mean() > 0.97
    assert similar(np.full((9, 9, 1), 5), (4, 4), np.zeros(1)).all()


def test_every_channel_has_to_be_alike():
    image = np.concatenate([scene(50, 50, 2, 2), scene(50, 90, 2)], axis=-1)
    assert not similar(image, (20, 20), noise_of(image))[:, :14].any()


def test_the_share_is_how_much_may_differ():
    image = np.linspace(0, 100, SIDE)[None, :, None] * np.ones((SIDE, 1, 1))
    counts = [similar(image, (20, 20), np.zeros(1), share).sum() for share in (0.1, 0.3, 0.6, 1)]
    assert counts == sorted(counts)
    wide = 0.3 * 0.9 * (SIDE - 1)  # 30 % of the distance of 5 and 95 %
    row = similar(image, (20, 20), np.zeros(1), 0.3)[20]
    assert abs(row.sum() - (2 * int(wide) + 1)) <= 1


def test_noise_is_measured_beside_edges():
    image = scene(0, 1000, 5)
    assert noise_of(image) == pytest.approx(5, rel=0.15)
    assert [reach(radius) for radius in (0.5, 1.5, 2, 10)] == [3, 3, 4, 20]
