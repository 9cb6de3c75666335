"""One annotator's session from the first click to acceptance, with real mouse and key events."""

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_hidiff._qt import messages
from napari_hidiff.annotation.constraints import MARGIN, Guards
from napari_hidiff.masks import dashed_outlines

CONTROL = Qt.KeyboardModifier.ControlModifier
SHIFT = Qt.KeyboardModifier.ShiftModifier


def test_find_shows_the_first_mask_and_steps_are_run_and_scrubbed_back(hand, monkeypatch) -> None:
    monkeypatch.setattr(messages, "WORTH_SAYING", 0.0)
    hand.widget.fit.check_soon()
    hand.wait(lambda: hand.widget.models.model.engine == "packed", "the kernels")
    hand.wait(lambda: hand.control("cost").text().endswith("B."), "the cost with them")
    cost = hand.control("cost").text()
    assert "A run takes about" in cost
    assert cost.endswith("B.")
    hand.show_maps()
    hand.click("segment")
    model, image = hand.widget.models.loaded(), hand.widget.image
    prior = model.prior(image.data)
    np.testing.assert_array_equal(hand.mask.data, model.mask_of(prior))
    names = [layer.name for layer in hand.viewer.layers]
    assert names == ["image", "image probability", "image uncertainty", "image mask"]
    probability = hand.viewer.layers["image probability"]
    assert not probability.visible
    np.testing.assert_array_equal(probability.data, prior[0])
    assert hand.widget.session.timeline.fixed_count == 0

    def drawn() -> bool:
        canvas = hand.viewer.screenshot(canvas_only=True, flash=False)[..., :3]
        return canvas.std() > 10 and len(np.unique(canvas.reshape(-1, 3), axis=0)) > 100

    hand.wait(drawn, "a canvas that is not flat")
    stepped_and_scrubbed(hand)


def stepped_and_scrubbed(hand) -> None:
    """A step, the run, and back over what it showed."""
    prior = hand.mask.data.copy()
    hand.click("step")
    run = hand.widget.session.run
    assert (run.steps, run.total, run.written) == (1, 2, None)
    np.testing.assert_array_equal(hand.mask.data, prior)  # a step is a preview
    outline = hand.viewer.layers["image step"]
    assert outline.visible
    assert not outline.editable
    hand.click("run")
    assert hand.widget.session.run is run  # it went on, and did not begin again
    assert run.written == 2
    assert not outline.visible
    model, image = hand.widget.models.loaded(), hand.widget.image.data
    np.testing.assert_array_equal(hand.mask.data, model.refine(image).mask)

    slider = hand.control("steps_slider")
    slider.setFocus()
    QTest.keyClick(slider, Qt.Key.Key_Home)
    assert slider.value() == 0
    assert outline.visible
    np.testing.assert_array_equal(outline.data, dashed_outlines(prior, prior > 0))
    hand.key(Qt.Key.Key_Period)
    step = run.shown[1].mask
    np.testing.assert_array_equal(outline.data, dashed_outlines(step, step > 0))
    hand.key(Qt.Key.Key_Period)
    assert not outline.visible
    np.testing.assert_array_equal(hand.mask.data, run.shown[2].mask)


