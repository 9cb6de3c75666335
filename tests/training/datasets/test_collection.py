"""A folder of sets: what is found in it, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import call
from PIL import Image

from napari_hidiff.errors import InputError
from napari_hidiff.training import cli
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.datasets.check import check
from napari_hidiff.training.datasets.collection import (
    as_rgb,
    found_kind,
    held_out,
    read_pair,
    report,
    set_of,
)
from napari_hidiff.training.universal import pack
from napari_hidiff.training.universal.pictures import read_pictures

SIDE = 48


def ring() -> np.ndarray:
    """A cell of label 2 inside a wall of label 1."""
    labels = np.zeros((SIDE, SIDE), np.uint8)
    labels[8:40, 8:40], labels[14:34, 14:34] = 1, 2
    return labels


def blobs(count: int) -> np.ndarray:
    """So many separate objects of 8 x 8 pixels, numbered from 1."""
    labels = np.zeros((SIDE, SIDE), np.uint8)
    for i in range(count):
        y, x = divmod(i, 4)
        labels[12 * y + 2 : 12 * y + 10, 12 * x + 2 : 12 * x + 10] = i + 1
    return labels


def write(folder: Path, masks: dict[str, np.ndarray], rgb: bool) -> None:
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for stem, labels in masks.items():
        shape = (*labels.shape, 3) if rgb else labels.shape
        image = rng.integers(0, 60, shape) + 60 * (labels > 0).reshape(*labels.shape, *[1] * rgb)
        Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"{stem}.png")
        Image.fromarray(labels).save(folder / "masks" / f"{stem}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Axons in walls (grey, two slides of four pictures) and cells (RGB, no list of cases)."""
    write(tmp_path / "axons", {f"a.{i}": ring() for i in range(8)}, rgb=False)
    lines = ("one\ta.0 a.1 a.2 a.3", "two\ta.4 a.5 a.6 a.7")
    (tmp_path / "axons" / "cases.txt").write_text("\n".join(lines) + "\n")
    write(tmp_path / "cells", {f"c{i}": blobs(3 + i) for i in range(6)}, rgb=True)
    return tmp_path


def test_sets_are_dealt_by_case(root):
    dataset = open_dataset("collection", root)
    splits = {name: list(dataset.splits[name]) for name in ("train", "val")}
    assert {name: len(cases) for name, cases in splits.items()} == {"train": 9, "val": 5}
    slides = [{c.group for c in cases if set_of(c) == "axons"} for cases in splits.values()]
    assert sorted(map(sorted, slides)) == [["axons/one"], ["axons/two"]]


def test_held_out_sets_are_val_and_the_rest_trains(root):
    dataset = held_out(open_dataset("collection", root), ["cells"])
    assert {set_of(case) for case in dataset.splits["train"]} == {"axons"}
    assert {set_of(case) for case in dataset.splits["val"]} == {"cells"}
    assert len(dataset.splits["train"]) == 8
    with pytest.raises(InputError, match="no set 'eyes' to hold out; known are axons, cells"):
        held_out(dataset, ["eyes"])
    with pytest.raises(InputError, match="nothing to train on"):
        held_out(dataset, ["axons", "cells"])


def test_what_the_labels_are_is_found_from_the_masks(root):
    assert found_kind([ring() > 0, ring() > 0]) == "single"
    assert found_kind([ring(), ring()]) == "classes"
    assert found_kind([blobs(3), blobs(5)]) == "instances"
    rows = {row["set"]: row for row in report(open_dataset("collection", root))}
    assert rows["axons"] == {
        "set": "axons",
        "train": 4,
        "val": 4,
        "cases": 2,
        "kind": "classes",
        "labels": 2,
    }
    assert (rows["cells"]["kind"], rows["cells"]["labels"]) == ("instances", 8)
    (root / "cells" / "set.json").write_text(json.dumps({"kind": "classes"}))
    rows = {row["set"]: row for row in report(open_dataset("collection", root))}
    assert rows["cells"]["kind"] == "classes"


