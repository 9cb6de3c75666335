"""Careless input and bad luck: one clear line each, and nothing of the user's is lost."""

from pathlib import Path

import numpy as np
import pytest
from napari.layers import Image
from qtpy.QtCore import Qt

from napari_hidiff._qt.layers.layer_data import check_layer
from napari_hidiff._qt.threads import attempt
from napari_hidiff.errors import InputError
from napari_hidiff.io.images import read_mask


def test_images_that_do_not_fit_are_refused_in_one_line_and_all_that_fit_are_worked_on(
    open_hand, picture, tiny_file: Path
) -> None:
    dask = pytest.importorskip("dask.array")
    holes = picture.astype(np.float32)
    holes[4, 5, 0] = np.nan
    peaks = picture.astype(np.float32)
    peaks[4, 5, 0] = np.inf
    refused = {
        "No model can work on this: the image holds NaN": Image(holes, rgb=True),
        "NaN or infinite values. Open a copy without them.": Image(peaks, rgb=True),
        "1 channel, the model was trained on 3": Image(picture[..., 0]),
        "Open a larger part of it.": Image(picture[:1, :1], rgb=True),
        "is lazy and has 58 GB": Image(dask.zeros((2**20, 72, 96)), contrast_limits=(0, 1)),
    }
    hand = open_hand(picture, rgb=True, model=tiny_file)
    hand.widget.models.list_again()  # with the file: it is kept, as the user chose it
    for line, layer in refused.items():
        hand.viewer.add_layer(layer)
        hand.widget.choose.image.value = layer
        hand.known()
        hand.says(line)
        assert "\n" not in hand.control("message").text()
        for name in ("segment", "step", "run", "rerefine", "accept"):
            hand.offers(name, False)
        hand.key(Qt.Key.Key_G)  # nor by its shortcut
        hand.idle()
        assert hand.widget.bench is None
    assert len(hand.viewer.layers) == 1 + len(refused), "something was allocated"

    # Sixteen bits, floats and alpha fit.
    alpha = np.full((72, 96, 1), 255, np.uint8)
    fitting = [
        picture.astype(np.uint16) * 200,
        picture.astype(np.float32) / 7 - 3,
        np.concatenate([picture, alpha], -1),
    ]
    for image in fitting:
        hand.widget.choose.image.value = hand.viewer.add_image(image, rgb=True)
        hand.known()
        hand.click("run")
        hand.wait(lambda: hand.widget.session and hand.widget.session.run)
        hand.idle()
        model = hand.widget.models.loaded()
        np.testing.assert_array_equal(hand.mask.data, model.refine(image).mask)


@pytest.mark.filterwarnings("ignore:invalid value")  # of napari
def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(InputError, match="has no pixels"):
        check_layer(Image(np.zeros((0, 5, 5), np.uint8), contrast_limits=(0, 1)))


def test_the_mask_lies_over_the_image_whatever_its_scale(
    open_hand, picture, tiny_file: Path
) -> None:
    place = {"scale": (-2.0, 0.5), "translate": (5, -3), "rotate": 20, "shear": [0.3]}
    hand = open_hand(
        picture, rgb=True, metadata={"header": 1}, units=("mm", "mm"), **place, model=tiny_file
    )
    hand.click("segment")
    image = hand.widget.image
    for name in ("scale", "translate", "rotate", "shear"):
        np.testing.assert_allclose(getattr(hand.mask, name), getattr(image, name))
    for corner in ((0, 0), (71, 0), (71, 95)):
        np.testing.assert_allclose(hand.mask.data_to_world(corner), image.data_to_world(corner))
    assert hand.mask.units == image.units
    assert hand.mask.metadata.items() >= image.metadata.items()
    painted = hand.stroke((20, 30), (26, 60))
    assert painted.any()
    assert (hand.fixed[painted] == 1).all()


