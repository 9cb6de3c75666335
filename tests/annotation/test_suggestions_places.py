"""Uncertain places: maxima of a smoothed map, apart from one another, never on fixed pixels."""

import numpy as np
import pytest
from cases import message
from scipy import ndimage

from napari_hidiff.annotation.suggestions import LEAST, Place, disc, look_radius, uncertain_places

HEIGHT, WIDTH = 96, 128


def bumps(*at: tuple[int, int, float]) -> np.ndarray:
    """A map with a broad bump of a height at every (row, column, height)."""
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    parts = [
        high * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 18)
        for row, column, high in at
    ]
    return np.sum(parts, 0).astype(np.float32)


def test_bumps_are_places_in_the_order_of_their_height():
    found = uncertain_places(bumps((20, 30, 0.3), (70, 100, 0.6), (50, 64, 0.5)), 3)
    assert [(p.row, p.column) for p in found] == [(70, 100), (50, 64), (20, 30)]
    assert all(isinstance(p, Place) for p in found)
    assert [type(p.row) for p in found] == [int] * 3
    assert found[0].uncertainty > found[1].uncertainty > found[2].uncertainty >= LEAST


def test_a_region_comes_before_a_single_pixel():
    uncertainty = np.zeros((HEIGHT, WIDTH), np.float32)
    uncertainty[20, 20] = 0.69
    uncertainty[60:67, 90:97] = 0.3
    first, second = uncertain_places(uncertainty, 2)
    assert (first.row, first.column) == (63, 93)
    assert (second.row, second.column) == (20, 20)


def test_greedy_maxima_against_a_slow_search():
    uncertainty = np.random.default_rng(0).random((40, 56))
    left = ndimage.gaussian_filter(uncertainty, 1)
    reach = 40 / 16
    for place in uncertain_places(uncertainty, 30):
        row, column = max(((r, c) for r in range(40) for c in range(56)), key=lambda at: left[at])
        assert (place.row, place.column) == (row, column)
        assert place.uncertainty == pytest.approx(left[row, column])
        for r in range(40):
            for c in range(56):
                if np.hypot(r - row, c - column) <= reach:
                    left[r, c] = 0


def test_places_lie_apart_and_descend():
    uncertainty = np.random.default_rng(1).random((HEIGHT, WIDTH)).astype(np.float32)
    found = uncertain_places(uncertainty, 200)
    values = [p.uncertainty for p in found]
    assert values == sorted(values, reverse=True)
    assert len(found) > 50
    at = np.array([(p.row, p.column) for p in found])
    apart = np.hypot(*(at[:, None] - at[None]).transpose(2, 0, 1))
    assert apart[np.triu_indices(len(at), 1)].min() > look_radius((HEIGHT, WIDTH))


def test_it_stops_where_nothing_uncertain_is_left():
    assert uncertain_places(np.zeros((HEIGHT, WIDTH))) == []
    assert uncertain_places(np.full((HEIGHT, WIDTH), LEAST / 2)) == []
    assert len(uncertain_places(bumps((48, 64, 0.5)), 20)) < 20
    everywhere = uncertain_places(np.ones((HEIGHT, WIDTH)), 10**6)
    seen = np.zeros((HEIGHT, WIDTH), bool)
    for place in everywhere:
        seen |= disc(seen.shape, place.row, place.column)
    assert seen.all()


def test_never_on_fixed_pixels_and_fixed_ones_hide_their_uncertainty():
    uncertainty = bumps((20, 30, 0.6), (70, 100, 0.4))
    fixed = np.full((HEIGHT, WIDTH), -1)
    fixed[10:31, 20:41] = 0  # the whole first bump, of any label
    fixed[68:73, 98:103] = 1
    found = uncertain_places(uncertainty, 20, fixed)
    assert found
    assert all(fixed[p.row, p.column] == -1 for p in found)
    assert all(p.row > 50 for p in found)
    assert uncertain_places(uncertainty, 20, np.zeros((HEIGHT, WIDTH), int)) == []


def test_a_small_image():
    assert len(uncertain_places(np.ones((1, 1)))) == 1
    assert uncertain_places(np.ones((0, 5))) == []


def test_what_is_no_map_is_refused():
    assert "[H, W]" in message(uncertain_places, np.zeros((2, 8, 8)))
    assert "finite" in message(uncertain_places, np.full((8, 8), np.nan))
    assert "fixed map" in message(uncertain_places, np.zeros((8, 8)), 5, np.zeros((8, 9), int))
