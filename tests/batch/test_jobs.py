"""A batch in one process: lists, what --resume leaves out, redoes and refuses, and the report."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_hidiff.batch import records
from napari_hidiff.batch.jobs import MAX_ATTEMPTS, Job, find_images, plan, read_list
from napari_hidiff.batch.refine import attempt
from napari_hidiff.cli import app
from napari_hidiff.errors import InputError
from napari_hidiff.io.images import read_labels


@pytest.fixture
def refine(monkeypatch, capsys, tiny_file, tmp_path):
    """``refine(image, ..., options)`` into tmp_path/out: exit status, stdout, stderr."""

    def run(*arguments):
        options = ("--model", tiny_file, "--output", tmp_path / "out", "--device", "cpu")
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments + options)])
        with pytest.raises(SystemExit) as left:
            app.refine_main()
        out, err = capsys.readouterr()
        return left.value.code, out, err

    return run


@pytest.fixture
def crop(sample_pair, tmp_path):
    """``crop("a.png", row)``: a file with 48 x 64 pixels of the sample; returns its path."""

    def write(name, row=400):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample_pair[0][row : row + 48, 400:464]).save(path)
        return path

    return write


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*_*")}


def load(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_list_names_images_priors_and_fixed_pixels(refine, crop, tmp_path):
    crop("x/a b.png"), crop("x/b.png", 500), crop("x/c.png", 600)
    rng = np.random.default_rng(0)
    prior = rng.integers(0, 2, (48, 64), np.uint8)
    fixed = rng.choice([0, 1, 255], (48, 64)).astype(np.uint8)
    for name, mask in (("p.png", prior), ("f.png", fixed)):
        Image.fromarray(mask).save(tmp_path / "x" / name)
    lines = ["# today", "", "a b.png\tp.png", "  b.png\t\tf.png", str(tmp_path / "x" / "c.png")]
    (tmp_path / "x" / "today.txt").write_text("\n".join(lines), encoding="utf-8")
    status, out, _ = refine("--list", tmp_path / "x" / "today.txt")
    assert status == 0
    assert [Path(line).name for line in out.splitlines()] == [
        "a b_mask.png",
        "b_mask.png",
        "c_mask.png",
    ]
    first, second, third = (load(tmp_path / "out" / f"{n}_steps.json") for n in ("a b", "b", "c"))
    assert first["prior"]["pixels"][1] == prior.sum()
    assert first["fixed"] is None
    assert second["fixed"]["pixels"] == (fixed < 2).sum()
    mask = read_labels(tmp_path / "out" / "b_mask.png", 2)
    np.testing.assert_array_equal(mask[fixed < 2], fixed[fixed < 2])
    assert third["prior"]["source"] == "segmentor"


def test_a_picture_that_viewers_turn_is_refined_as_it_is_stored_and_says_so(refine, crop, tmp_path):
    path, exif = crop("a.png"), Image.Exif()
    exif[274] = 3
    with Image.open(path) as picture:
        pixels = np.array(picture)
    Image.fromarray(pixels).save(path, exif=exif)
    status, _, err = refine(path)
    assert status == 0
    assert "a.png: has EXIF orientation 3; the mask lies on it as it is stored" in err
    assert load(tmp_path / "out" / "a_steps.json")["orientation"] == 3
    mask = tmp_path / "out" / "a_mask.png"
    assert refine(path, "--overwrite", "--prior", mask)[0] == 0  # one of ours lies as stored
    Image.fromarray(read_labels(mask, 2)).save(tmp_path / "p.png")
    for option in ("--prior", "--fixed"):
        status, _, err = refine(path, "--overwrite", option, tmp_path / "p.png")
        assert (status, err.count("\n")) == (2, 1)
        assert "p.png: a.png has EXIF orientation 3: whether the mask lies" in err


def test_a_missing_image_of_a_list_is_reported_and_the_others_are_done(refine, crop, tmp_path):
    crop("a.png"), crop("c.png")
    (tmp_path / "list.txt").write_text("a.png\nb.png\nc.png\n", encoding="utf-8")
    status, out, err = refine("--list", tmp_path / "list.txt")
    assert status == 2
    assert len(out.splitlines()) == 2
    assert f"{tmp_path / 'b.png'}: no such file" in err


def test_lists_that_cannot_be_used_get_one_line(refine, tmp_path):
    cases = [
        ("# nothing\n\n", "names no images"),
        ("a.png\na.png\n", "line 2: .*a.png is in the list already"),
        ("a.png\tp.png\tf.png\tx\n", "line 1: wanted an image"),
        ("\tp.png\n", "line 1: wanted an image"),
        ("x/a.png\ny/a.png\n", None),
    ]
    file = tmp_path / "list.txt"
    for text, line in cases[:-1]:
        file.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=line):
            read_list(file)
    with pytest.raises(InputError, match="cannot be read"):
        read_list(tmp_path / "none.txt")
    file.write_text(cases[-1][0], encoding="utf-8")
    status, out, err = refine("--list", file)
    assert (status, out) == (2, "")
    assert "would both write" in err
    status, _, err = refine()
    assert status == 2
    assert "no images: give files, folders or a --list" in err


def test_resume_does_what_is_left_and_nothing_twice(refine, crop, tmp_path):
    for name, row in (("a", 300), ("b", 400), ("c", 500)):
        crop(f"in/{name}.png", row)
    assert refine(tmp_path / "in" / "a.png", tmp_path / "in" / "b.png")[0] == 0
    before = times(tmp_path / "out")
    status, out, err = refine(tmp_path / "in", "--resume", "--json")
    assert status == 0
    report = json.loads(out)
    assert [Path(record["image"]).name for record in report["images"]] == ["c.png"]
    assert [Path(record["image"]).name for record in report["skipped"]] == ["a.png", "b.png"]
    assert "2 of 3 images are done already" in err
    after = times(tmp_path / "out")
    assert {name: after[name] for name in before} == before
    status, out, _ = refine(tmp_path / "in", "--resume")
    assert (status, out) == (0, "")
    assert times(tmp_path / "out") == after


def test_resume_redoes_what_was_made_from_other_files(refine, crop, tmp_path):
    images = [crop("in/a.png", 300), crop("in/b.png", 400), crop("in/c.png", 500)]
    refine(*images)
    crop("in/b.png", 600)
    (tmp_path / "out" / "c_mask.png").unlink()
    status, out, _ = refine(*images, "--resume")
    assert status == 0
    assert [Path(line).name for line in out.splitlines()] == ["b_mask.png", "c_mask.png"]
    assert refine(*images, "--resume", "--prior", tmp_path / "out")[0] == 0
    assert load(tmp_path / "out" / "a_steps.json")["prior"]["source"] != "segmentor"


def test_resume_refuses_records_of_other_settings_and_names_what_differs(refine, crop, tmp_path):
    image = crop("in/a.png")
    refine(image, "--seed", 1)
    before = times(tmp_path / "out")
    steps = tmp_path / "out" / "a_steps.json"
    status, _, err = refine(image, "--resume", "--seed", 2, "--steps", 3)
    assert status == 2
    assert f"{steps}: made with steps 2, now 3; seed 1, now 2; --overwrite replaces it" in err
    record = load(steps)
    for changes, line in (
        (
            {"made_from": record["made_from"] | {"model": "0" * 64}},
            "another file of the model tiny",
        ),
        ({"model": "huge"}, "model huge, now tiny"),
        ({"versions": {"napari-hidiff": "0.0.1"}}, "napari-hidiff 0.0.1, now"),
        ({"made_from": None}, "does not say what it was made from"),
    ):
        steps.write_text(json.dumps(record | changes), encoding="utf-8")
        status, _, err = refine(image, "--resume", "--seed", 1)
        assert status == 2
        assert line in err
    steps.write_text("{", encoding="utf-8")
    assert "is no record of a refinement" in refine(image, "--resume", "--seed", 1)[2]
    assert times(tmp_path / "out").keys() == before.keys()
    assert times(tmp_path / "out")["a_mask.png"] == before["a_mask.png"]
    assert refine(image, "--resume", "--seed", 2, "--overwrite")[0] == 0
    assert load(steps)["settings"]["seed"] == 2


def test_resume_refuses_the_masks_of_others(refine, crop, tmp_path):
    refine(crop("x/a.png", 300))
    status, _, err = refine(crop("y/a.png", 400), "--resume")
    assert status == 2
    assert f"is of {tmp_path / 'x' / 'a.png'}, not of {tmp_path / 'y' / 'a.png'}" in err
    mine = tmp_path / "out" / "b_mask.png"
    mine.write_bytes(b"mine")
    status, _, err = refine(crop("b.png"), "--resume")
    assert status == 2
    assert "b_mask.png: exists without b_steps.json" in err
    assert mine.read_bytes() == b"mine"


def test_a_kill_between_mask_and_record_is_made_good_and_half_files_are_removed(
    refine, crop, tmp_path
):
    image, out = crop("a.png"), tmp_path / "out"
    refine(image)
    mask = (out / "a_mask.png").read_bytes()
    (out / "a_steps.json").rename(out / ".a_steps.json.12ab34cd.part")
    (out / "a_mask.png").write_bytes(b"cut")
    (out / ".a_mask.png.99.part").write_bytes(b"cut")
    (out / ".a_steps.json.99-1.started").write_text("1")
    (out / ".b_mask.png.99.part").write_bytes(b"of another batch")
    assert refine(image, "--resume")[0] == 0
    assert (out / "a_mask.png").read_bytes() == mask
    assert sorted(path.name for path in out.glob(".*")) == [".b_mask.png.99.part"]


def test_a_mask_whose_record_only_waits_goes_with_it(refine, crop, tmp_path):
    image, out = crop("out/a.png"), tmp_path / "out"
    refine(image)
    (out / "a_steps.json").rename(out / ".a_steps.json.12ab34cd.part")
    assert find_images([out]) == [image]
    records.sweep(plan([image], out, resume=True))
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "report.csv", "report.json"]
    assert refine(image, "--resume")[0] == 0


def test_the_report_has_a_row_for_every_image(refine, crop, tmp_path):
    images = [crop("in/a.png", 300), tmp_path / "in" / "cut.png", crop("in/z.png", 500)]
    refine(images[2])
    images[1].write_bytes(b"no picture")
    status, out, _ = refine(*images, "--resume", "--json")
    assert status == 2
    report = load(tmp_path / "out" / "report.json")
    printed = json.loads(out)
    assert {**printed, "seconds": 0} == {**report, "seconds": 0}
    assert report["settings"] == {"sampler": "ddim", "steps": 2, "samples": 2, "seed": 0}
    assert report["model"] == "tiny"
    assert report["workers"] == 1
    assert report["left"] == []
    status, _, err = refine(images[2], "--resume", "--scale", 1)
    assert status == 2
    assert "made with scale None, now 1.0" in err
    with (tmp_path / "out" / "report.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["done", "failed", "skipped"]
    assert [row["image"] for row in rows] == list(map(str, images))
    assert "cannot be read as an image" in rows[1]["error"]
    mask = read_labels(tmp_path / "out" / "a_mask.png", 2)
    assert int(rows[0]["pixels vessel"]) == mask.sum()
    assert int(rows[0]["pixels background"]) == (mask == 0).sum()
    assert rows[0]["shape"] == "48 x 64 x 3"


def test_changed_pixels_are_those_between_prior_and_mask(refine, crop, tmp_path):
    prior = np.zeros((48, 64), np.uint8)
    Image.fromarray(prior).save(tmp_path / "p.png")
    refine(crop("a.png"), "--prior", tmp_path / "p.png")
    record = load(tmp_path / "out" / "a_steps.json")
    changed = int(read_labels(tmp_path / "out" / "a_mask.png", 2).sum())
    assert record["changed"] == changed > 0


def test_a_file_that_is_no_report_is_not_replaced(refine, crop, tmp_path):
    mine = tmp_path / "out" / "report.csv"
    mine.parent.mkdir()
    mine.write_text("mine")
    image = crop("a.png")
    status, _, err = refine(image)
    assert status == 2
    assert "report.csv: is no report of this program; --overwrite replaces it" in err
    assert mine.read_text() == "mine"
    assert refine(image, "--overwrite")[0] == 0


def test_a_number_of_workers_that_cannot_be_gets_one_line(refine, crop):
    image = crop("a.png")
    for options, line in (
        (("--workers", "0"), "--workers must be auto or a number from 1, not '0'"),
        (("--workers", "many"), "not 'many'"),
        (("--workers", "2", "--dask", "tcp://x:1"), "give one"),
        (("--dask", "tcp://127.0.0.1:9"), "no dask scheduler answers at tcp://127.0.0.1:9"),
    ):
        status, out, err = refine(image, *options)
        assert (status, out) == (2, "")
        assert line in err


def test_auto_takes_one_process_for_little_work(refine, crop):
    status, _, err = refine(crop("a.png"), "--workers", "auto")
    assert status == 0
    assert "--workers auto: 1" in err


def test_attempts_that_do_not_come_back_are_counted_and_end(tmp_path):
    job = Job(tmp_path / "a.png", None, None, tmp_path / "a_mask.png", tmp_path / "a_steps.json")
    lost = [attempt(job, "run") for _ in range(MAX_ATTEMPTS)]
    for one in lost:
        one.__enter__()  # and never left, as in a process that is killed
    with pytest.raises(InputError, match="died 3 times while it was at it"), attempt(job, "run"):
        pass
    with attempt(job, "another"):
        assert len(list(tmp_path.glob(".*another-1.started"))) == 1
    assert len(list(tmp_path.glob(".*.started"))) == MAX_ATTEMPTS
    records.sweep([job])
    assert not list(tmp_path.iterdir())


def test_the_digest_of_a_folder_is_that_of_its_names_and_contents(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "1.dcm").write_bytes(b"a")
    found = {records.digest(tmp_path / "d")}
    (tmp_path / "d" / "2.dcm").write_bytes(b"b")
    found.add(records.digest(tmp_path / "d"))
    (tmp_path / "d" / "2.dcm").write_bytes(b"c")
    found.add(records.digest(tmp_path / "d"))
    assert len(found) == 3
    assert records.digest(tmp_path / "none") is None


def test_the_digest_of_a_series_is_that_of_its_dicom_files(tmp_path):
    folder, mark = tmp_path / "chest", b"\0" * 128 + b"DICM"
    folder.mkdir()
    for name, rest in (("1.dcm", b"a"), ("2", b"b")):
        (folder / name).write_bytes(mark + rest)
    paths = (folder, folder / "1.dcm", folder / "2")
    before = [records.digest(path) for path in paths]
    assert len(set(before)) == 3
    (folder / "out").mkdir()
    for name in ("chest_mask.nii.gz", "out/report.csv"):
        (folder / name).write_bytes(b"ours")
    assert [records.digest(path) for path in paths] == before
    (folder / "2").write_bytes(mark + b"c")
    assert not set(before) & {records.digest(path) for path in paths}
