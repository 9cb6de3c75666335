"""Image layers that get other pixels, are removed, or are our own maps; and what is then kept."""

import gc
import weakref

import numpy as np

from napari_hidiff.annotation import sidecar
from napari_hidiff.inference import denoiser


def offered(hand, box: str = "image") -> list[str]:
    return [layer.name for layer in hand.widget.choose[box].choices if layer is not None]


def test_an_image_of_another_shape_ends_the_work_on_the_one_before(hand, picture) -> None:
    hand.click("segment")
    painted = hand.stroke((20, 30), (20, 50))
    mask, before = hand.mask, hand.mask.data.copy()
    image = hand.viewer.layers["image"]
    image.data = picture[:48, :64]
    hand.known()
    told = [note for note in hand.notes if "now has shape" in str(note.message)]
    assert len(told) == 1
    assert "(48, 64, 3)" in str(told[0].message)
    assert "That mask and its strokes are kept" in str(told[0].message)
    assert hand.widget.bench is None
    np.testing.assert_array_equal(mask.data, before)
    kept = sidecar.load(sidecar.find(sidecar.image_key(picture)))
    assert kept.strokes >= painted.sum() > 0
    hand.click("segment")
    assert hand.mask is not mask
    assert hand.mask.data.shape == (48, 64)
    assert hand.mask.data.any()
    image.data = picture  # what was kept of it comes back
    hand.known()
    hand.wait(lambda: hand.widget.annotated_images.offer(image), "the kept strokes")
    hand.click("go_on")
    assert (hand.mask.data[painted] == 1).all()
    assert "Error" not in hand.said()


def test_an_image_of_the_same_shape_keeps_its_mask_one_of_another_is_left_alone(
    hand, picture
) -> None:
    hand.click("segment")
    mask = hand.mask
    hand.viewer.layers["image"].data = picture[::-1].copy()
    hand.known()
    assert hand.mask is mask
    hand.click("segment")
    assert hand.mask is mask

    # A mask of another shape stays in the list, and Find begins a new one.
    mask.data = np.zeros((10, 10), np.uint8)
    hand.click("segment")
    assert hand.mask is not mask
    assert hand.mask.data.shape == (72, 96)
    assert mask in hand.viewer.layers
    assert mask.data.shape == (10, 10)


def test_a_result_of_an_image_that_changed_meanwhile_is_left_out(hand, picture) -> None:
    hand.click("segment", wait=False)
    hand.viewer.layers["image"].data = picture[:48, :64]
    hand.idle()
    hand.known()
    assert "Result left out: image has another shape" in hand.said()
    assert hand.widget.bench is None
    hand.click("segment")
    assert hand.mask.data.shape == (48, 64)


def test_maps_are_no_images_neither_here_nor_for_a_new_widget(hand, picture) -> None:
    hand.show_maps()
    hand.click("segment")
    hand.click("run")
    hand.click("accept")
    assert {"image probability", "image uncertainty", "image changes"} <= {
        layer.name for layer in hand.viewer.layers
    }
    assert offered(hand) == ["image"]
    assert offered(hand, "prior") == ["image mask"]
    hand.viewer.layers.remove("image")
    hand.pause(1)
    assert hand.widget.image is None
    assert offered(hand) == []
    hand.viewer.add_image(picture, name="another", rgb=True)
    assert hand.widget.image.name == "another"
    assert offered(hand) == ["another"]

    hand.click("segment")
    assert "another probability" in hand.viewer.layers
    hand.viewer.window.remove_dock_widget(hand.dock)
    _, widget = hand.viewer.window.add_plugin_dock_widget("napari-hidiff", "HiDiff refine")
    assert [layer.name for layer in widget.choose.image.choices] == ["another"]
    widget.shut_down()


def test_nothing_is_remembered_of_an_image_that_was_removed(hand, picture) -> None:
    for name in ("image mask", "image"):
        hand.click("segment")
        hand.stroke((20, 30), (20, 50))
        hand.click("rerefine")
        hand.click("accept")
        accepted = hand.mask.data.copy()
        assert denoiser.remembered() > 0
        bench = weakref.ref(hand.widget.bench)
        hand.viewer.layers.remove(name)
        hand.wait(lambda: denoiser.remembered() == 0, f"the image to be forgotten without {name}")
    gc.collect()
    assert bench() is None
    hand.viewer.layers.clear()
    image = hand.viewer.add_image(picture, name="again", rgb=True)
    hand.wait(lambda: hand.widget.annotated_images.offer(image), "the kept strokes")
    hand.click("go_on")
    np.testing.assert_array_equal(hand.mask.data, accepted)
