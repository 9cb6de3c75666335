"""Alternatives: clearly different answers, outlined one after another with one key."""

import re

import numpy as np
from qtpy.QtCore import Qt

from napari_hidiff.annotation.refinement import FEWEST
from napari_hidiff.annotation.suggestions import alternatives
from napari_hidiff.masks import dashed_outlines

SHIFT = Qt.KeyboardModifier.ShiftModifier


def expected_alternatives(hand, samples: int) -> list:
    model, image = hand.widget.models.loaded(), hand.widget.image.data
    result = model.refine(image, fixed=hand.fixed, sampler="ddim", steps=2, samples=samples)
    return alternatives(result.steps[-1].each)


def test_one_key_goes_over_the_alternatives_and_use_this_takes_the_shown_one(hand) -> None:
    hand.widget.settings.samples.value = 6
    hand.click("segment")
    hand.stroke((20, 30), (26, 60))
    hand.click("run")
    wanted = expected_alternatives(hand, 6)
    assert len(wanted) > 1, "the samples of this model agree: choose another seed"
    mean, strokes = hand.mask.data.copy(), hand.fixed
    outline, moment = hand.viewer.layers["image step"], hand.control("moment")
    for _ in range(2):
        for number, one in enumerate(wanted, start=1):
            hand.key(Qt.Key.Key_H, SHIFT)
            hand.idle()
            line = f"alternative {number} of {len(wanted)}, {100 * one.share:.0f} % of samples"
            assert moment.text() == line
            assert outline.visible
            shown = np.where(strokes >= 0, strokes, one.mask)
            np.testing.assert_array_equal(outline.data, dashed_outlines(shown, shown > 0))
            np.testing.assert_array_equal(hand.mask.data, mean)
        hand.key(Qt.Key.Key_H, SHIFT)
        assert moment.text() == "mean of all samples, in the mask"
        assert not outline.visible
    hand.key(Qt.Key.Key_H, SHIFT)
    hand.key(Qt.Key.Key_H, SHIFT)
    hand.click("accept")
    np.testing.assert_array_equal(hand.mask.data, mean, "accepting changes no pixel")
    hand.click("accept")  # not done after all
    hand.key(Qt.Key.Key_H, SHIFT)
    hand.key(Qt.Key.Key_K, SHIFT)
    assert not outline.visible, "what is outlined is dropped"
    np.testing.assert_array_equal(hand.mask.data, mean)
    slider = hand.control("steps_slider")
    slider.setValue(slider.maximum() - len(wanted) + 2)
    hand.click("use_this")
    np.testing.assert_array_equal(hand.mask.data, np.where(strokes >= 0, strokes, wanted[1].mask))
    hand.click("accept")
    assert hand.widget.bench.annotation.log[-1]["alternative"] == 2
    assert "in the mask" in moment.text()
    hand.mask.undo()
    np.testing.assert_array_equal(hand.mask.data, mean)


def test_alternatives_are_drawn_where_the_run_has_no_samples(hand) -> None:
    hand.widget.settings.sampler.value = "one-step"
    hand.click("segment")
    hand.click("run")
    mask = hand.mask.data.copy()
    wanted = expected_alternatives(hand, FEWEST)
    assert len(wanted) > 1
    hand.key(Qt.Key.Key_H, SHIFT)
    assert re.search(rf"Drawing {FEWEST} samples .*\(ddim, 2 steps, seed 0\).*stays", hand.said())
    hand.idle()
    outline = hand.viewer.layers["image step"]
    assert hand.control("moment").text().startswith(f"alternative 1 of {len(wanted)}")
    np.testing.assert_array_equal(outline.data, dashed_outlines(wanted[0].mask, wanted[0].mask > 0))
    np.testing.assert_array_equal(hand.mask.data, mask)
    hand.offers("reject")  # looking changes nothing about the last result

    painted = hand.stroke((20, 30), (26, 60))  # these samples do not know it
    assert painted.any()
    notes = len(hand.notes)
    hand.key(Qt.Key.Key_H, SHIFT)
    hand.idle()
    assert "Drawing" in str(hand.notes[notes].message)
    wanted = expected_alternatives(hand, FEWEST)
    np.testing.assert_array_equal(outline.data, dashed_outlines(wanted[0].mask, wanted[0].mask > 0))
    assert (wanted[0].mask[painted] == 1).all()


def test_a_stopped_run_or_draw_keeps_its_steps_and_can_go_on_and_be_written(hand) -> None:
    hand.click("segment")
    mask = hand.mask.data.copy()
    gate = hand.hold()
    hand.key(Qt.Key.Key_H, SHIFT)
    hand.wait(lambda: hand.widget.session.run.steps >= 1)
    hand.click("stop", wait=False)
    gate.open()
    hand.idle()
    run = hand.widget.session.run
    assert run.steps < run.total
    np.testing.assert_array_equal(hand.mask.data, mask)
    hand.click("run")
    assert hand.widget.session.run is run
    assert (run.written, run.steps) == (run.total, run.total)

    hand.click("segment")
    gate = hand.hold()
    hand.click("run", wait=False)
    hand.wait(lambda: hand.widget.session.run is not run and hand.widget.session.run.steps >= 1)
    hand.click("stop", wait=False)
    gate.open()
    hand.idle()
    run = hand.widget.session.run
    assert 1 <= run.steps < run.total
    assert run.written is None
    hand.click("run")
    assert hand.widget.session.run is run
    assert run.written == run.total