def test_an_object_holds_what_it_encloses(root):
    cases = [c for split in open_dataset("collection", root).splits.values() for c in split]
    pictures = read_pictures(cases, 64)
    axons = pictures.names.index("axons")
    within = pictures.within[axons]
    assert within[1, [0, 1, 2]].tolist() == [False, True, True]
    assert within[2, [0, 1, 2]].tolist() == [False, False, True]
    assert pictures.nested.tolist() == [name == "axons" for name in pictures.names]
    assert pictures.images.shape == (14, 3, 64, 64)
    assert pictures.sizes.tolist() == [[64, 64]] * 14
    shares = pictures.chances()
    by_set = [float(shares[pictures.sets == i].sum()) for i in range(2)]
    assert by_set == pytest.approx([8**0.5, 6**0.5])


def test_the_check_has_every_pair(root):
    content = check(open_dataset("collection", root))
    assert content["loaded"] == 14
    assert content["bad"] == []
    (root / "cells" / "masks" / "c2.png").unlink()
    content = check(open_dataset("collection", root))
    assert content["loaded"] == 13
    assert "have no mask, c2.png first" in content["bad"][0]


def test_pictures_of_any_depth_become_rgb(root):
    deep = np.linspace(100, 4000, SIDE * SIDE).reshape(SIDE, SIDE).astype(np.uint16)
    found = as_rgb(deep, Path("deep.tif"))
    assert (found.dtype, found.shape) == (np.uint8, (SIDE, SIDE, 3))
    assert (found.min(), found.max()) == (0, 255)
    with pytest.raises(InputError, match="2 channels; wanted grey or RGB"):
        as_rgb(np.zeros((4, 4, 2), np.uint8), Path("two.tif"))
    case = next(c for c in open_dataset("collection", root).splits["train"] if "axons" in c.id)
    image, labels = read_pair(case)
    assert image.shape == (SIDE, SIDE, 3)
    assert labels.tolist() == ring().tolist()


def test_what_is_no_list_of_cases_or_no_kind_is_refused(root):
    (root / "axons" / "cases.txt").write_text("one a.0 a.1\n")
    with pytest.raises(InputError, match=r"cases.txt, line 1: wanted a case, a tab"):
        open_dataset("collection", root)
    (root / "axons" / "cases.txt").unlink()
    (root / "axons" / "set.json").write_text('{"kind": "round"}')
    with pytest.raises(InputError, match="kind must be one of instances, classes, single"):
        open_dataset("collection", root)


def test_a_packed_collection_is_the_same_but_smaller(root, tmp_path):
    out = tmp_path / "packed"
    assert call(pack.main, root, out, "--side", 32).returncode == 0
    before, after = open_dataset("collection", root), open_dataset("collection", out)
    for split, cases in before.splits.items():
        assert [(c.id, c.group) for c in cases] == [(c.id, c.group) for c in after.splits[split]]
    assert [(row["kind"], row["labels"]) for row in report(after)] == [
        ("classes", 2),
        ("instances", 8),
    ]
    cases = [case for split in after.splits.values() for case in split]
    made = {path.name: path.stat().st_mtime_ns for path in (out / "superpixels").iterdir()}
    assert len(made) == len({case.images[0].read_bytes() for case in cases})
    pictures = read_pictures(cases, 32, out / "superpixels")
    assert made == {p.name: p.stat().st_mtime_ns for p in (out / "superpixels").iterdir()}
    assert pictures.superpixels.min() >= 1
    assert pictures.labels.flatten(1).amax(1).min() >= 2
    assert call(pack.main, root, out).returncode == 2


def test_the_command_reports_per_set_and_knows_what_belongs_together(root):
    def train(*words: object):
        return call(cli.main, "--data", root, *words)

    content = json.loads(train("--dataset", "collection", "--check", "--json").stdout)
    assert [(row["set"], row["kind"]) for row in content["sets"]] == [
        ("axons", "classes"),
        ("cells", "instances"),
    ]
    held = ("--hold-out", "cells", "--minutes", 2, "--size", "quick", "--dry-run", "--json")
    content = json.loads(train("--dataset", "collection", *held).stdout)
    assert {name.split("/")[0] for name in content["cases"]["val"]} == {"cells"}
    assert (content["recipe"]["minutes"], content["recipe"]["hypotheses"]) == (2, 3)
    for wrong in (("folder", "--minutes", 2), ("collection", "--paper")):
        refused = train("--dataset", *wrong)
        assert refused.returncode == 2
        assert len(refused.stderr.strip().splitlines()) == 1
