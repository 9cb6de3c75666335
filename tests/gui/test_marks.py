"""What is marked and said while one works: strokes, doubtful places, steps, what was stopped."""

import threading

import numpy as np
import pytest

from napari_hidiff._qt.layers.layer_data import CHANGED
from napari_hidiff.annotation import refinement
from napari_hidiff.annotation.suggestions import look_radius
from napari_hidiff.inference import catalog
from napari_hidiff.masks import ADDED, DARK, RELABELLED, REMOVED, dashed_outlines
from napari_hidiff.training.datasets.base import COLORS


def middle(ring) -> np.ndarray:
    """The middle of a ring of vectors (start, difference) in the plane."""
    return (ring.data[:, 0] + ring.data[:, 1] / 2).mean(0)


def test_own_strokes_are_outlined_on_background_too(hand) -> None:
    hand.click("segment")
    hand.stroke((20, 30), (26, 60))
    hand.stroke((50, 20), (50, 50), mode="erase")
    assert "image strokes" not in hand.viewer.layers, "only where it is asked for"
    hand.click("strokes")
    outline = hand.viewer.layers["image strokes"]
    assert outline.visible
    kinds = np.clip(hand.fixed + 1, 0, 2)
    np.testing.assert_array_equal(outline.data, dashed_outlines(kinds, kinds))
    assert {1, 2, DARK} <= set(np.unique(outline.data)), "background and object"
    hand.mask.undo()
    kinds = np.clip(hand.fixed + 1, 0, 2)
    np.testing.assert_array_equal(outline.data, dashed_outlines(kinds, kinds))
    hand.click("strokes")
    assert not outline.visible


def test_outlines_stand_out_from_white_from_black_and_from_every_class() -> None:
    def rgb(colour: str) -> np.ndarray:
        return np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255

    def luminance(colour: str) -> float:
        part = rgb(colour)
        linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    classes = {*COLORS, *(kind.color for one in catalog.entries() for kind in one.card.classes)}
    for kind in (ADDED, REMOVED, RELABELLED):
        colour = CHANGED[kind]
        assert 1.05 / (luminance(colour) + 0.05) >= 3, "the contrast that signs need, on white"
        assert (luminance(colour) + 0.05) / 0.05 >= 3
        assert min(np.linalg.norm(rgb(colour) - rgb(other)) for other in classes) > 1 / 3


def test_a_doubtful_place_is_marked_until_the_mask_changes(hand) -> None:
    hand.click("segment")
    hand.click("next_place")
    ring = hand.viewer.layers["image doubtful place"]
    assert ring.visible
    assert hand.viewer.layers.selection.active == hand.mask, "the brush stays in hand"
    centre = np.array(hand.viewer.scene.camera.center)[-2:]
    np.testing.assert_allclose(middle(ring), centre, atol=0.01)
    radius = np.linalg.norm(ring.data[:, 0] - centre, axis=1).max()
    assert radius == pytest.approx(look_radius((72, 96)) / 2)
    share = hand.widget.session.current_probability[0]
    rows, columns = np.mgrid[:72, :96]
    inside = np.hypot(rows - centre[0], columns - centre[1]) <= radius
    p = share[inside].astype(float)
    unsure = -p * np.log(p) - (1 - p) * np.log1p(-p)
    hand.says(f"in the ring: {100 * (p * unsure).sum() / unsure.sum():.0f} % vessel.", "next")
    hand.click("next_place")
    assert (middle(ring) != centre).any()
    row, column = map(round, middle(ring))
    hand.viewer.reset_view()
    hand.stroke(
        (row, column), (row, column), mode="erase" if hand.mask.data[row, column] else "paint"
    )
    assert not ring.visible
    hand.says("press Update", "next")


def test_a_first_mask_is_stopped_and_a_label_that_the_model_lacks_is_said_once(
    hand, monkeypatch
) -> None:
    go, segment = threading.Event(), refinement.segment

    def slow(*given):
        assert go.wait(300)
        return segment(*given)

    monkeypatch.setattr(refinement, "segment", slow)
    hand.click("segment", wait=False)
    hand.wait(lambda: hand.widget.work.busy, "the work")
    hand.click("stop")
    assert not hand.widget.work.busy
    go.set()
    hand.quiet()
    assert hand.widget.session is None or hand.widget.session.prior is None
    monkeypatch.setattr(refinement, "segment", segment)
    hand.click("segment")  # and it can be asked for again
    assert hand.widget.session.prior is not None

    hand.stroke((20, 30), (26, 60), label=5)
    hand.wait(lambda: "Label 5 is none of" in hand.said(), "the warning")
    hand.stroke((40, 30), (46, 60), label=5)
    hand.pause(1)
    assert hand.said().count("Label 5 is none of") == 1, "once is enough"


def test_steps_of_a_model_that_takes_one_pass(open_hand, picture, tiny, tmp_path) -> None:
    path = tmp_path / "one.safetensors"
    tiny(labels=2).with_card(defaults={"sampler": "one-step", "steps": 2, "samples": 1}).save(path)
    hand = open_hand(picture, path, stepwise=False, rgb=True)
    assert hand.widget.settings.sampler.value == "one-step"
    assert not hand.control("steps_slider").isVisible()
    hand.click("show_steps")
    assert hand.widget.settings.sampler.value == "ddim"
    hand.says("One pass is this model's default", "steps_line")
    hand.click("segment")
    assert hand.control("steps_slider").isVisible()
    assert hand.widget.session.run is None, "it stops at the first mask"
    hand.click("step")
    hand.says("Run goes on", "moment")
    hand.click("run")
    assert hand.widget.session.run.written == 2
    hand.click("show_steps")
    assert hand.widget.settings.sampler.value == "one-step"
