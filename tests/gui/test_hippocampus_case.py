"""A real volume of the Decathlon through the window with the bundled model, file to file."""

import nibabel
import numpy as np
import pytest
from gui.volume_case import corrected_and_carried, exported

from napari_hidiff.io.nifti import read_volume

CASE, AT = "hippocampus_123", 15
"""A test case of the bundled model, and the slice in which it lacks most."""


@pytest.mark.slow
def test_a_hippocampus_is_segmented_corrected_carried_and_exported(
    real_data, open_hand, tmp_path, monkeypatch
) -> None:
    folder = real_data("Task04_Hippocampus")
    path = folder / "imagesTr" / f"{CASE}.nii.gz"
    truth = read_volume(folder / "labelsTr" / f"{CASE}.nii.gz").array.astype(np.uint8)
    hand = open_hand()
    (image,) = hand.viewer.open(str(path), plugin="napari-hidiff")
    hand.viewer.reset_view()
    hand.use("hippocampus")
    mask = corrected_and_carried(hand, truth, AT, reach=4)
    out = exported(hand, path, tmp_path, monkeypatch)
    assert set(np.unique(mask)) == {0, 1, 2}
    np.testing.assert_array_equal(np.asarray(nibabel.load(out).dataobj), mask.T)  # stored R, A, S
    hand.viewer.layers.remove(image)
    (again,) = hand.viewer.open(str(out), plugin="napari-hidiff")
    np.testing.assert_array_equal(again.data, mask)
    np.testing.assert_allclose(again.data_to_world((1, 2, 3)), image.data_to_world((1, 2, 3)))
    assert list(again.features["class"]) == ["background", "anterior", "posterior"]
