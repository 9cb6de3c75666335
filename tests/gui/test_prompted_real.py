"""The universal model on real images that it was not trained on, in a real window: a polyp, five
nuclei, a hippocampus through ten slices."""

from pathlib import Path

import numpy as np
from gui.test_prompted import box, of, point, ready, replayed
from gui.test_shape import controls
from PIL import Image
from scipy import ndimage
from skimage import measure

from napari_hidiff.io.nifti import read_volume
from napari_hidiff.masks import dice


def pair(folder: Path, stem: str) -> tuple[np.ndarray, np.ndarray]:
    """An image and its mask."""
    image = np.array(Image.open(folder / "images" / f"{stem}.jpg"))
    return image, np.array(Image.open(folder / "masks" / f"{stem}.png"))


def correct(hand, truth: np.ndarray, label: int = 1) -> float:
    """Click in the middle of the largest error of an object, bool [H, W], with a brush or an eraser
    half as wide as the error is there. Returns the Dice after the update."""
    shown = tuple(hand.viewer.dims.current_step[: hand.mask.ndim - 2])
    wrong = (hand.mask.data[shown] == label) != truth
    parts = measure.label(wrong, connectivity=1)
    error = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    depth = ndimage.distance_transform_edt(np.pad(error, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    tool = "paint" if truth[row, column] else "erase"
    point(hand, row, column, max(1, round(depth.max())), tool)
    return overlap(hand.mask.data[shown] == label, truth)


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    return dice(found.astype(np.uint8), truth.astype(np.uint8))


def look_at(hand, layer) -> None:
    """Choose an image layer, and show it alone."""
    for other in hand.viewer.layers:
        other.visible = other == layer
    hand.viewer.layers.selection.active = layer
    hand.viewer.reset_view()
    hand.known()
    hand.click("paint")


def test_a_polyp_five_nuclei_and_a_hippocampus(open_hand, real_data) -> None:
    sets, volumes = real_data("any"), real_data("Task04_Hippocampus")
    picture, mask = pair(sets / "kvasir_polyp", "cju0s690hkp960855tjuaqvv0")
    hand = open_hand(picture, "universal", stepwise=False, rgb=True)
    ready(hand)
    hand.click("paint")
    polyp = [correct(hand, mask > 0) for _ in range(3)]

    picture, mask = pair(sets / "kromp_nuclei_fluo", "Neuroblastoma_1")
    look_at(hand, hand.viewer.add_image(picture, name="nuclei"))
    parts = measure.label(mask, connectivity=1)
    single = [one for one in measure.regionprops(parts) if one.eccentricity < 0.8]  # not two
    five = sorted(single, key=lambda one: -one.area)[:5]
    nuclei = []
    for label, nucleus in enumerate(five, 1):
        truth = parts == nucleus.label
        if label > 1:
            hand.click("new_object")
        if label == 5:
            box(hand, truth)
        else:
            strokes = 1
            while correct(hand, truth, label) < 0.85 and strokes < 3:
                strokes += 1
        nuclei.append(overlap(of(hand, label), truth))

    scan = read_volume(volumes / "imagesTr" / "hippocampus_123.nii.gz").array
    truth = read_volume(volumes / "labelsTr" / "hippocampus_123.nii.gz").array > 0
    layer = hand.viewer.add_image(scan, name="hippocampus", scale=(8, 8, 8))
    at, reach = len(scan) // 2, 5
    hand.viewer.dims.set_current_step(0, at)
    look_at(hand, layer)
    assert len(controls(hand)) == 11
    middle = [correct(hand, truth[at]) for _ in range(3)]
    hand.control("first_slice").setValue(at - reach)
    hand.control("last_slice").setValue(at + reach)
    hand.click("carry")
    hand.says(f"Carried to {2 * reach} slices", "slices")
    slices = range(at - reach, at + reach + 1)
    touched = np.flatnonzero(hand.mask.data.any((1, 2)))
    np.testing.assert_array_equal(touched, slices)
    carried = [overlap(hand.mask.data[z], truth[z]) for z in slices]
    for z, button in ((at - 3, "carry_back"), (at + 3, "carry_on")):
        hand.viewer.dims.set_current_step(0, z)
        hand.known()
        correct(hand, truth[z])
        correct(hand, truth[z])
        hand.click(button)
    mended = [overlap(hand.mask.data[z], truth[z]) for z in slices]
    hand.click("refine_slices")
    hand.says(f"Updated {2 * reach + 1} slices", "slices")
    np.testing.assert_array_equal(np.flatnonzero(hand.mask.data.any((1, 2))), slices)
    updated = [overlap(hand.mask.data[z], truth[z]) for z in slices]
    np.testing.assert_array_equal(replayed(hand), hand.mask.data)

    print(f"polyp {np.round(polyp, 2)}, nuclei {np.round(nuclei, 2)}")
    print(f"hippocampus {np.round(middle, 2)}, carried {np.round(carried, 2)}")
    means = [round(float(np.mean(one)), 3) for one in (carried, mended, updated)]
    print(f"means: carried, two slices corrected, all updated: {means}")
    assert polyp[2] > 0.8
    assert min(nuclei) > 0.8
    assert middle[2] > 0.8
    assert np.mean(carried) > 0.5
    assert np.mean(mended) > 0.63
