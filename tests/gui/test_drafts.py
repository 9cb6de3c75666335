"""Drafts of a folder's waiting images, made while the hand works on another one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from gui.queue_case import COUNT, NEXT, click_on, go_on, names, open_study, states, twelve_images

from napari_hidiff._qt.preferences import path as remembered
from napari_hidiff.annotation.folder import drafts
from napari_hidiff.annotation.folder.queue import DRAFTS, Queue
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.io.images import read_mask
from napari_hidiff.io.nifti import read_volume
from napari_hidiff.io.registry import read_labelled


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process gives way to nobody: the machine may be busy."""
    monkeypatch.setattr(drafts, "NICE", 0)


def times(folder: Path) -> dict[str, int]:
    """When each draft was written, by its image."""
    return {path.stem: path.stat().st_mtime_ns for path in (folder / DRAFTS).glob("*.npz")}


def draft_of(folder: Path, name: str) -> np.ndarray:
    mask = read_labelled(folder / DRAFTS / f"{name}.npz").mask
    return mask[0] if len(mask) == 1 else mask


def drafts_made(hand: Any) -> None:
    """Wait until every image that waits was looked at, and that is among the states."""
    task = hand.widget.drafts
    hand.wait(lambda: task.process is None and not task._jobs, "the drafts")


def opened(hand: Any, mask: np.ndarray) -> None:
    """Wait until an image has come up with a first mask."""
    hand.wait(lambda: hand.widget.bench is not None, "the mask")
    np.testing.assert_array_equal(hand.mask.data, mask)
    assert hand.widget.bench.annotation.fixed_count == 0, "a draft is no stroke"


@pytest.mark.slow
def test_twelve_images_with_drafts_are_killed_and_resumed(
    open_hand: Callable[..., Any], tmp_path: Path, tiny: Callable[..., HiDiff], tiny_file: Path
) -> None:
    """Nothing is lost, nothing is made twice, and no draft is taken for a mask of the user's."""
    study = twelve_images(tmp_path)
    order = names(study)
    hand = open_study(open_hand, study, tiny_file, drafts=True)
    page = hand.widget.panel.queue
    hand.wait(lambda: len(times(study)) > 1, "two drafts")
    hand.click("segment")  # the window works meanwhile
    stroke = hand.stroke((20, 20), (20, 40))
    hand.idle()
    drafts_made(hand)
    assert page.drafts_line.text() == f"Drafts: {COUNT} of {COUNT} made."
    go_on(hand, order[1])
    assert read_mask(study / "eye1_mask.png")[stroke].all()
    assert states(study) == ["done", *["drafted"] * (COUNT - 1)]
    assert order[0] not in times(study), "a mask ends its draft"

    before, first = times(study), draft_of(study, order[1])
    opened(hand, first)
    stroke = hand.stroke((50, 20), (50, 40))
    hand.idle()
    hand.widget.bench.autosave.flush()
    mask = hand.mask.data.copy()
    hand.widget.work.close()  # killed: what is on disk now is all that is left
    hand.widget.annotated_images.close(tidy=False)
    hand.widget.shut_down()
    hand = open_study(open_hand, study, tiny_file, drafts=True)
    assert hand.widget.queue.item.name == order[1]
    hand.wait(lambda: hand.widget.bench is not None, "what was kept")
    np.testing.assert_array_equal(hand.mask.data, mask)
    hand.click("useful")
    best = max(hand.widget.queue.queue.items[2:], key=lambda item: item.benefit)
    go_on(hand, best.name)
    assert (read_mask(study / f"{Path(order[1]).stem}_mask.png") == mask).all()
    assert hand.widget.drafts.process is None, "all were made"
    opened(hand, draft_of(study, best.name))
    hand.click("useful")
    left = next(name for name in order[2:] if name != best.name)
    untouched = draft_of(study, best.name)
    click_on(hand, left)  # and the best one is left as it was
    assert hand.widget.queue.queue[best.name].state == "drafted"
    assert {name: before[name] for name in times(study)} == times(study), "nothing is made twice"

    other = tmp_path / "other.safetensors"
    changed = tiny().with_card(
        name="other", defaults={"sampler": "one-step", "steps": 1, "samples": 1}
    )
    changed.save(other)
    hand.use(other)
    drafts_made(hand)
    anew = {name for name, at in times(study).items() if at != before[name]}
    assert anew == set(order[2:]) - {best.name, left}, "but those that were looked at"
    click_on(hand, best.name)
    opened(hand, untouched)
    hand.key(*NEXT)
    hand.wait(lambda: hand.widget.queue.queue[best.name].state == "done", "the draft is taken")
    assert (read_mask(study / f"{Path(best.name).stem}_mask.png") == untouched).all()
    hand.click("drafts", wait=False)
    assert '"drafts": false' in remembered().read_text()
    hand.use(tiny_file)
    assert hand.widget.drafts.process is None, "the user wants none"


@pytest.mark.slow
def test_volumes_are_annotated_one_after_another(
    open_hand: Callable[..., Any], tmp_path: Path
) -> None:
    """Two MRI volumes: drafted, corrected in a slice, left, come back to, done."""
    study = tmp_path / "study"
    study.mkdir()
    sample = Path(__file__).parents[2] / "napari_hidiff" / "samples" / "hippocampus_243.nii.gz"
    image = nibabel.load(sample)
    pixels = np.asarray(image.dataobj)
    for name, array in (("one", pixels), ("two", pixels[:, :, 2:])):
        nibabel.save(nibabel.Nifti1Image(array, image.affine), study / f"{name}.nii.gz")
    hand = open_study(open_hand, study, "hippocampus", drafts=True)
    drafts_made(hand)
    assert states(study) == ["drafted", "drafted"]
    click_on(hand, "two.nii.gz")
    opened(hand, draft_of(study, "two.nii.gz"))
    middle = hand.widget.selection.target().index[0]
    stroke = hand.stroke((5, 5), (5, 12))
    hand.idle()
    mask = hand.mask.data.copy()
    assert stroke[middle].sum() == stroke.sum() > 0
    click_on(hand, "one.nii.gz")
    assert Queue(study)["two.nii.gz"].state == "begun"
    opened(hand, draft_of(study, "one.nii.gz"))
    go_on(hand, "two.nii.gz")
    assert Queue(study)["one.nii.gz"].state == "done"
    hand.wait(lambda: hand.widget.bench is not None, "what was kept")
    np.testing.assert_array_equal(hand.mask.data, mask)
    hand.key(*NEXT)
    hand.wait(lambda: "All 2 images are done." in hand.said(), "the end")
    saved = read_volume(study / "two_mask.nii.gz")
    np.testing.assert_array_equal(saved.array, mask)
    np.testing.assert_allclose(saved.affine, read_volume(study / "two.nii.gz").affine)
    assert not (study / DRAFTS).exists()
