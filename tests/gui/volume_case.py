"""A real volume from its files to the exported mask, with the window's own controls."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from qtpy.QtWidgets import QFileDialog
from scipy.ndimage import distance_transform_edt

from napari_hidiff.io.nifti import read_volume
from napari_hidiff.masks import FREE


def missed(mask: np.ndarray, truth: np.ndarray) -> tuple[int, int, int, int]:
    """The widest place that a mask [H, W] lacks: its row, first and last column, and label."""
    wrong = {label: (truth == label) & (mask != label) for label in np.unique(truth[truth > 0])}
    depth = {label: distance_transform_edt(where) for label, where in wrong.items()}
    label = max(depth, key=lambda label: depth[label].max())
    row, column = np.unravel_index(depth[label].argmax(), mask.shape)
    right = np.flatnonzero(~wrong[label][row])
    first, last = right[right < column].max() + 1, right[right > column].min() - 1
    return int(row), int(first), int(last), int(label)


def corrected_and_carried(hand: Any, truth: np.ndarray, at: int, reach: int) -> np.ndarray:
    """Segment a volume, correct slice ``at``, refine it again, carry it ``reach`` slices on.

    truth : uint8 [Z, Y, X]. Checks that nothing but these slices changes, and that strokes stay.
    Returns the mask.
    """
    hand.viewer.dims.set_current_step(0, at)
    hand.known()
    hand.click("segment_slices")
    hand.says(f"First mask in {len(truth)} slices", "slices")
    segmented = hand.mask.data.copy()
    row, first, last, label = missed(segmented[at], truth[at])
    painted = hand.stroke((row, first), (row, last), label=label)
    assert painted[at].any()
    assert not np.delete(painted, at, 0).any()
    strokes = hand.fixed
    assert (strokes[painted[at]] == label).all()
    hand.click("rerefine")
    np.testing.assert_array_equal(hand.mask.data[at][strokes != FREE], strokes[strokes != FREE])
    np.testing.assert_array_equal(np.delete(hand.mask.data, at, 0), np.delete(segmented, at, 0))
    refined = hand.mask.data[at].copy()
    hand.control("last_slice").setValue(at + reach)
    hand.click("carry_on")
    touched = set(np.flatnonzero((hand.mask.data != segmented).any((1, 2)))) - {at}
    assert touched, hand.control("slices").text()
    assert touched == set(range(at + 1, at + 1 + len(touched))), "it went on slice by slice"
    assert max(touched) <= at + reach
    hand.says(f"Carried to {len(touched)} slice", "slices")
    carried = hand.mask.data
    np.testing.assert_array_equal(carried[at], refined)
    others = [z for z in range(len(truth)) if z != at and z not in touched]
    np.testing.assert_array_equal(carried[others], segmented[others])
    np.testing.assert_array_equal(hand.fixed, strokes)
    return carried.copy()


def exported(hand: Any, image: Path, folder: Path, monkeypatch: Any) -> Path:
    """Export the mask through the dialog, and check where its file says that it lies: exactly
    where the file ``image`` does."""
    out = folder / "mask.nii.gz"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(out), ""))
    hand.click("export")
    written, source = nibabel.load(out), nibabel.load(image)
    np.testing.assert_array_equal(written.affine, source.affine)
    assert written.header.get_zooms() == source.header.get_zooms()
    assert written.shape == source.shape
    assert nibabel.aff2axcodes(written.affine) == nibabel.aff2axcodes(source.affine)
    for name in ("qform_code", "sform_code"):
        assert written.header[name] == source.header[name]
    assert written.header.get_xyzt_units()[0] == source.header.get_xyzt_units()[0]
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(read_volume(out).array, hand.mask.data)
    return out
