"""Two raters: scores and places against brute force, what cannot be compared, the command."""

import csv
import itertools
import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_hidiff.agreement import MM, PIXELS, compare
from napari_hidiff.cli import app
from napari_hidiff.errors import InputError
from napari_hidiff.io import registry
from napari_hidiff.io.registry import Labelled
from napari_hidiff.io.write import write_labels
from napari_hidiff.masks import ADDED, RELABELLED, REMOVED, Label

CLASSES = (Label("background", "#000000"), Label("cup", "#ff0000"), Label("disc", "#00ff00"))


def mask(array, spacing=None, classes=None, rater=""):
    return Labelled(np.asarray(array), classes, spacing, rater)


def surface(region):
    """Positions with a face neighbour outside the region or the array."""
    found = []
    for at in map(tuple, np.argwhere(region)):
        for axis, step in itertools.product(range(region.ndim), (-1, 1)):
            to = [*at]
            to[axis] += step
            inside = all(0 <= i < n for i, n in zip(to, region.shape, strict=True))
            if not inside or not region[tuple(to)]:
                found.append(at)
                break
    return np.array(found, float)


def nearest(points, others, spacing):
    return np.linalg.norm((points[:, None] - others[None]) * spacing, axis=-1).min(1)


def brute_parts(flags):
    """Sets of positions that touch, at corners too."""
    left, parts = set(map(tuple, np.argwhere(flags))), []
    while left:
        part, edge = set(), [left.pop()]
        while edge:
            at = edge.pop()
            part.add(at)
            for step in itertools.product((-1, 0, 1), repeat=flags.ndim):
                to = tuple(int(a + b) for a, b in zip(at, step, strict=True))
                if to in left:
                    left.remove(to)
                    edge.append(to)
        parts.append({tuple(map(int, at)) for at in part})
    return parts


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([((9, 11), (0.5, 2.0)), ((9, 11), None), ((4, 5, 6), (3.0, 1.0, 0.7))]),
    st.sampled_from([0.0, 1.0, 2.3]),
)
def test_scores_and_places_are_those_of_brute_force(seed, form, tolerance):
    (shape, spacing), rng = form, np.random.default_rng(seed)
    one, other = (rng.choice(3, shape, p=(0.6, 0.3, 0.1)).astype(np.uint8) for _ in range(2))
    found = compare(mask(one, spacing), mask(other, None), tolerance)
    sides = np.ones(len(shape)) if spacing is None else np.array(spacing)
    far = np.zeros(shape, bool)
    assert [row.label for row in found.rows] == sorted({*one.flat, *other.flat} - {0})
    for row in found.rows:
        a, b = one == row.label, other == row.label
        assert (row.first, row.second) == (a.sum(), b.sum())
        assert row.dice == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
        if not (a.any() and b.any()):
            assert (row.nsd, row.distance, row.hd95) == (0, None, None)
            far |= a | b
            continue
        there, back = surface(a), surface(b)
        apart = nearest(there, back, sides), nearest(back, there, sides)
        every = np.concatenate(apart)
        assert row.nsd == pytest.approx((every <= tolerance + 1e-6).mean())
        assert row.distance == pytest.approx(every.mean())
        assert row.hd95 == pytest.approx(max(np.percentile(side, 95) for side in apart))
        for mine, theirs in ((a, b), (b, a)):
            points = np.argwhere(mine)
            distance = nearest(points, np.argwhere(theirs), sides)
            far[tuple(points[distance > tolerance + 1e-6].T)] = True
    kinds = np.select([one == other, one == 0, other == 0], [0, ADDED, REMOVED], RELABELLED)
    np.testing.assert_array_equal(found.kinds, kinds)
    parts = [(k, p) for k in (1, 2, 3) for p in brute_parts(far & (kinds == k))]
    assert sorted(len(part) for _, part in parts) == sorted(p.pixels for p in found.places)
    assert [p.pixels for p in found.places] == sorted(p.pixels for p in found.places)[::-1]
    for place in found.places:
        (part,) = (p for k, p in parts if place.position in p and k == place.kind)
        assert len(part) == place.pixels
        assert place.extent == (np.ptp([*part], axis=0) + 1).max()
        middle = np.mean([*part], axis=0)
        best = min(np.linalg.norm(np.array(at) - middle) for at in part)
        assert np.linalg.norm(place.position - middle) == pytest.approx(best)


def test_an_outline_a_pixel_apart_is_one_opinion_and_no_place():
    one, other = np.zeros((2, 30, 30), np.uint8)
    one[5:15, 5:15] = other[4:16, 4:16] = 1
    other[25, 20:24] = one[20, 2] = 1
    found = compare(mask(one), mask(other), 1.5)
    assert [(p.pixels, p.kind) for p in found.places] == [(4, ADDED), (1, REMOVED)]
    assert found.places[1].position == (20, 2)
    assert (found.kinds == ADDED).sum() == 12 * 12 - 10 * 10 + 4
    assert len(compare(mask(one), mask(other), 0.5).places) == 3
    assert compare(mask(one), mask(one)).places == []