def test_a_stroke_survives_refinement_and_undo_goes_back_over_everything(hand) -> None:
    hand.click("segment")
    prior = hand.mask.data.copy()
    hand.click("run")
    first = hand.mask.data.copy()
    painted = hand.stroke((20, 30), (26, 60))
    assert painted.sum() > 20
    assert (hand.fixed[painted] == 1).all()
    erased = hand.stroke((50, 20), (50, 50), mode="erase")
    assert erased.sum() > 0
    strokes = hand.fixed
    edited = hand.mask.data.copy()

    hand.click("rerefine")
    assert hand.widget.session.run.written == 2
    refined = hand.mask.data.copy()
    assert (refined[strokes >= 0] == strokes[strokes >= 0]).all()
    free = strokes < 0
    model, image = hand.widget.models.loaded(), hand.widget.image.data
    result = model.refine(image, fixed=strokes)
    p = result.probability
    expected = Guards(margin=MARGIN)(edited, result.mask, strokes >= 0, p, p)
    np.testing.assert_array_equal(refined, expected)
    assert (refined[free] != first[free]).any(), "the correction did not reach its surroundings"

    changes, drawn = hand.widget.bench.changes, hand.viewer.layers["image changes"]
    assert changes.added == np.sum((edited == 0) & (refined == 1))
    assert changes.removed == np.sum((edited == 1) & (refined == 0))
    hand.says(f"+{changes.added:,} -{changes.removed:,}", "counts")
    np.testing.assert_array_equal(drawn.data > 0, edited != refined)
    assert drawn.visible
    hand.key(Qt.Key.Key_W, SHIFT)
    assert not drawn.visible
    hand.key(Qt.Key.Key_W, SHIFT)

    hand.key(Qt.Key.Key_Z, CONTROL)  # the model's write
    np.testing.assert_array_equal(hand.mask.data, edited)
    assert not drawn.visible, "the outline of a result that is undone"
    assert "+" not in hand.control("counts").text()
    hand.key(Qt.Key.Key_Z, CONTROL | Qt.KeyboardModifier.ShiftModifier)
    assert drawn.visible
    hand.says(f"+{changes.added:,} -{changes.removed:,}", "counts")
    hand.key(Qt.Key.Key_Z, CONTROL)
    np.testing.assert_array_equal(hand.fixed, strokes)
    hand.key(Qt.Key.Key_Z, CONTROL)  # the eraser
    assert (hand.fixed[erased] == -1).all()
    hand.key(Qt.Key.Key_Z, CONTROL)  # the brush; what it only confirmed goes with it
    np.testing.assert_array_equal(hand.mask.data, first)
    assert hand.widget.session.timeline.fixed_count == 0
    hand.key(Qt.Key.Key_Z, CONTROL)  # the first run
    np.testing.assert_array_equal(hand.mask.data, prior)
    assert hand.widget.session.timeline.fixed_count == 0, "undoing a model's write made edits"
    for _ in range(4):
        hand.key(Qt.Key.Key_Z, CONTROL | Qt.KeyboardModifier.ShiftModifier)
    np.testing.assert_array_equal(hand.mask.data, refined)
    np.testing.assert_array_equal(hand.fixed, strokes)


def test_a_shown_step_is_used_and_accepted_without_another_change(hand, sessions) -> None:
    from napari_hidiff.annotation import sidecar

    hand.show_maps()
    hand.click("segment")
    hand.click("run")
    hand.stroke((20, 30), (26, 60))
    strokes = hand.fixed
    hand.control("steps_slider").setValue(1)
    before = hand.mask.data.copy()
    hand.click("accept")  # what is outlined is not what is accepted
    np.testing.assert_array_equal(hand.mask.data, before)
    for step in (0, 1):
        hand.control("steps_slider").setValue(step)
    hand.click("use_this")
    hand.click("accept")
    step = hand.widget.session.run.shown[1].mask
    np.testing.assert_array_equal(hand.mask.data, np.where(strokes >= 0, strokes, step))
    uncertainty = hand.viewer.layers["image uncertainty"].data
    assert 0 <= uncertainty.min() <= uncertainty.max() <= np.log(2) + 1e-6
    kept = sidecar.load(sidecar.path_of(sidecar.image_key(hand.widget.image.data)))
    np.testing.assert_array_equal(kept.slices[-1, -1].accepted, hand.mask.data)
    done = [entry["action"] for entry in kept.log if entry["action"] != "confirm"]
    wrote = ["segment", "write", "run", "write", "stroke", "accept", "write", "accept"]
    assert done == ["open", "slice", *wrote]
    assert kept.log[-1]["step"] == 1


def test_an_own_mask_is_the_prior_and_right_pixels_that_are_painted_over_are_kept(hand) -> None:
    mine = np.zeros((72, 96), np.int32)
    mine[30:40, 20:70] = 1
    layer = hand.viewer.add_labels(mine.copy(), name="mine")
    hand.widget.choose.prior.value = layer
    hand.click("segment")
    np.testing.assert_array_equal(hand.mask.data, mine)
    assert hand.widget.session.timeline.fixed_count == 0
    hand.click("run")
    model, image = hand.widget.models.loaded(), hand.widget.image.data
    np.testing.assert_array_equal(hand.mask.data, model.refine(image, prior=mine).mask)
    np.testing.assert_array_equal(layer.data, mine)

    # A stroke that changes nothing says: this is right.
    hand.widget.choose.prior.value = None
    hand.click("segment")
    hand.click("run")
    inside = np.argwhere(hand.mask.data == 1)
    row, column = inside[np.abs(inside - (36, 48)).sum(1).argmin()]
    hand.stroke((row, column), (row, column))
    assert hand.fixed[row, column] == 1
    first = hand.stroke((60, 20), (60, 60), mode="erase")
    assert first[60].sum() > 5
    assert not hand.stroke((60, 20), (60, 60), mode="erase").any()
    np.testing.assert_array_equal(hand.fixed[60, 20:60], 0)
    assert hand.fixed[50].max() == -1
    hand.click("rerefine")
    assert hand.mask.data[row, column] == 1
    assert not hand.mask.data[60, 20:60].any()
