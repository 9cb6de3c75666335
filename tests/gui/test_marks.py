"""What is marked and said while one works: strokes, doubtful places, steps, what was stopped."""

import threading

import numpy as np

from napari_hidiff.annotation import refinement


def test_own_strokes_are_outlined_on_background_too(hand) -> None:
    hand.click("segment")
    hand.stroke((20, 30), (26, 60))
    hand.stroke((50, 20), (50, 50), mode="erase")
    assert "image strokes" not in hand.viewer.layers, "only where it is asked for"
    hand.click("strokes")
    outline = hand.viewer.layers["image strokes"]
    assert outline.visible
    np.testing.assert_array_equal(outline.data, np.clip(hand.fixed + 1, 0, 2))
    assert {1, 2} <= set(np.unique(outline.data)), "background and object"
    hand.mask.undo()
    np.testing.assert_array_equal(outline.data, np.clip(hand.fixed + 1, 0, 2))
    hand.click("strokes")
    assert not outline.visible


def test_a_doubtful_place_is_marked_until_the_mask_changes(hand) -> None:
    hand.click("segment")
    hand.click("next_place")
    ring = hand.viewer.layers["image doubtful place"]
    assert ring.visible
    assert hand.viewer.layers.selection.active == hand.mask, "the brush stays in hand"
    centre = np.array(hand.viewer.scene.camera.center)[-2:]
    np.testing.assert_allclose(ring.data[0], centre, atol=0.5)
    hand.click("next_place")
    assert (ring.data[0] != centre).any()
    row, column = map(int, ring.data[0])
    hand.viewer.reset_view()
    hand.stroke(
        (row, column), (row, column), mode="erase" if hand.mask.data[row, column] else "paint"
    )
    assert not ring.visible


def test_a_first_mask_is_stopped_and_left_out(hand, monkeypatch) -> None:
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


def test_a_label_that_the_model_lacks_is_said_at_the_first_stroke(hand) -> None:
    hand.click("segment")
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
