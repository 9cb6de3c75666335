"""Volumes in the real window: many slices at once, corrections carried on, several channels."""

import numpy as np
import pytest
from napari.layers import Image
from qtpy.QtCore import Qt

from napari_hidiff.annotation import refinement
from napari_hidiff.annotation.between import interpolated
from napari_hidiff.annotation.constraints import MARGIN, Guards
from napari_hidiff.annotation.replay import Replay
from napari_hidiff.inference import volumes
from napari_hidiff.masks import FREE

CONTROL = Qt.KeyboardModifier.ControlModifier
ONE_STEP = {"sampler": "one-step"}


def scan(depth=5, height=48, width=64, channels=1):
    """Branches that wander from slice to slice, int16 [C, Z, Y, X]."""
    z, y, x = np.mgrid[:depth, :height, :width]
    branch = abs(y - height / 2 - z - 9 * np.sin(x / 11)) < 4
    noise = np.random.default_rng(0).normal(0, 30, (channels, depth, height, width))
    return np.where(branch, 300, 700) + 50 * np.arange(channels)[:, None, None, None] + noise


@pytest.fixture
def volume():
    return scan()[0].astype(np.int16)


@pytest.fixture
def grey_file(tiny, tmp_path):
    path = tmp_path / "grey.safetensors"
    tiny(2, 1).save(path)
    return path


@pytest.fixture
def hand(open_hand, volume, grey_file):
    hand = open_hand(volume, scale=(3.0, 0.5, -0.5), model=grey_file)
    hand.widget.settings.sampler.value = "one-step"
    hand.viewer.dims.set_current_step(0, 2)
    return hand


def normalised(hand, volume):
    return volumes.normalise(hand.widget.models.loaded(), volume[..., None])


def test_all_slices_are_segmented_refined_and_taken_back(hand, volume) -> None:
    hand.show_maps()
    model = hand.widget.models.loaded()
    planes = normalised(hand, volume)
    hand.click("segment_slices")
    segmented = model.mask_of(volumes.prior(model, planes), 0)
    np.testing.assert_array_equal(hand.mask.data, segmented)
    hand.says("First mask in 5 slices", "slices")
    np.testing.assert_array_equal(hand.mask.scale, (3.0, 0.5, -0.5))
    painted = hand.stroke((10, 10), (10, 30), label=1)
    assert painted[2].any()
    assert not np.delete(painted, 2, 0).any()
    fixed = hand.fixed
    hand.click("refine_slices")
    strokes = np.full(volume.shape, FREE)
    strokes[2] = fixed
    refined = volumes.refine(model, planes, sampling=model.sampling(**ONE_STEP), fixed=strokes)
    np.testing.assert_array_equal(hand.mask.data, model.mask_of(refined, 0))
    np.testing.assert_array_equal(hand.mask.data[2][fixed != FREE], fixed[fixed != FREE])
    after = hand.mask.data.copy()
    hand.key(Qt.Key.Key_Z, CONTROL)  # one slice is one undo step, the last one first
    np.testing.assert_array_equal(hand.mask.data[:4], after[:4])
    np.testing.assert_array_equal(hand.mask.data[4], segmented[4])
    hand.key(Qt.Key.Key_Z, CONTROL | Qt.KeyboardModifier.ShiftModifier)
    np.testing.assert_array_equal(hand.mask.data, after)
    hand.click("take_back")
    hand.says("All slices are as they were before", "slices")
    where = fixed != FREE
    segmented[2][where] = fixed[where]
    np.testing.assert_array_equal(hand.mask.data, segmented)
    assert hand.widget.bench.annotation.fixed_count == where.sum()
    hand.offers("take_back", False)


