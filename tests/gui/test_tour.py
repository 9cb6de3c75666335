"""The next uncertain place: where the camera goes, and where it does not go any more."""

import numpy as np
import pytest
from qtpy.QtCore import Qt
from scipy import ndimage

from napari_hidiff.annotation.suggestions import uncertain_places
from napari_hidiff.masks import entropy


def centre(hand) -> np.ndarray:
    """The data position in the middle of the canvas."""
    position = [0.0] * (hand.mask.ndim - 2) + list(hand.viewer.scene.camera.center[-2:])
    return np.array(hand.mask.world_to_data(position))[-2:]


@pytest.mark.parametrize("place", [{}, {"scale": (-2, 0.5), "translate": (5, -3), "rotate": 20}])
def test_the_next_place_is_the_most_uncertain_one(open_hand, picture, tiny_file, place) -> None:
    hand = open_hand(picture, rgb=True, **place, model=tiny_file)
    hand.offers("next_place", False)
    hand.click("segment")
    probability = hand.widget.models.loaded().prior(picture)[0].astype(float)
    surprise = -probability * np.log(probability) - (1 - probability) * np.log1p(-probability)
    smooth = ndimage.gaussian_filter(surprise, min(picture.shape[:2]) / 64)
    first = np.unravel_index(smooth.argmax(), smooth.shape)
    whole = hand.viewer.scene.camera.zoom
    hand.key(Qt.Key.Key_J)
    hand.idle()
    np.testing.assert_allclose(centre(hand), first, atol=1e-6)
    zoom = hand.viewer.scene.camera.zoom
    assert 1.5 * whole < zoom < 3 * whole  # from all of the image to about a quarter of it

    places = uncertain_places(surprise)
    hand.says(f"1 of {len(places)}", "place")
    hand.key(Qt.Key.Key_J)
    hand.idle()
    np.testing.assert_allclose(centre(hand), places[1][:2], atol=1e-6)
    assert hand.viewer.scene.camera.zoom == zoom
    hand.says("2 of", "place")


def test_painted_places_are_passed_over_and_a_result_begins_a_new_tour(hand) -> None:
    hand.click("segment")
    hand.click("run")
    run = hand.widget.session.run
    prior = entropy(hand.widget.session.prior.probability)
    places = uncertain_places((entropy(run.shown[-1].probability) + prior) / 2)
    assert len(places) > 3
    hand.click("next_place")
    row, column, _ = places[1]
    hand.stroke((row, column), (row, column), mode="erase")
    assert hand.fixed[row, column] == 0
    hand.click("next_place")
    np.testing.assert_allclose(centre(hand), places[2][:2], atol=1e-6)
    hand.click("rerefine")
    hand.wait(lambda: hand.control("place").text() == "", "a new tour")
    uncertainty = (entropy(hand.widget.session.run.shown[-1].probability) + prior) / 2
    again = uncertain_places(uncertainty, fixed=hand.fixed)
    for one in again:
        hand.click("next_place")
        np.testing.assert_allclose(centre(hand), one[:2], atol=1e-6)
    hand.says(f"{len(again)} of {len(again)}", "place")
    hand.click("next_place")
    assert "Every uncertain place was visited" in hand.said()
    hand.click("next_place")
    np.testing.assert_allclose(centre(hand), again[0][:2], atol=1e-6)


def test_a_sure_prior_has_no_uncertain_place(hand) -> None:
    mine = np.zeros((72, 96), np.uint8)
    mine[30:40, 20:70] = 1
    hand.widget.choose.prior.value = hand.viewer.add_labels(mine, name="mine")
    hand.click("segment")
    camera = tuple(hand.viewer.scene.camera.center)
    hand.click("next_place")
    assert "No place is uncertain" in hand.said()
    assert tuple(hand.viewer.scene.camera.center) == camera
