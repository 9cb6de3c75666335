"""A real BraTS case through the window: four files, a correction, a mask that lies over them."""

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from gui.volume_case import corrected_and_carried, exported

from napari_hidiff.io.nifti import read_volume
from napari_hidiff.training import validation
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.datasets.brats import CHANNELS
from napari_hidiff.training.recipes import RECIPES
from napari_hidiff.training.trainer import train

CASE = "BraTS2021_00000"
SLICES = slice(68, 92)
"""The part of the case that is opened: 24 of its 155 slices, around the tumour."""
AT = 12
"""An even slice of them, through the tumour."""
THROWAWAY = {
    "pretrain_iterations": 60,
    "pretrain_lr": 1e-3,
    "folds": 0,
    "iterations": 20,
    "lr": 1e-3,
    "rounds": 0,
    "width": 32,
    "stem": 2,
    "crop": 96,
    "batch": 4,
    "steps": 1,
    "samples": 1,
    "validate_every": 20,
    "workers": 0,
    "precision": "fp32",
}


@pytest.fixture(scope="module")
def case(real_data, tmp_path_factory) -> Path:
    part = tmp_path_factory.mktemp("part") / CASE
    part.mkdir()
    for path in (real_data("BraTS2021") / CASE).glob("*.nii.gz"):
        nibabel.save(nibabel.load(path).slicer[:, :, SLICES], part / path.name)
    return part


@pytest.fixture(scope="module")
def throwaway(case, tmp_path_factory) -> Path:
    """A model trained for seconds on the odd slices of the case: to click with, not to score."""
    folder = tmp_path_factory.mktemp("brats")
    odd = folder / "BraTS2021" / CASE
    odd.mkdir(parents=True)
    for path in case.glob("*.nii.gz"):
        nibabel.save(nibabel.load(path).slicer[:, :, 1::2], odd / path.name.removesuffix(".gz"))
    recipe = replace(RECIPES["brats"], **THROWAWAY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "PLANES", 1)
        return train(recipe, open_dataset("brats", odd.parent), folder / "run", device="cpu")


@pytest.mark.slow
def test_four_modalities_are_segmented_corrected_carried_and_exported(
    case, throwaway, open_hand, tmp_path, monkeypatch
) -> None:
    files = {name: case / f"{CASE}_{name}.nii.gz" for name in CHANNELS}
    hand = open_hand()
    for path in files.values():
        hand.viewer.open(str(path), plugin="napari-hidiff")
    hand.viewer.reset_view()
    assert [layer.name for layer in hand.viewer.layers] == [f"{CASE}_{name}" for name in CHANNELS]
    hand.use(throwaway)
    assert hand.widget.fit.problem is None, hand.widget.fit.problem
    for name in CHANNELS:
        assert hand.control(f"channel_{name}").currentText() == f"{CASE}_{name}"
    truth = read_volume(case / f"{CASE}_seg.nii.gz").array
    assert set(np.unique(truth)) == {0, 1, 2, 4}
    truth = np.where(truth == 4, 3, truth)  # the model counts its classes, BraTS leaves 3 out
    mask = corrected_and_carried(hand, truth, AT, reach=3)
    out = exported(hand, files["flair"], tmp_path, monkeypatch)
    labels = np.asarray(nibabel.load(out).dataobj)
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    names = (tmp_path / "mask_labels.txt").read_text()
    assert [name in names for name in ("necrotic core", "edema", "enhancing tumor")] == [True] * 3
    # The file is stored L, P, S: its first two axes run against those of the window.
    np.testing.assert_array_equal(labels, mask.T[::-1, ::-1])
    (again,) = hand.viewer.open(str(out), plugin="napari-hidiff")
    flair = hand.viewer.layers[f"{CASE}_flair"]
    np.testing.assert_array_equal(again.data, mask)
    for corner in ((0, 0, 0), (23, 239, 239)):
        assert tuple(again.data_to_world(corner)) == tuple(flair.data_to_world(corner))

    # BraTS's own 4 is no label of the model: said before anything is written
    place = {"scale": flair.scale, "translate": flair.translate, "units": flair.units}
    owner = hand.viewer.add_labels(np.where(truth == 3, 4, truth), name="seg", **place)
    hand.widget.choose.prior.value = owner
    hand.known()
    hand.click("segment_slices")
    assert "label 4" in hand.said()
    assert "the model knows 0 to 3" in hand.said()
    np.testing.assert_array_equal(hand.mask.data, mask)