def test_the_shown_slice_of_a_stack_is_worked_on(open_hand, picture, tiny_file: Path) -> None:
    stack = np.stack([picture, picture[::-1], picture[:, ::-1]])
    hand = open_hand(stack, rgb=True, model=tiny_file)
    hand.viewer.dims.set_current_step(0, 1)
    hand.known()
    hand.click("run")
    hand.wait(lambda: hand.widget.session and hand.widget.session.run)
    hand.idle()
    model = hand.widget.models.loaded()
    assert hand.mask.data.shape == (3, 72, 96)
    np.testing.assert_array_equal(hand.mask.data[1], model.refine(stack[1]).mask)
    assert not hand.mask.data[[0, 2]].any()
    hand.viewer.dims.set_current_step(0, 2)
    hand.known()
    painted = hand.stroke((20, 30), (26, 60))  # on a slice without a segmentation
    assert painted[2].any()
    assert not painted[:2].any()
    hand.mask.undo()
    assert hand.widget.bench.annotation.fixed_count == 0
    hand.mask.redo()
    hand.click("run")
    hand.wait(lambda: hand.widget.session.run is not None)
    hand.idle()
    assert (hand.mask.data[painted] == 1).all()


def test_channels_first_and_three_dimensional_views(open_hand, picture, tiny_file: Path) -> None:
    stack = np.moveaxis(np.stack([picture, picture[::-1]]), -1, 0)  # [C, Z, H, W]
    hand = open_hand(stack, scale=(1, 4, 0.5, 0.5), model=tiny_file)
    hand.click("segment")
    assert hand.mask.data.shape == (2, 72, 96)
    np.testing.assert_allclose(hand.mask.scale, (4, 0.5, 0.5))
    model = hand.widget.models.loaded()
    shown = hand.viewer.dims.current_step[1]
    expected = model.mask_of(model.prior(np.moveaxis(stack[:, shown], 0, -1)))
    np.testing.assert_array_equal(hand.mask.data[shown], expected)
    hand.viewer.dims.ndisplay = 3
    hand.known()
    hand.says("The view is 3-D")


def test_masks_strokes_and_models_that_cannot_be_used_are_one_line(
    hand, tmp_path: Path, tiny_file: Path
) -> None:
    small = hand.viewer.add_labels(np.zeros((10, 10), np.uint8), name="small")
    hand.widget.choose.prior.value = small
    hand.click("segment")
    assert "small has shape (10, 10), the image needs (72, 96)" in hand.said()
    many = hand.viewer.add_labels(np.full((72, 96), 9), name="many")
    hand.widget.choose.prior.value = many
    hand.click("segment")
    assert "The mask to start from holds label 9 in 6912 pixels" in hand.said()
    moved = hand.viewer.add_labels(np.zeros((72, 96), np.uint8), name="moved", translate=(0, 1))
    hand.widget.choose.prior.value = moved
    hand.click("segment")
    assert "moved lies elsewhere than image, by up to 1:" in hand.said()
    assert hand.widget.bench is None

    hand.widget.choose.prior.value = None
    hand.click("segment")
    painted = hand.stroke((20, 30), (26, 60), label=5)
    hand.click("rerefine")
    assert "A stroke holds label 5" in hand.said()
    assert (hand.mask.data[painted] == 5).all()

    before, told = hand.mask.data.copy(), len(hand.notes)
    for number, content in enumerate((b"", b"not a model", tiny_file.read_bytes()[:5000])):
        path = tmp_path / f"broken{number}.safetensors"
        path.write_bytes(content)
        hand.widget.use_model(path)
        hand.wait(lambda name=path.name: name in hand.said())
        hand.wait(lambda: hand.widget.choose.model.value is None)
    assert [len(str(note.message).splitlines()) for note in hand.notes[told:]] == [1, 1, 1]
    np.testing.assert_array_equal(hand.mask.data, before)


