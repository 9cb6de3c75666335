"""Synapse: TransUNet's copy and raw BTCV, and what is refused of either."""

import numpy as np
import pytest
import volume_layouts as layouts
from cases import every, ids, refused

from napari_hidiff.training.datasets import open_dataset


@pytest.fixture(scope="module")
def btcv(tmp_path_factory):
    return layouts.write_btcv(tmp_path_factory.mktemp("btcv") / "RawData" / "Training")


@pytest.fixture(scope="module")
def transunet(tmp_path_factory):
    return layouts.write_transunet(tmp_path_factory.mktemp("transunet") / "Synapse")


def test_raw_btcv(btcv):
    dataset = open_dataset("synapse", btcv.parent.parent)
    assert ids(dataset.splits["train"]) == ["case0005", "case0006", "case0007"]
    assert ids(dataset.splits["val"]) == ["case0039", "case0040"]
    assert ids(dataset.splits["test"]) == ["case0001"]
    assert dataset.notes == ("24 of 30 patients are missing, case0002 first",)
    assert dataset.classes[1:4] == ("aorta", "gallbladder", "left kidney")
    sample = dataset.load(dataset.splits["test"][0])
    image, mask = layouts.ct(1)
    assert np.array_equal(sample.image, image[..., None])
    assert np.array_equal(sample.mask, mask)  # the other organs of BTCV are background
    assert sample.spacing == pytest.approx(layouts.SPACING)
    assert sample.volume


def test_transunet_s_copy_holds_the_same_in_hu(transunet, btcv):
    dataset = open_dataset("synapse", transunet)
    raw = open_dataset("synapse", btcv)
    assert ids(dataset.splits["train"]) == ids(raw.splits["train"])
    assert ids(dataset.splits["val"]) == ids(raw.splits["val"])
    assert ids(dataset.splits["test"]) == ["case0001", "case0002"]
    assert dataset.intensity == raw.intensity == {"rule": "window", "low": -125.0, "high": 275.0}
    for id_ in ("case0001", "case0005"):  # one from h5, one from npz
        sample, other = dataset.load(every(dataset)[id_]), raw.load(every(raw)[id_])
        assert sample.image.dtype == np.float32
        assert sample.image == pytest.approx(other.image.clip(-125, 275), abs=1e-3)
        assert np.array_equal(sample.mask, other.mask)
        assert sample.spacing is None


def test_slices_with_gaps_run_by_number(tmp_path):
    root = layouts.write_transunet(tmp_path, train=(5, 6), test=(), lists=False)
    (root / "train_npz" / "case0005_slice002.npz").unlink()
    for index, number in ((3, 20), (5, 100)):
        path = root / "train_npz" / f"case0005_slice{index:03}.npz"
        path.rename(path.with_name(f"case0005_slice{number}.npz"))
    dataset = open_dataset("synapse", root)
    sample = dataset.load(every(dataset)["case0005"])
    assert np.array_equal(sample.mask, layouts.ct(5)[1][[0, 1, 4, 3, 5]])


def test_patients_of_neither_list_and_of_both_folders(tmp_path):
    root = layouts.write_transunet(tmp_path / "a", train=(5, 9001, 9003), test=(9002,))
    dataset = open_dataset("synapse", root)
    assert ids(dataset.splits["train"]) == ["case0005", "case9001"]
    assert ids(dataset.splits["val"]) == ["case9003"]
    assert ids(dataset.splits["test"]) == ["case9002"]
    # A patient in both folders is one case.
    layouts.write_transunet(tmp_path / "b", train=(), test=(5, 9001), lists=False)
    for file in (tmp_path / "b" / "test_vol_h5").iterdir():
        file.rename(root / "test_vol_h5" / file.name)
    both = open_dataset("synapse", root)
    assert ids(both.splits["train"]) == ["case0005"]
    assert ids(both.splits["val"]) == ["case9003"]
    assert ids(both.splits["test"]) == ["case9001", "case9002"]
    assert [path.suffix for path in every(both)["case0005"].images] == [".npz"] * 6
    assert [path.suffix for path in every(both)["case9001"].images] == [".h5"]


def test_the_owner_s_test_images_without_truth_are_left_out(tmp_path):
    root = layouts.write_btcv(tmp_path, (5, 6, 61))
    (root / "label" / "label0061.nii.gz").unlink()
    (root / "label" / "label0006.nii.gz").unlink()
    dataset = open_dataset("synapse", root)
    assert set(every(dataset)) == {"case0005", "case0006"}
    assert any("1 cases of the owner's test set" in note for note in dataset.notes)
    assert "label0006.nii.gz: missing" in refused(dataset, "case0006")


def spoil_slice_size(path):
    np.savez(path, image=np.zeros((40, 40), np.float32), label=np.zeros((40, 40), np.float32))


def spoil_slice_range(path):
    np.savez(path, image=np.full((40, 48), 255.0), label=np.zeros((40, 48)))


def spoil_slice_nan(path):
    np.savez(path, image=np.full((40, 48), np.nan), label=np.zeros((40, 48)))


def spoil_slice_label(path):
    np.savez(path, image=np.zeros((40, 48)), label=np.full((40, 48), 9.0))


def spoil_slice_key(path):
    np.savez(path, image=np.zeros((40, 48)))


def spoil_slice_bytes(path):
    path.write_bytes(path.read_bytes()[:200])


def spoil_slice_missing(path):
    path.unlink()  # the list still names it


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_slice_size,
        spoil_slice_range,
        spoil_slice_nan,
        spoil_slice_label,
        spoil_slice_key,
        spoil_slice_bytes,
        spoil_slice_missing,
    ],
)
def test_a_bad_slice_is_named(tmp_path, spoil):
    root = layouts.write_transunet(tmp_path, train=(5, 6), test=())
    spoil(root / "train_npz" / "case0005_slice003.npz")
    dataset = open_dataset("synapse", root)
    assert "case0005_slice003.npz: " in refused(dataset, "case0005")
    dataset.load(every(dataset)["case0006"])


def test_a_bad_h5_volume_is_named(tmp_path):
    root = layouts.write_transunet(tmp_path, train=(5,), test=(1, 2))
    (root / "test_vol_h5" / "case0002.npy.h5").write_bytes(b"no hdf")
    dataset = open_dataset("synapse", root)
    assert "case0002.npy.h5: cannot be read" in refused(dataset, "case0002")
    dataset.load(every(dataset)["case0001"])


def test_synapse_real(real_data):
    dataset = open_dataset("synapse", real_data("Synapse_layout"))
    assert {name: ids(cases) for name, cases in dataset.splits.items()} == {
        "train": ["case9001"],
        "val": [],
        "test": ["case9002"],
    }
    sample = dataset.load(dataset.splits["train"][0])
    assert sample.image.shape == (51, 512, 512, 1)
    assert (sample.image.min(), sample.image.max()) == (-125, 275)
    assert sample.mask.max() == 8
