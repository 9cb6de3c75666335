"""Drafts: what they are, that they are made once, and what a kill in between leaves."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from napari_hidiff.annotation.folder import drafts
from napari_hidiff.annotation.folder.drafts import (
    Drafting,
    Made,
    Wanted,
    draft,
    make_drafts,
)
from napari_hidiff.annotation.folder.queue import Queue
from napari_hidiff.errors import InputError
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.io.images import sample
from napari_hidiff.io.registry import read_labelled
from napari_hidiff.masks import entropy

SIDE = 64
PATIENCE = 300.0


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Parts of the bundled photograph, a volume of another kind, and a damaged file."""
    folder = tmp_path / "study"
    folder.mkdir()
    image, _ = sample()
    for number in range(3):
        part = image[300 : 300 + SIDE, 300 + SIDE * number : 300 + SIDE * (number + 1)]
        Image.fromarray(part).save(folder / f"eye{number + 1}.png")
    nibabel.save(nibabel.Nifti1Image(np.zeros((20, 20, 4), np.int16), np.eye(4)), folder / "t1.nii")
    (folder / "bad.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process gives way to nobody: the machine may be busy."""
    monkeypatch.setattr(drafts, "NICE", 0)


def wanted(folder: Path) -> list[Wanted]:
    return Queue(folder).wanted("of this model")


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.npz")}


def test_a_draft_is_the_mask_of_the_model(tiny_model: HiDiff) -> None:
    image = sample()[0][300:364, 300:380]
    mask, benefit = draft(tiny_model, image[None])
    alone = tiny_model.refine(image)
    np.testing.assert_array_equal(mask[0], alone.mask)
    assert 0 < alone.mask.sum() < alone.mask.size
    unsure = entropy(alone.probability).sum() / alone.mask.sum()
    assert benefit == pytest.approx(unsure, rel=1e-5)


def test_the_batches_of_a_volume_do_not_matter(
    tiny: Callable[..., HiDiff], monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = np.random.default_rng(0).normal(size=(5, 20, 24, 1))
    model = tiny(labels=3, channels=1)
    whole, begun = draft(model, volume), []
    monkeypatch.setattr(drafts, "AT_ONCE", 2 * 4 * 3 * 20 * 24)
    mask, benefit = draft(model, volume, on_batch=begun.append)
    np.testing.assert_array_equal(mask, whole[0])
    assert benefit == pytest.approx(whole[1])
    assert len(begun) == 3, "two slices, two slices, one"


def test_images_that_the_model_does_not_fit_are_refused(tiny: Callable[..., HiDiff]) -> None:
    model = tiny()
    with pytest.raises(InputError, match="trained on 3"):
        draft(model, np.zeros((1, 20, 20, 1)))
    with pytest.raises(InputError, match="unlike the images of tiny"):
        draft(model, np.zeros((1, 20, 20, 3)))
    assert draft(model, np.zeros((1, 20, 20, 3)), alike=False)[0].shape == (1, 20, 20)
    with pytest.raises(InputError, match="nothing by itself"):
        draft(model.with_card(prompted=True), np.zeros((1, 20, 20, 3)))


def test_drafts_are_made_once_and_what_cannot_be_is_left(study: Path, tiny_model: HiDiff) -> None:
    given = wanted(study)
    (study / "eye2_mask.png").write_text("somebody's")
    made = {one.name: one for one in make_drafts(tiny_model, given)}
    assert "trained on 3" in made["t1.nii"].left
    assert "bad.png" in made["bad.png"].left
    assert "has a mask" in made["eye2.png"].left
    assert (study / "eye2_mask.png").read_text() == "somebody's"
    at = times(study)
    assert set(at) == {"eye1.png.npz", "eye3.png.npz"}
    mask = read_labelled(Queue(study)["eye1.png"].draft).mask
    np.testing.assert_array_equal(
        mask[0] if mask.ndim == 3 else mask,
        tiny_model.refine(np.asarray(Image.open(study / "eye1.png"))).mask,
    )
    again = {one.name: one for one in make_drafts(tiny_model, given)}
    assert again == made
    assert times(study) == at, "nothing is written again"
    other = tiny_model.with_card(name="other")
    other.digest = "other"
    news = next(one for one in make_drafts(other, given) if not one.left)
    assert news.model == "other"
    assert times(study)["eye1.png.npz"] != at["eye1.png.npz"], "anew by another model"
    stop = threading.Event()
    stop.set()
    assert not list(make_drafts(tiny_model, given, stop))


def until(process: Drafting, count: int) -> list[Made]:
    """Wait for so many images, or for the end."""
    made: list[Made] = []
    end = time.monotonic() + PATIENCE
    while len(made) < count:
        assert time.monotonic() < end
        running = process.running
        made += process.poll()
        if not running:
            return made
        time.sleep(0.02)
    return made


def names(made: Sequence[Made]) -> list[str]:
    return [one.name for one in made if not one.left]


def test_a_process_that_is_killed_goes_on_where_it_was(study: Path, tiny_file: Path) -> None:
    """SIGKILL after the first draft that the window has not heard of yet; the second process has
    far more to do, and ends when it is told to."""
    process = Drafting(str(tiny_file), wanted(study))
    until(process, 2)
    process._process.kill()
    until(process, 99)
    assert process.problem
    kept = times(study)
    assert kept
    assert not list(study.rglob("*.part")), "whole or not at all"
    one = Queue(study)
    assert sum(item.state == "drafted" for item in one.items) == len(kept)
    again = one.wanted("of this model")
    process = Drafting(str(tiny_file), again * 2_000)
    made = until(process, len(again))
    process.stop()
    rest = until(process, 10_000)
    assert len(rest) < 9_000
    assert not process.problem
    assert names(made)[:3] == ["eye1.png", "eye2.png", "eye3.png"]
    assert {name: times(study)[name] for name in kept} == kept, "nothing is done twice"
    one.take_drafts([each for each in made if not each.left])
    states = [item.state for item in Queue(study).items]
    assert states == ["to do", "drafted", "drafted", "drafted", "to do"]


def test_a_process_without_a_model_says_so(study: Path, tmp_path: Path) -> None:
    process = Drafting(str(tmp_path / "none.safetensors"), wanted(study))
    assert not until(process, 1)
    assert process.problem.startswith("No drafts: no model")