def test_strokes_survive_a_run_and_a_result_waits_for_the_end_of_a_stroke(hand) -> None:
    hand.click("segment")
    gate = hand.hold()
    hand.click("run", wait=False)
    hand.wait(lambda: hand.widget.session.run.steps >= 1)
    painted = hand.stroke((20, 30), (26, 60))
    erased = hand.stroke((50, 20), (50, 50), mode="erase")
    assert hand.widget.work.busy, "the window did not answer during the run"
    gate.open()
    hand.idle()
    run = hand.widget.session.run
    assert run.written == run.total
    assert painted.any()
    assert erased.any()
    assert (hand.mask.data[painted & ~erased] == 1).all()
    assert (hand.mask.data[erased] == 0).all()
    assert (run.fixed == -1).all(), "the run began before the strokes"

    # A result comes while the mouse is down.
    hand.click("segment")
    hand.press(20, 30)
    hand.drag(22, 45)
    hand.click("run", wait=False)
    hand.idle()
    run = hand.widget.session.run
    assert run.finished
    assert run.written is None, "a result was written into an open stroke"
    hand.drag(26, 60)
    hand.release(26, 60)
    hand.wait(lambda: run.written == run.total)
    fixed = hand.fixed
    assert (fixed == 1).any()
    assert (hand.mask.data[fixed == 1] == 1).all()
    hand.mask.undo()  # the write alone, not the stroke
    np.testing.assert_array_equal(hand.fixed, fixed)
    assert (hand.mask.data[fixed == 1] == 1).all()


@pytest.mark.parametrize("what", ["image", "image mask"])
def test_a_layer_removed_during_a_run_is_one_line_and_strokes_are_kept(
    hand, sessions: Path, what: str
) -> None:
    hand.click("segment")
    hand.stroke((20, 30), (26, 60))
    gate = hand.hold()
    hand.click("run", wait=False)
    hand.wait(lambda: hand.widget.session.run.steps >= 1)
    hand.viewer.layers.remove(what)
    assert f"{what} was removed" in hand.said()
    assert hand.widget.bench is None
    assert not hand.widget.work.busy
    gate.open()
    hand.quiet()
    assert len(list(sessions.glob("*.npz"))) == 1
    assert all(str(note.severity) != "error" for note in hand.notes)
    if what == "image mask":
        hand.wait(lambda: hand.control("go_on").isVisible(), "the offer to go on")


def test_helper_layers_come_back_and_export_writes_what_is_shown(hand, tmp_path: Path) -> None:
    hand.show_maps()
    hand.click("run")
    hand.wait(lambda: hand.widget.session and hand.widget.session.run)
    hand.idle()
    for name in ("image probability", "image step", "image changes"):
        hand.viewer.layers.remove(name)
    hand.stroke((20, 30), (26, 60))
    hand.click("rerefine")
    assert "image changes" in hand.viewer.layers
    assert hand.viewer.layers.selection.active == hand.mask

    hand.stroke((40, 30), (46, 60))
    for name in ("mask.png", "mask.tif"):
        hand.widget.controller.export(tmp_path / name)
        np.testing.assert_array_equal(read_mask(tmp_path / name), hand.mask.data)
    attempt(hand.widget.controller.export, tmp_path / "mask.bmp")
    assert "mask.bmp" in hand.said()


def test_without_a_model_strokes_are_completed(open_hand, picture) -> None:
    hand = open_hand(picture[..., 0])
    hand.use_none()
    hand.says("napari-hidiff-train")
    hand.click("new_mask")
    hand.click("complete")
    assert "Paint inside the object first" in hand.said()
    hand.stroke((10, 10), (60, 60))
    hand.stroke((60, 5), (60, 30), mode="erase")
    strokes = hand.fixed
    assert (strokes == 0).any(), "a background stroke on an empty mask is a stroke too"
    hand.click("complete")
    fixed = strokes >= 0
    np.testing.assert_array_equal(hand.mask.data[fixed], strokes[fixed])
    assert hand.mask.data.sum() > (strokes == 1).sum()
