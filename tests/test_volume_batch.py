"""napari-hidiff-refine on volumes: a mask over each, slice by slice as the model says."""

import json
import sys

import nibabel
import numpy as np
import pytest
import tifffile
from volume_files import affine_of, write_nifti, write_series

from napari_hidiff import cli, volumes
from napari_hidiff.nifti import read_volume

SHAPE = (24, 20, 5)


@pytest.fixture
def model_file(tiny, tmp_path):
    path = tmp_path / "grey.safetensors"
    tiny(3, 1).save(path)
    return path


@pytest.fixture
def model(model_file):
    from napari_hidiff import load_model

    return load_model(model_file, device="cpu")


@pytest.fixture
def refine(monkeypatch, capsys, model_file, tmp_path):
    def run(*arguments):
        options = ("--model", model_file, "--output", tmp_path / "out", "--device", "cpu")
        monkeypatch.setattr(sys, "argv", ["command", *map(str, (*arguments, *options))])
        with pytest.raises(SystemExit) as left:
            cli.refine_main()
        return (left.value.code, *capsys.readouterr())

    return run


def scan(shape=SHAPE, seed=0):
    x, y = np.mgrid[: shape[0], : shape[1]]
    disc = ((x - 12) ** 2 + (y - 9) ** 2 < 30)[..., None] * 300
    return (disc + np.random.default_rng(seed).integers(0, 90, shape)).astype(np.int16)


def write_mask(path, mask, image):
    """A mask [Z, Y, X] as NIfTI in canonical orientation, over an image."""
    nibabel.save(nibabel.Nifti1Image(mask.T, read_volume(image).affine), path)
    return path


def test_a_volume_is_refined_as_the_model_refines_volumes(refine, model, tmp_path):
    path = write_nifti(tmp_path / "case.nii.gz", scan(), affine_of("LPI", SHAPE, oblique=True))
    status, out, err = refine(path, "--seed", 3)
    assert (status, out) == (0, f"{tmp_path / 'out' / 'case_mask.nii.gz'}\n"), err
    assert "case.nii.gz: 5 slices" in err
    mask = nibabel.load(tmp_path / "out" / "case_mask.nii.gz")
    np.testing.assert_array_equal(mask.affine, nibabel.load(path).affine)
    assert mask.shape == SHAPE
    image = volumes.normalise(model, read_volume(path).array[..., None])
    wanted = model.mask_of(volumes.refine(model, image, seed=3), 0)
    got = read_volume(tmp_path / "out" / "case_mask.nii.gz").array
    assert (got == wanted).mean() > 0.999  # another order of sums may tip single voxels
    record = json.loads((tmp_path / "out" / "case_steps.json").read_text())
    assert record["slices"] == 5
    assert record["steps"][0]["pixels"] == np.bincount(got.ravel(), minlength=3).tolist()
    start = model.mask_of(volumes.prior(model, image), 0)
    assert abs(record["steps"][0]["changed"] - (start != wanted).sum()) <= 3


def test_fixed_voxels_stay_and_a_prior_is_where_it_starts(refine, tmp_path):
    path = write_nifti(tmp_path / "case.nii.gz", scan(), affine_of("RAS", SHAPE))
    rng = np.random.default_rng(1)
    prior = rng.integers(0, 3, SHAPE[::-1]).astype(np.uint8)
    fixed = np.full(SHAPE[::-1], -1, np.int16)
    fixed[2] = rng.integers(-1, 3, fixed[2].shape)
    unsigned = np.where(fixed < 0, 255, fixed).astype(np.uint8)
    masks = []
    for kind, array in (("signed", fixed), ("unsigned", unsigned)):
        status, _, err = refine(
            *(path, "--overwrite", "--prior", write_mask(tmp_path / "p.nii.gz", prior, path)),
            *("--fixed", write_mask(tmp_path / f"{kind}.nii", array, path)),
        )
        assert status == 0, err
        masks.append(read_volume(tmp_path / "out" / "case_mask.nii.gz").array)
        np.testing.assert_array_equal(masks[-1][fixed >= 0], fixed[fixed >= 0])
    np.testing.assert_array_equal(*masks)
    record = json.loads((tmp_path / "out" / "case_steps.json").read_text())
    assert record["fixed"]["pixels"] == int((fixed >= 0).sum())
    stamped = np.where(fixed >= 0, fixed, prior)
    assert record["prior"]["pixels"] == np.bincount(stamped.ravel()).tolist()


def test_folders_of_volumes_and_series_and_stacks(refine, tmp_path):
    (tmp_path / "in").mkdir()
    write_nifti(tmp_path / "in" / "a.nii.gz", scan(), affine_of("RAS", SHAPE))
    facts = {"axes": "ZYX", "spacing": 2.0, "unit": "mm"}
    stack = scan().T.astype(np.uint16)
    tifffile.imwrite(tmp_path / "in" / "b.tif", stack, imagej=True, metadata=facts)
    lps = write_series(tmp_path / "chest", stack)
    for _ in range(2):  # own masks are not taken for images
        status, out, err = refine(tmp_path / "in", tmp_path / "chest", "--overwrite", "--json")
        assert status == 0, err
        names = [record["mask"].rsplit("/", 1)[1] for record in json.loads(out)["images"]]
        assert names == ["a_mask.nii.gz", "b_mask.tif", "chest_mask.nii.gz"]
    assert tifffile.imread(tmp_path / "out" / "b_mask.tif").shape == stack.shape
    written = nibabel.load(tmp_path / "out" / "chest_mask.nii.gz")
    np.testing.assert_allclose(written.affine, np.diag([-1, -1, 1, 1]) @ lps, atol=1e-4)


def test_what_does_not_fit_is_one_line_and_the_rest_is_done(refine, tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", scan(), affine_of("RAS", SHAPE))
    mask = np.zeros(SHAPE[::-1], np.uint8)
    small = write_mask(tmp_path / "small.nii", mask[1:], path)
    labels = write_mask(tmp_path / "labels.nii", mask + 7, path)
    moved = write_nifti(tmp_path / "moved.nii", mask.T, affine_of("RAS", SHAPE, (2, 2, 2)))
    for option, wrong, line in (
        ("--prior", small, "small.nii: has shape (4, 20, 24), the image (5, 20, 24)"),
        ("--prior", labels, "labels.nii: unknown label 7; known are 0 to 2"),
        ("--fixed", labels, "labels.nii: 7 to 7; wanted -1 (free) or a class"),
        ("--prior", moved, "moved.nii: lies elsewhere"),
        ("--prior", tmp_path / "none.nii", "none.nii: no such file"),
    ):
        status, out, err = refine(path, option, wrong)
        assert (status, out, len(err.splitlines())) == (2, "", 1)
        assert line in err
    (tmp_path / "cut.nii.gz").write_bytes(path.read_bytes()[:300])
    status, out, err = refine(tmp_path / "cut.nii.gz", path)
    assert status == 2
    assert "cut.nii.gz: cannot be read as NIfTI" in err
    assert out.endswith("a_mask.nii.gz\n")
    assert not list((tmp_path / "out").glob("*cut*"))
