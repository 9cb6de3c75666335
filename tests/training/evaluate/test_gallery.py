"""The picture of best, median and worst case."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from cases import message
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_hidiff.training.evaluate.gallery import (
    Row,
    best_median_worst,
    draw,
    richest,
)
from napari_hidiff.training.evaluate.study import pack_array, unpack_array

RED, BLUE = "#ff0000", "#0000ff"
scores = st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(0, 4), min_size=1)


@settings(max_examples=80, deadline=None)
@given(scores)
def test_best_median_and_worst(by_id: Mapping[str, int]) -> None:
    found = best_median_worst(by_id)
    assert list(found) == ["best", "median", "worst"]
    values = sorted(by_id.values())
    middle = values[len(values) // 2] if len(values) % 2 else values[len(values) // 2 - 1]
    assert [by_id[id_] for id_ in found.values()] == [values[-1], middle, values[0]]
    for what in ("best", "worst"):  # of equals the first
        assert found[what] == min(id_ for id_ in by_id if by_id[id_] == by_id[found[what]])
    assert found == best_median_worst(dict(reversed(by_id.items())))


def test_ties_and_nothing() -> None:
    equal = {"c": 0.5, "a": 0.5, "b": 0.5}
    assert best_median_worst(equal) == {"best": "a", "median": "b", "worst": "a"}
    assert best_median_worst({"x": 1.0, "y": 2.0}) == {"best": "y", "median": "x", "worst": "x"}
    with pytest.raises(ValueError, match="no score"):
        best_median_worst({})


def test_the_richest_slice_is_the_first_of_equals() -> None:
    mask = np.zeros((4, 3, 3), np.uint8)
    mask[1, 0, :2] = mask[3, 1, :2] = 2
    mask[2, 2, 2] = 1
    assert richest(mask) == 1
    assert richest(np.zeros_like(mask)) == 0


def test_packed_masks_come_back() -> None:
    mask = np.random.default_rng(0).integers(0, 9, (7, 11)).astype(np.uint8)
    np.testing.assert_array_equal(unpack_array(pack_array(mask), (7, 11)), mask)
    turned = mask.T
    np.testing.assert_array_equal(unpack_array(pack_array(turned), (11, 7)), turned)


def pixels_of(path: Path, color: str) -> int:
    """How many pixels of a picture have about this colour."""
    drawn = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return int((abs(drawn - tuple(bytes.fromhex(color[1:]))).max(-1) < 60).sum())


def row(truth: np.ndarray, prior: np.ndarray, refined: np.ndarray) -> Row:
    image = np.full((*truth.shape, 1), 90, np.uint8)
    return Row("best: +0.1\nx", image, truth, prior, refined, (0.5, 0.6), ("#000000", RED, BLUE))


def test_contours_are_drawn_in_the_colours_of_their_classes(tmp_path: Path) -> None:
    none, square = np.zeros((40, 50), np.uint8), np.zeros((40, 50), np.uint8)
    square[10:30, 10:30] = 1
    seen = {}
    for name, masks in {
        "empty": (none, none, none),
        "truth": (square, none, none),
        "all": (square, square, square),
        "second": (none, 2 * square, none),
        "full": (none + 1, none, none),  # without a border inside
    }.items():
        draw(tmp_path / f"{name}.png", [row(*masks)])
        seen[name] = [pixels_of(tmp_path / f"{name}.png", color) for color in (RED, BLUE)]
    assert seen["empty"] == seen["full"] == [0, 0]
    assert seen["truth"][0] > 100
    assert seen["all"][0] > 2.5 * seen["truth"][0]
    assert seen["second"][0] == 0
    assert seen["second"][1] > 100


def test_a_volume_shows_its_richest_slice(tmp_path: Path) -> None:
    truth = np.zeros((3, 30, 30), np.uint8)
    truth[0, 5:8, 5:8] = truth[2, 5:25, 5:25] = 1
    flat = row(truth[2], truth[2], truth[2])
    deep = row(truth, truth, truth)
    draw(tmp_path / "flat.png", [flat])
    draw(tmp_path / "deep.png", [deep])
    assert (tmp_path / "flat.png").read_bytes() == (tmp_path / "deep.png").read_bytes()


def test_three_rows_of_photographs_are_small(sample_pair, tmp_path: Path) -> None:
    image, truth = sample_pair
    rng = np.random.default_rng(0)
    noisy = rng.integers(0, 256, image.shape).astype(np.uint8)  # nothing compresses worse
    other = np.roll(truth, 2, 0)
    for name, shown, most in (("photo", image, 400_000), ("noise", noisy, 600_000)):
        rows = [Row(name, shown, truth, truth, other, (1.0, 0.5), ("#000000", RED))] * 3
        draw(tmp_path / f"{name}.png", rows)
        assert 10_000 < (tmp_path / f"{name}.png").stat().st_size < most
        with Image.open(tmp_path / f"{name}.png") as drawn:
            assert drawn.width > 600


def test_what_cannot_be_written_gets_one_line(tmp_path: Path) -> None:
    mask = np.eye(9, dtype=np.uint8)
    assert "cannot be written" in message(draw, tmp_path / "no" / "x.png", [row(mask, mask, mask)])
    (tmp_path / "x.png").mkdir()
    assert "cannot be written" in message(draw, tmp_path / "x.png", [row(mask, mask, mask)])
    assert not list(tmp_path.glob(".*"))