def test_units_names_and_what_is_said():
    one = np.array([[0, 1, 2, 2]], np.uint8)
    found = compare(mask(one, (1, 1), CLASSES), mask(one, (1.0001, 1)))
    assert [(row.name, row.unit) for row in found.rows] == [("cup", MM), ("disc", MM)]
    assert found.notes == []
    found = compare(mask(one), mask(one, None, CLASSES))
    assert [(row.name, row.unit) for row in found.rows] == [("cup", PIXELS), ("disc", PIXELS)]
    (line,) = found.notes
    assert "pixel size" in line
    other = (CLASSES[0], Label("rim", "#ff0000"), CLASSES[2])
    (line,) = compare(mask(one, (1, 1), CLASSES), mask(one, (1, 1), other)).notes
    assert "label 1 is cup in one and rim in the other" in line
    assert compare(mask(one * 0), mask(one * 0)).rows == []


@pytest.mark.parametrize(
    ("other", "tolerance", "says"),
    [
        (mask(np.zeros((4, 5), np.uint8)), 1, "A has (3, 5), B (4, 5)"),
        (mask(np.zeros((3, 5), np.uint8), (1, 2)), 1, "A has 1 x 1 mm, B 1 x 2 mm"),
        (mask(np.zeros((3, 5), np.uint8)), -1, "tolerance"),
        (mask(np.zeros((3, 5), np.uint8)), float("nan"), "tolerance"),
    ],
)
def test_what_cannot_be_compared_is_one_line(other, tolerance, says):
    with pytest.raises(InputError) as caught:
        compare(mask(np.zeros((3, 5), np.uint8), (1, 1)), other, tolerance, ("A", "B"))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".nii.gz", ".npz"])
def test_the_rater_is_kept_in_the_file(tmp_path, suffix):
    labels = np.array([[0, 1], [2, 0]], np.uint8)
    for rater in ("", "Anna Groß"):
        path = tmp_path / f"mask{suffix}"
        write_labels(path, labels, CLASSES, rater=rater)
        assert registry.read_labelled(path).rater == rater


@pytest.fixture
def command(monkeypatch, capsys):
    """``command(*arguments)`` -> exit status, stdout and stderr of ``napari-hidiff compare``."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["napari-hidiff", "compare", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            app.main()
        return int(left.value.code or 0), *capsys.readouterr()

    return call


def test_the_command_prints_and_writes_the_table(tmp_path, command):
    labels = np.zeros((20, 30), np.uint8)
    labels[4:9, 4:9] = 1
    for rater in ("anna", "ben"):
        (tmp_path / rater).mkdir()
        write_labels(tmp_path / rater / "eye_mask.png", labels, CLASSES, rater=rater)
        labels[15, 20:26] = 2
    write_labels(tmp_path / "ben" / "alone_mask.png", labels)
    one, other = (tmp_path / rater / "eye_mask.png" for rater in ("anna", "ben"))
    status, said, error = command(one, other)
    assert status == 0
    assert "cup" in said
    assert "1.000" in said
    assert "No pixel size in mm is known" in error
    status, said, _ = command(one, other, "--json", "--tolerance", 0)
    (pair,) = json.loads(said)["pairs"]
    assert (pair["first rater"], pair["second rater"], pair["tolerance"]) == ("anna", "ben", 0)
    assert [row["dice"] for row in pair["classes"]] == [1, 0]
    assert pair["places"] == [
        {"position": [15, 22], "pixels": 6, "kind": ADDED, "extent": 6},
    ]
    status, said, error = command(one.parent, other.parent, "--output", tmp_path / "agree.csv")
    assert status == 0
    assert "left out, in one folder only: alone_mask" in error
    with (tmp_path / "agree.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert [(row["class"], row["Dice"], row["HD95"], row["unit"]) for row in rows] == [
        ("cup", "1.000", "0", "px"),
        ("disc", "0.000", "", "px"),
    ]
    assert rows[0]["first rater"] == "anna"


def test_the_command_refuses_in_one_line(tmp_path, command):
    write_labels(tmp_path / "a_mask.png", np.ones((20, 30), np.uint8))
    write_labels(tmp_path / "b_mask.png", np.ones((20, 31), np.uint8))
    one, other = tmp_path / "a_mask.png", tmp_path / "b_mask.png"
    (tmp_path / "empty").mkdir()
    for arguments, says in [
        ((one, other), "has (20, 30)"),
        ((one, tmp_path / "c.png"), "no such file"),
        ((one, tmp_path / "empty"), "is a folder"),
        ((tmp_path, tmp_path / "empty"), "no mask has the name"),
        ((one, one, "--image", tmp_path / "no.png"), "no such file"),
    ]:
        status, _, error = command(*arguments)
        assert status == 2
        assert says in error.splitlines()[-1]


def test_two_observers_of_chase(real_data):
    """As the two observers' masks were measured before: Dice .84 on the first image."""
    folder = real_data("any/chasedb1_2raters")
    names = "masks", "masks2"
    pair = [registry.read_labelled(folder / name / "Image_01L_c0.png") for name in names]
    found = compare(*pair)
    assert found.rows[0].dice == pytest.approx(0.842, abs=0.001)
    assert len(found.places) == 268
    assert found.places[0].pixels == 296