def test_a_second_sweep_leaves_toss_ups_as_they_are(hand, volume) -> None:
    model, settings = hand.widget.models.loaded(), hand.widget.settings
    how = {"sampler": "ddim", "steps": 2, "samples": 1}
    for name, value in how.items():
        settings[name].value = value
    planes = normalised(hand, volume)

    def answer(seed, fixed=None):
        settings.seed.value = seed
        probability = volumes.refine(
            model, planes, sampling=model.sampling(seed=seed, **how), fixed=fixed
        )
        return probability, model.mask_of(probability, 0)

    first = answer(0)[1]
    hand.click("refine_slices")
    np.testing.assert_array_equal(hand.mask.data, first)  # nothing stood there to be kept
    hand.stroke((30, 10), (30, 40), label=1)
    strokes = np.full(volume.shape, FREE)
    strokes[2] = hand.fixed
    before = hand.mask.data.copy()
    probability, free = answer(1, strokes)
    hand.click("refine_slices")
    firm = Guards(margin=MARGIN)
    expected = [
        firm(*planes_of, strokes[2] != FREE, p, p)
        for *planes_of, p in zip(before, free, probability.swapaxes(0, 1), strict=True)
    ]
    np.testing.assert_array_equal(hand.mask.data, expected)
    for at in (0, 2, 4):  # with and without strokes
        kept = (free[at] != before[at]) & (hand.mask.data[at] == before[at])
        assert kept.any(), "no toss-up in this slice: choose another seed"
    hand.click("take_back")
    np.testing.assert_array_equal(hand.mask.data, before)
    settings.firm.value = False
    hand.click("refine_slices")
    np.testing.assert_array_equal(hand.mask.data, free)
    hand.click("segment_slices")  # and what is refined then is refined for the first time
    settings.firm.value = True
    hand.click("refine_slices")
    np.testing.assert_array_equal(hand.mask.data, free)


def test_a_slice_of_a_sweep_is_refined_again_by_itself(hand, volume) -> None:
    model = hand.widget.models.loaded()
    hand.click("refine_slices")
    painted = hand.stroke((30, 10), (30, 40), label=1)
    others = np.delete(hand.mask.data, 2, 0).copy()
    fixed = hand.fixed
    hand.widget.settings.firm.value = False
    hand.click("rerefine")
    hand.idle()
    planes = normalised(hand, volume)
    expected = model.refine(planes[2], fixed=fixed, normalised=True, **ONE_STEP).mask
    np.testing.assert_array_equal(hand.mask.data[2], expected)
    assert hand.mask.data[2][painted[2]].all()
    np.testing.assert_array_equal(np.delete(hand.mask.data, 2, 0), others)
    hand.says("+", "counts")
    hand.viewer.dims.set_current_step(0, 1)  # nothing of it happened there
    assert "+" not in hand.control("counts").text()
    hand.viewer.dims.set_current_step(0, 2)
    hand.says("+", "counts")


def test_a_mask_of_the_user_is_what_all_slices_start_from(hand, volume) -> None:
    labels = (volume < 500).astype(np.uint8)
    mine = hand.viewer.add_labels(labels.copy(), name="mine", scale=(3.0, 0.5, -0.5))
    hand.widget.choose.prior.value = mine
    hand.known()
    hand.click("segment_slices")
    np.testing.assert_array_equal(hand.mask.data, labels)
    assert hand.widget.bench.annotation.fixed_count == 0
    hand.click("refine_slices")
    model = hand.widget.models.loaded()
    refined = volumes.refine(
        model, normalised(hand, volume), labels, sampling=model.sampling(**ONE_STEP)
    )
    np.testing.assert_array_equal(hand.mask.data, model.mask_of(refined, 0))
    np.testing.assert_array_equal(mine.data, labels)  # it is only read


def test_a_range_along_another_axis(hand, volume) -> None:
    model = hand.widget.models.loaded()
    axis = hand.control("axis")
    assert [axis.itemText(at) for at in range(3)] == ["along Z", "along Y", "along X"]
    axis.setCurrentIndex(1)
    axis.activated.emit(1)
    hand.says("at least 16 x 16")  # 5 x 64 is no picture for a model
    axis.setCurrentIndex(0)
    axis.activated.emit(0)
    hand.known()
    assert hand.control("first_slice").value() == 0
    hand.control("first_slice").setValue(1)
    hand.control("last_slice").setValue(2)
    hand.click("segment_slices")
    segmented = model.mask_of(volumes.prior(model, normalised(hand, volume)), 0)
    np.testing.assert_array_equal(hand.mask.data[1:3], segmented[1:3])
    assert not hand.mask.data[[0, 3, 4]].any()
    hand.control("first_slice").setValue(4)
    hand.click("segment_slices")
    assert "Swap the range: it runs from slice 4 to 2." in hand.said()


