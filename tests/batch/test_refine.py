"""napari-hidiff-refine on volumes: a mask over each, slice by slice as the model says."""

import csv
import json
import signal
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image
from volume_files import affine_of, write_nifti, write_series

from napari_hidiff.batch.refine import _labels
from napari_hidiff.cli import app
from napari_hidiff.errors import InputError
from napari_hidiff.inference import volumes
from napari_hidiff.io.nifti import read_volume
from napari_hidiff.io.volume import Source, Volume

SHAPE = (24, 20, 5)
SOURCE = Source("case.nii", "nifti", SHAPE, (), True)


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
            app.refine_main()
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
    wanted = model.mask_of(volumes.refine(model, image, sampling=model.sampling(seed=3)), 0)
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


def test_a_mask_whose_far_corners_lie_elsewhere_is_refused(tmp_path):
    shape, turn, angle = (256, 256, 160), np.eye(4), np.deg2rad(5.5)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    image = Volume(np.zeros(shape[::-1], np.uint8), (1, 1, 1), np.eye(4), SOURCE)
    for name, affine, line in (
        ("turned", turn, "turned.nii: lies elsewhere than case.nii, by up to 28.9 mm"),
        ("larger", np.diag([1.09, 1.09, 1.09, 1]), "larger.nii: lies elsewhere than case.nii"),
    ):
        path = write_nifti(tmp_path / f"{name}.nii", np.zeros(shape, np.uint8), affine)
        with pytest.raises(InputError, match=line):
            _labels(path, image)
    near = np.eye(4)
    near[:3, 3] = 0.04
    path = write_nifti(tmp_path / "near.nii", np.zeros(shape, np.uint8), near)
    assert _labels(path, image).array.shape == shape[::-1]


def outputs(folder):
    return {path.name: path for path in folder.iterdir() if not path.name.startswith("report.")}


def times(folder):
    return {name: path.stat().st_mtime_ns for name, path in outputs(folder).items()}


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="as tests/batch/test_processes.py")
def test_volumes_and_pictures_on_two_workers_are_those_of_one_and_resume(refine, tmp_path):
    inside, chest = tmp_path / "in", tmp_path / "chest"
    inside.mkdir()
    write_nifti(inside / "a.nii.gz", scan(), affine_of("LPI", SHAPE, oblique=True))
    Image.fromarray(scan(seed=1)[..., 0].astype(np.uint8)).save(inside / "b.png")
    write_series(chest, scan(seed=2).T.astype(np.uint16))
    images, one, two = (inside, chest), tmp_path / "one", tmp_path / "out"
    status, _, err = refine(*images, "--json")
    assert status == 0, err
    two.rename(one)
    status, _, err = refine(*images, "--workers", 2)
    assert status == 0, err
    assert outputs(two).keys() == outputs(one).keys()
    assert {"a_mask.nii.gz", "a_mask_labels.txt", "a_mask_labels.ctbl"} <= outputs(two).keys()
    for name, path in outputs(one).items():
        if not name.endswith(".json"):
            assert outputs(two)[name].read_bytes() == path.read_bytes(), name
    with (two / "report.csv").open(encoding="utf-8", newline="") as file:
        rows = {Path(row["image"]).name: row for row in csv.DictReader(file)}
    mask = read_volume(two / "chest_mask.nii.gz").array
    assert rows["chest"]["shape"] == " x ".join(map(str, mask.shape))
    assert int(rows["chest"]["pixels background"]) == (mask == 0).sum()
    assert int(rows["a.nii.gz"]["changed"]) > 0
    before = times(two)
    status, out, err = refine(*images, "--workers", 2, "--resume")
    assert (status, out) == (0, "")
    assert "3 of 3 images are done already" in err
    assert times(two) == before


def test_resume_redoes_a_volume_that_changed_and_removes_half_files(refine, tmp_path):
    out = tmp_path / "out"
    out.mkdir()  # where the images are too: neither masks nor their tables are images
    write_nifti(out / "a.nii.gz", scan(), affine_of("RAS", SHAPE))
    lps = write_series(out / "chest", scan(seed=2).T.astype(np.uint16))
    images = (out, out / "chest")
    assert refine(*images)[0] == 0
    before = times(out)
    written = (out / "a_mask.nii.gz").read_bytes()
    (out / "a_steps.json").rename(out / ".a_steps.json.12ab34cd.part")
    for name in ("a_mask.nii.gz", "a_mask_labels.txt", "a_mask_labels.ctbl"):
        (out / f".{name}.12ab34cd.part").write_bytes(b"cut")
    (out / "a_mask.nii.gz").write_bytes(b"cut")
    status, printed, err = refine(*images, "--resume")
    assert (status, printed) == (0, f"{out / 'a_mask.nii.gz'}\n"), err
    assert (out / "a_mask.nii.gz").read_bytes() == written
    assert not list(out.glob(".*"))
    again = write_series(out / "chest", scan(seed=3).T.astype(np.uint16))
    np.testing.assert_array_equal(again, lps)
    status, printed, err = refine(*images, "--resume")
    assert (status, printed) == (0, f"{out / 'chest_mask.nii.gz'}\n"), err
    (out / "a_mask.nii.gz").unlink(), (out / "a_steps.json").unlink()
    status, _, err = refine(out / "a.nii.gz")
    assert status == 2
    assert "a_mask_labels.txt: exists already" in err
    assert times(out).keys() < before.keys()


def test_the_number_of_processes_counts_all_slices_and_what_they_hold(refine, model, tmp_path):
    from napari_hidiff.batch import processes

    deep = write_nifti(tmp_path / "deep.nii.gz", scan((24, 20, 40)), np.eye(4))
    write_series(tmp_path / "chest", scan().T.astype(np.uint16))
    chosen = {"sampler": "ddim", "steps": 2, "samples": 2}
    one = model.estimate((20, 24), **chosen)
    for path, slices in ((deep, 40), (tmp_path / "chest", 5)):
        cost = processes._cost(model, path, chosen)
        assert cost.seconds == pytest.approx(slices * one.seconds)
        assert cost.bytes > one.bytes + slices * 20 * 24 * (2 + 4)
    status, _, err = refine(deep, tmp_path / "chest", "--workers", "auto")
    assert status == 0, err
    assert "--workers auto: 1" in err
