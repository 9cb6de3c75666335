"""The commands as a user runs them: files in, files and numbers out, one line for what is wrong."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_hidiff.cli import app
from napari_hidiff.io.images import SAMPLE, read_labels


@pytest.fixture
def call(monkeypatch, capsys):
    """``call(entry, *arguments)`` -> exit status, stdout, stderr of a command in this process."""

    def run(entry, *arguments):
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            entry()
        out, err = capsys.readouterr()
        return left.value.code, out, err

    return run


@pytest.fixture
def refine(call, tiny_file, tmp_path):
    """``refine(image, ..., options)`` into tmp_path/out with the tiny model."""

    def run(*arguments):
        options = ("--model", tiny_file, "--output", tmp_path / "out", "--device", "cpu")
        return call(app.refine_main, *arguments, *options)

    return run


@pytest.fixture
def crop(sample_pair, tmp_path):
    """``crop("a.png", row)``: a file with 64 x 80 pixels of the sample; returns its path."""

    def write(name, row=400):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = sample_pair[0][row : row + 64, 400:480]
        if path.suffix == ".tif":
            tifffile.imwrite(path, pixels, photometric="rgb")
        else:
            Image.fromarray(pixels).save(path)
        return path

    return write


def write_png(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def one_line(err: str) -> str:
    lines = err.splitlines()
    assert len(lines) == 1, err
    return lines[0]


def test_refine_writes_mask_and_steps_as_the_model_says(refine, crop, tiny_model, tmp_path):
    image = crop("a.png")
    status, out, _ = refine(image, "--seed", 3)
    assert status == 0
    assert out == f"{tmp_path / 'out' / 'a_mask.png'}\n"
    mask = read_labels(tmp_path / "out" / "a_mask.png", labels=2)
    expected = tiny_model.refine(np.array(Image.open(image)), seed=3)
    np.testing.assert_array_equal(mask, expected.mask)
    record = json.loads((tmp_path / "out" / "a_steps.json").read_text())
    assert record["settings"] == {"sampler": "ddim", "steps": 2, "samples": 2, "seed": 3}
    assert [step["t"] for step in record["steps"]] == [step.t for step in expected.steps]
    assert record["steps"][-1]["pixels"] == [int((mask == 0).sum()), int((mask == 1).sum())]
    assert record["prior"]["source"] == "segmentor"


def test_changed_counts_are_those_of_the_masks(refine, crop, tiny_model, tmp_path):
    image = crop("a.png")
    refine(image)
    record = json.loads((tmp_path / "out" / "a_steps.json").read_text())
    pixels = np.array(Image.open(image))
    masks = [tiny_model.mask_of(tiny_model.prior(pixels))]
    masks += [step.mask for step in tiny_model.steps(pixels)]
    changed = [int((a != b).sum()) for a, b in pairwise(masks)]
    assert [step["changed"] for step in record["steps"]] == changed
    assert any(changed)


def test_folders_give_png_for_png_and_tif_for_tif_and_json_one_object(refine, crop, tmp_path):
    crop("in/a.png"), crop("in/b.tif", 500), crop("in/c.jpg", 600)
    (tmp_path / "in" / "notes.txt").write_text("not an image")
    status, out, err = refine(tmp_path / "in", "--json", "--sampler", "one-step")
    assert status == 0
    report = json.loads(out)
    written = [Path(record["mask"]).name for record in report["images"]]
    assert written == ["a_mask.png", "b_mask.tif", "c_mask.png"]
    assert report["failed"] == []
    assert all(Path(record["mask"]).is_file() for record in report["images"])
    assert len(err.splitlines()) == 3


def test_the_same_seed_gives_the_same_file(refine, crop, tmp_path):
    image = crop("a.png")
    masks = []
    for seed in (0, 0, 1):
        refine(image, "--seed", seed, "--overwrite", "--samples", 1)
        masks.append((tmp_path / "out" / "a_mask.png").read_bytes())
    assert masks[0] == masks[1] != masks[2]


def test_prior_mask_is_where_refinement_starts(refine, crop, tiny_model, tmp_path):
    image = crop("a.png")
    prior = np.zeros((64, 80), np.uint8)
    prior[10:30, 10:40] = 1
    status, _, _ = refine(image, "--prior", write_png(tmp_path / "p.png", prior * 255))
    assert status == 0
    expected = tiny_model.refine(np.array(Image.open(image)), prior=prior).mask
    np.testing.assert_array_equal(read_labels(tmp_path / "out" / "a_mask.png", 2), expected)
    record = json.loads((tmp_path / "out" / "a_steps.json").read_text())
    assert record["prior"]["pixels"] == [64 * 80 - 600, 600]


@pytest.mark.parametrize("sampler", ["one-step", "ddim", "ancestral"])
def test_fixed_pixels_keep_their_class_bit_for_bit(refine, crop, tmp_path, sampler):
    image = crop("a.png")
    fixed = np.random.default_rng(0).choice([-1, 0, 1], size=(64, 80)).astype(np.int16)
    unsigned = write_png(tmp_path / "f.png", np.where(fixed < 0, 255, fixed).astype(np.uint8))
    tifffile.imwrite(tmp_path / "f.tif", fixed)
    masks = []
    for path in (unsigned, tmp_path / "f.tif"):
        assert refine(image, "--fixed", path, "--sampler", sampler, "--overwrite")[0] == 0
        masks.append(read_labels(tmp_path / "out" / "a_mask.png", 2))
        np.testing.assert_array_equal(masks[-1][fixed >= 0], fixed[fixed >= 0])
    np.testing.assert_array_equal(*masks)


def test_folders_of_priors_and_fixed_pixels_go_by_stem(refine, crop, tiny_model, tmp_path):
    crop("in/a.png"), crop("in/b.tif", 500)
    rng = np.random.default_rng(1)
    priors = {stem: rng.integers(0, 2, (64, 80), np.uint8) for stem in "ab"}
    write_png(tmp_path / "p" / "a.png", priors["a"])
    write_png(tmp_path / "p" / "b_mask.png", priors["b"])
    assert refine(tmp_path / "in", "--prior", tmp_path / "p")[0] == 0
    for stem, name in (("a", "a_mask.png"), ("b", "b_mask.tif")):
        record = json.loads((tmp_path / "out" / f"{stem}_steps.json").read_text())
        assert record["prior"]["pixels"][1] == priors[stem].sum()
        assert (tmp_path / "out" / name).is_file()


def test_one_bad_file_gets_its_line_and_the_others_are_done(refine, crop, tmp_path):
    crop("in/a.png"), crop("in/z.png")
    (tmp_path / "in" / "cut.png").write_bytes((tmp_path / "in" / "a.png").read_bytes()[:300])
    write_png(tmp_path / "in" / "grey.png", np.zeros((64, 80), np.uint8))
    write_png(tmp_path / "in" / "one.png", np.zeros((1, 1, 3), np.uint8))
    nan = np.full((64, 80, 3), np.nan, np.float32)
    tifffile.imwrite(tmp_path / "in" / "nan.tif", nan, photometric="rgb")
    status, out, err = refine(tmp_path / "in", "--json")
    assert status == 2
    report = json.loads(out)
    assert [Path(record["image"]).name for record in report["images"]] == ["a.png", "z.png"]
    failed = {Path(entry["image"]).name: entry["error"] for entry in report["failed"]}
    assert set(failed) == {"cut.png", "grey.png", "nan.tif", "one.png"}
    assert "1 channel, the model was trained on 3" in failed["grey.png"]
    assert "NaN or infinite" in failed["nan.tif"]
    assert "1 x 1" in failed["one.png"]
    for name, line in failed.items():
        assert str(tmp_path / "in" / name) in line
        assert line in err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "a_mask.png",
        "a_steps.json",
        "report.csv",
        "report.json",
        "z_mask.png",
        "z_steps.json",
    ]


def test_masks_that_do_not_fit_get_one_line(refine, crop, tmp_path):
    image = crop("a.png")
    wrong_shape = write_png(tmp_path / "s.png", np.zeros((80, 64), np.uint8))
    wrong_label = write_png(tmp_path / "l.png", np.full((64, 80), 7, np.uint8))
    for option, path, line in (
        ("--prior", wrong_shape, "shape (80, 64), the image (64, 80)"),
        ("--fixed", wrong_shape, "shape (80, 64), the image (64, 80)"),
        ("--prior", wrong_label, "unknown label 7; known are 0 to 1"),
        ("--fixed", wrong_label, "label 7; the model knows 0..1"),
        ("--prior", tmp_path / "none.png", "no such file"),
    ):
        status, out, err = refine(image, option, path)
        assert (status, out) == (2, "")
        assert line in one_line(err)


def test_a_missing_mask_in_a_folder_is_not_replaced_by_the_model(refine, crop, tmp_path):
    image = crop("a.png")
    (tmp_path / "p").mkdir()
    status, _, err = refine(image, "--prior", tmp_path / "p")
    assert status == 2
    assert f"{tmp_path / 'p' / 'a.png'}: no such file" in one_line(err)


def test_nothing_is_overwritten_unasked(refine, crop, tmp_path):
    image = crop("a.png")
    mine = write_png(tmp_path / "out" / "a_mask.png", np.ones((4, 4), np.uint8))
    before = mine.read_bytes()
    status, _, err = refine(image)
    assert status == 2
    assert "exists already; --overwrite replaces it" in one_line(err)
    assert mine.read_bytes() == before
    assert refine(image, "--overwrite")[0] == 0
    assert mine.read_bytes() != before


def test_two_images_of_one_name_are_refused_before_any_is_refined(refine, crop, tmp_path):
    status, _, err = refine(crop("x/a.png"), crop("y/A.tif"))
    assert status == 2
    assert "would both write" in one_line(err)
    assert not (tmp_path / "out").exists()


def test_own_masks_in_a_folder_are_no_images(refine, crop, call, tiny_file, tmp_path):
    image = crop("in/a.png")
    options = ("--model", tiny_file, "--output", image.parent, "--overwrite", "--json")
    for _ in range(2):
        status, out, _ = call(app.refine_main, image.parent, *options)
        assert status == 0
        assert len(json.loads(out)["images"]) == 1


def test_patterns_are_filled_in_where_the_shell_did_not(refine, crop, tmp_path):
    crop("in/a.png"), crop("in/b.tif")
    status, out, _ = refine(tmp_path / "in" / "*.png")
    assert (status, out) == (0, f"{tmp_path / 'out' / 'a_mask.png'}\n")
    status, _, err = refine(tmp_path / "in" / "*.jpg")
    assert status == 2
    assert "no file matches this pattern" in one_line(err)


def test_bad_arguments_are_one_line_and_status_2(refine, crop, call, tiny_file, tmp_path):
    image = crop("a.png")
    (tmp_path / "empty").mkdir()
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(tiny_file.read_bytes()[:5000])
    cases = [
        ((tmp_path / "empty",), "no png, jpg or tif images in this folder"),
        ((tmp_path / "none.png",), "none.png: no such file"),
        ((image, "--sampler", "magic"), "the sampler must be one of"),
        ((image, "--steps", "99"), "steps must lie in 1..10, not 99"),
        ((image, "--steps", "0"), "greater than or equal to 1"),
        ((image, "--samples", "0"), "greater than or equal to 1"),
        ((image, "--seed", "-1"), "--seed"),
        ((image, "--bogus"), "No such option: --bogus"),
        ((image, crop("b.png"), "--prior", image), "one file for 2 images"),
    ]
    for arguments, line in cases:
        status, out, err = refine(*arguments)
        assert (status, out) == (2, ""), arguments
        assert line in one_line(err)
    output = ("--output", tmp_path / "new")
    for options, line in (
        (("--model", broken, *output), "is not a readable model file"),
        (("--model", "unheard-of", *output), "unheard-of"),
        (("--model", tiny_file, "--device", "abacus", *output), "abacus"),
        (("--model", tiny_file, "--output", image), "the output must be a folder"),
        (output, "--model"),
    ):
        status, out, err = call(app.refine_main, image, *options)
        assert (status, out) == (2, ""), options
        assert line in one_line(err)
    assert not (tmp_path / "new").exists()


def test_demo_prints_every_dice_and_writes_a_picture(call, tiny_file, tmp_path):
    options = ("--model", tiny_file, "--samples", 1, "--steps", 2, "--output", tmp_path / "d")
    status, out, _ = call(app.main, "demo", *options, "--no-window", "--json")
    assert status == 0
    report = json.loads(out)
    assert list(report["dice"]) == ["prior", "step 1", "step 2", "result"]
    assert report["dice"]["result"] == report["dice"]["step 2"]
    with Image.open(report["files"]["picture"]) as picture:
        assert picture.size[0] == 260 * 6
    mask = read_labels(tmp_path / "d" / f"{SAMPLE}_mask.png", labels=2)
    assert mask.shape == (960, 999)


def test_demo_without_json_prints_a_table(call, tiny_file, tmp_path):
    options = ("--model", tiny_file, "--sampler", "one-step", "--output", tmp_path / "d")
    status, out, _ = call(app.main, "demo", *options, "--no-window")
    assert status == 0
    for word in ("prior", "step 1", "result", "Dice", "picture:", "mask:"):
        assert word in out


def test_without_a_display_the_demo_still_succeeds(call, tiny_file, tmp_path, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    options = ("--model", tiny_file, "--sampler", "one-step", "--output", tmp_path / "d")
    status, _, err = call(app.main, "demo", *options)
    assert status == 0
    assert "napari is not opened: there is no display" in err
    status, _, err = call(app.main)
    assert status == 2
    assert "there is no display" in one_line(err)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="DISPLAY is an X11 matter")
def test_a_dead_display_is_a_line_and_not_a_crash(call, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":987")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("QT_QPA_PLATFORM", raising=False)
    status, _, err = call(app.main)
    assert status == 2
    assert "Qt cannot open a window" in one_line(err)


def test_a_missing_image_is_named_before_a_window_opens(call, tmp_path):
    status, _, err = call(app.main, tmp_path / "none.png")
    assert status == 2
    assert one_line(err).endswith("none.png: no such file")
    status, _, err = call(app.main, "modles")
    assert status == 2
    assert one_line(err).endswith("modles: no such file; did you mean the command models?")
    status, _, err = call(app.main, "--device", "abacus")
    assert status == 2
    assert "abacus" in one_line(err)


@pytest.mark.parametrize("entry", ["main", "refine_main"])
def test_help_is_quick_because_it_imports_nothing_heavy(entry):
    script = (
        f"import sys\nfrom napari_hidiff.cli import {entry} as entry\n"
        "sys.argv[1:] = ['--help']\ntry:\n    entry()\nfinally:\n"
        "    heavy = {'torch', 'napari', 'qtpy', 'matplotlib', 'skimage'} & set(sys.modules)\n"
        "    assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    assert "napari-hidiff" in done.stdout