def test_what_is_painted_during_a_sweep_stays_and_stop_ends_it(hand, monkeypatch) -> None:
    monkeypatch.setattr(refinement, "TOGETHER", 1)  # slice by slice
    hand.click("segment_slices")
    segmented = hand.mask.data.copy()
    hand.widget.settings.sampler.value = "ddim"
    gate = hand.hold()
    hand.viewer.dims.set_current_step(0, 4)
    hand.click("refine_slices", wait=False)
    painted = hand.stroke((12, 10), (12, 50), label=1)[4]
    assert painted.any()
    hand.wait(lambda: (hand.mask.data[0] != segmented[0]).any(), "the first slice")
    hand.click("stop", wait=False)
    gate.open()
    hand.idle()
    done = int(hand.control("slices").text().split()[1])
    assert 1 <= done < 5
    assert hand.mask.data[4][painted].all()
    np.testing.assert_array_equal(hand.mask.data[done:4], segmented[done:4])


def test_a_correction_is_carried_to_the_slices_behind(hand, tiny, tmp_path) -> None:
    from napari_hidiff.inference.model import HiDiff

    path = tmp_path / "prior.safetensors"
    HiDiff.create(tiny(2, 1).card).save(path)  # its refiner returns the prior
    hand.use(path)
    hand.widget.settings.sampler.value = "one-step"
    hand.click("segment_slices")
    segmented = hand.mask.data.copy()
    hand.click("carry_on")
    assert "Nothing to carry" in hand.said()
    hand.viewer.dims.set_current_step(0, 3)
    kept = hand.stroke((40, 20), (40, 24), mode="erase")[3]
    marked = hand.widget.session.timeline.fixed == 0
    hand.viewer.dims.set_current_step(0, 2)
    label = 1 - int(segmented[2, 8, 30])
    change = hand.stroke((8, 10), (8, 50), label=label, mode="paint")[2]
    assert change.any()
    hand.click("carry_on")
    # A place that was right in a slice already is no correction there, and goes no further.
    assert (hand.mask.data[3][change] == label).all()
    assert (hand.mask.data[4][change & (segmented[3] != label)] == label).all()
    assert (hand.mask.data[3][marked] == 0).all()
    assert kept.any() or marked.any()
    np.testing.assert_array_equal(hand.mask.data[:2], segmented[:2])
    hand.click("carry_back")
    assert (hand.mask.data[1][change] == label).all()
    assert (hand.mask.data[0][change & (segmented[1] != label)] == label).all()
    hand.says("Carried to 2 slices", "slices")
    hand.click("take_back")
    np.testing.assert_array_equal(hand.mask.data[:2], segmented[:2])
    assert (hand.mask.data[3][change] == label).all()


@pytest.fixture
def rgbi_file(tiny, tmp_path):
    path = tmp_path / "four.safetensors"
    tiny(3, 4).save(path)
    return path


def rows_shown(hand) -> bool:
    """Whether each channel has its row on Settings, and not all together one line."""
    return hand.control("channel_green").isVisibleTo(hand.widget.panel.settings)


def test_slices_between_strokes_are_filled_and_taken_back(hand, volume) -> None:
    hand.click("segment_slices")
    hand.click("fill_slices")
    hand.wait(lambda: "Paint in two slices first" in hand.said(), "the advice")
    segmented = hand.mask.data.copy()
    for at in (0, 3):
        hand.viewer.dims.set_current_step(0, at)
        hand.stroke((10, 10), (10, 40), label=1)
        hand.stroke((14, 10), (14, 40), label=1)
    painted, model = hand.mask.data.copy(), hand.widget.models.loaded()
    hand.click("fill_slices")
    hand.says("Filled 2 slices", "slices")
    np.testing.assert_array_equal(hand.mask.data[[0, 3, 4]], painted[[0, 3, 4]])
    planes = normalised(hand, volume)
    for at, prior in zip((1, 2), interpolated(painted[0], painted[3], 2), strict=True):
        alone = model.refine(planes[at], prior, normalised=True, **ONE_STEP)
        np.testing.assert_array_equal(hand.mask.data[at], alone.mask)
    assert (hand.mask.data[1:3] != segmented[1:3]).any()
    filled, annotation = hand.mask.data.copy(), hand.widget.bench.annotation
    replay = Replay(annotation.log, volume.shape, volume, lambda *_: model)
    replay.run()
    assert replay.deviation is None
    np.testing.assert_array_equal(replay.mask, filled)
    hand.click("take_back")
    np.testing.assert_array_equal(hand.mask.data, painted)


def test_four_layers_are_four_channels(open_hand, rgbi_file) -> None:
    stack = scan(channels=4).astype(np.float32)
    names = ("case red", "case green", "case blue", "case infrared")
    hand = open_hand(Image(stack[0], name=names[0]), model=rgbi_file)
    hand.says("1 channel")
    for name, channel in list(zip(names, stack, strict=True))[:1:-1]:
        hand.viewer.add_image(channel, name=name)
    hand.says("Choose the layer of green in Settings")
    assert rows_shown(hand)
    hand.offers("segment", False)
    hand.viewer.add_image(stack[1], name=names[1])
    hand.says("Fits this image")
    assert hand.control("channels_title").text().endswith("red, green, blue, infrared")
    assert not rows_shown(hand), "one line is enough where all are found"
    hand.click("channels_title")
    assert rows_shown(hand)
    hand.click("segment_slices")
    model = hand.widget.models.loaded()
    planes = volumes.normalise(model, np.moveaxis(stack, 0, -1))
    expected = model.mask_of(volumes.prior(model, planes), 0)
    np.testing.assert_array_equal(hand.mask.data, expected)
    # The guess is corrected: two channels change places.
    for channel, name in (("red", "case green"), ("green", "case red")):
        row = hand.control(f"channel_{channel}")
        row.setCurrentIndex(row.findText(name))
    hand.known()
    hand.says("Fits this image")
    hand.click("segment_slices")
    planes = volumes.normalise(model, np.moveaxis(stack[[1, 0, 2, 3]], 0, -1))
    expected = model.mask_of(volumes.prior(model, planes), 0)
    np.testing.assert_array_equal(hand.mask.data, expected)
    # Layers that lie elsewhere are not offered, a removed one is missed at once.
    hand.viewer.layers["case blue"].translate = (0, 5, 0)
    hand.click("channels_title")
    del hand.viewer.layers["case infrared"]
    hand.says("Choose the layer of blue, infrared")
    assert rows_shown(hand), "something is missing again"


def test_a_layer_with_a_channel_axis_needs_no_choice(open_hand, rgbi_file) -> None:
    stack = scan(channels=4).astype(np.float32)
    hand = open_hand(stack, model=rgbi_file)
    assert not hand.control("channels").isVisibleTo(hand.widget.panel.settings)
    hand.click("segment_slices")
    model = hand.widget.models.loaded()
    planes = volumes.normalise(model, np.moveaxis(stack, 0, -1))
    expected = model.mask_of(volumes.prior(model, planes), 0)
    np.testing.assert_array_equal(hand.mask.data, expected)


def test_colour_pictures_in_a_row_are_normalised_one_by_one_and_one_has_no_slices(
    open_hand, tiny_file, picture
) -> None:
    series = np.stack([picture, picture // 2])
    hand = open_hand(series, rgb=True, model=tiny_file)
    hand.click("segment_slices")
    model = hand.widget.models.loaded()
    expected = [model.mask_of(model.prior(one)) for one in series]
    np.testing.assert_array_equal(hand.mask.data, expected)
    assert hand.control("volume").isVisibleTo(hand.widget.panel.settings)
    hand.widget.choose.image.value = hand.viewer.add_image(picture, rgb=True, name="one")
    hand.known()
    assert not hand.control("volume").isVisibleTo(hand.widget.panel.settings)
