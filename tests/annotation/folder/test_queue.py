"""Which images a folder holds, what state each is in, and that kills and bad files lose nothing."""

import builtins
import io
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from napari_hidiff.annotation.folder import queue
from napari_hidiff.annotation.folder.drafts import Made
from napari_hidiff.annotation.folder.queue import DRAFTS, NAME, Item, Queue, one_folder
from napari_hidiff.errors import InputError


def folder_of(path: Path, *names: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name in names:
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).touch()
    return path


def states(folder: Path, masks: Path | None = None) -> dict[str, str]:
    return {item.name: item.state for item in Queue(folder, masks).items}


def test_images_are_listed_as_people_count_and_the_rest_is_left_out(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path / "study",
        *("case10.png", "case2.png", "Case1.JPG", "brain.nii.gz", "lung.nrrd", "stack.tif"),
        *("notes.txt", ".hidden.png", "case2_mask.png", "case10_seg.png", "lung.seg.nrrd"),
        *("series/IM1.dcm", "empty/readme.txt", "case2_mask_2.png", "alone_mask.png"),
    )
    names = [item.name for item in Queue(folder).items]
    assert names == [
        *("alone_mask.png", "brain.nii.gz", "Case1.JPG", "case2.png", "case10.png"),
        *("lung.nrrd", "series", "stack.tif"),
    ], "a mask is left out where its image is there"


def test_two_images_of_one_name_have_two_masks(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "study", "case.jpg", "case.png")
    assert [item.mask.name for item in Queue(folder).items] == [
        "case_mask.png",
        "case_png_mask.png",
    ]


def test_states_come_back_and_the_next_image_is_the_one_not_done(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "study", "a.png", "b.png", "c.png")
    one = Queue(folder)
    a, b, c = one.items
    assert one.first() is a
    one.show(a)
    one.claim(a).touch()
    one.keep(a, "done")
    assert one.after("a.png") is b
    one.show(b)
    one.claim(b).touch()
    one.keep(b, "begun")
    again = Queue(folder)
    assert states(folder) == {"a.png": "done", "b.png": "begun", "c.png": "to do"}
    assert (again.done, len(again)) == (1, 3)
    assert again.first() is again["b.png"], "where one stopped"
    assert again.after("c.png") is again["b.png"], "from the beginning again"
    assert again.after("b.png", skipped={"c.png"}) is again["c.png"], "skipped come last"
    c.problem = "damaged"
    assert one.after("b.png") is None


def test_the_most_useful_image_comes_first(tmp_path: Path) -> None:
    one = Queue(folder_of(tmp_path / "study", "a.png", "b.png", "c.png", "d.png"))
    one["b.png"].benefit, one["d.png"].benefit = 0.2, 0.4
    assert one.after("a.png", useful=True) is one["d.png"]
    assert one.after("d.png", useful=True) is one["b.png"]
    one["b.png"].state = one["d.png"].state = "done"
    assert one.after("a.png", useful=True) is one["c.png"], "unknown benefit: in order"


@pytest.mark.parametrize("written", [False, True])
def test_a_kill_between_the_writes_loses_nothing(tmp_path: Path, written: bool) -> None:
    """Killed after a mask was announced, before or after it was written."""
    folder = folder_of(tmp_path / "study", "a.png", "b.png")
    one = Queue(folder)
    path = one.claim(one.items[0])
    if written:
        path.touch()
    again = Queue(folder)
    assert again["a.png"].state == ("begun" if written else "to do")
    assert again.claim(again["a.png"]) == path, "it is no file of another program"


def test_a_kill_in_the_midst_of_a_write_leaves_the_states_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path / "study", "a.png", "b.png")
    one = Queue(folder)
    one.claim(one.items[0]).touch()
    one.keep(one.items[0], "done")

    def killed(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        one.claim(one.items[1])
    assert states(folder) == {"a.png": "done", "b.png": "to do"}


def test_a_mask_of_another_program_is_begun_from_and_never_replaced(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "study", "a.nii.gz", "b.png")
    (folder / "a_mask.nii.gz").write_text("theirs")
    one = Queue(folder)
    item = one["a.nii.gz"]
    assert item.state == "drafted"
    assert item.first_mask == folder / "a_mask.nii.gz"
    assert one.claim(item) == folder / "a_mask_2.nii.gz"
    one.claim(item).touch()
    one.keep(item, "done")
    assert (folder / "a_mask.nii.gz").read_text() == "theirs"
    assert states(folder) == {"a.nii.gz": "done", "b.png": "to do"}


def test_a_mask_that_was_taken_away_is_to_do_again(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "study", "a.png")
    one = Queue(folder)
    one.claim(one.items[0])
    one.keep(one.items[0], "done")
    assert states(folder) == {"a.png": "to do"}


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", '{"program": "other"}', "\x00\xff"),
        '{"program": "napari-hidiff queue", "format": 2, "folder": "."}',
        '{"program": "napari-hidiff queue", "format": 1, "folder": ".", "images": []}',
        '{"program": "napari-hidiff queue", "format": 1, "folder": ".", "shown": 1, "images": {}}',
        '{"program": "napari-hidiff queue", "format": 1, "folder": ".",'
        ' "images": {"a.png": {"state": "lost", "mask": "a_mask.png"}}}',
        '{"program": "napari-hidiff queue", "format": 1, "folder": ".",'
        ' "images": {"a.png": {"state": "done", "mask": "../a_mask.png"}}}',
        '{"program": "napari-hidiff queue", "format": 1, "folder": ".", "images": {},'
        ' "drafts": {"a.png": {"model": "x", "benefit": "much", "looked_at": false}}}',
    ],
)
def test_a_damaged_or_foreign_file_gets_a_line_and_stays(tmp_path: Path, content: str) -> None:
    folder = folder_of(tmp_path / "study", "a.png")
    (folder / NAME).write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match="cannot be read") as told:
        Queue(folder)
    assert "\n" not in str(told.value)
    assert (folder / NAME).read_text(encoding="latin-1") == content
    Queue(folder, tmp_path / "masks")  # another folder for the masks


def test_a_file_that_is_damaged_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "study", "a.png")
    one = Queue(folder)
    (folder / NAME).write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        one.claim(one.items[0])
    assert (folder / NAME).read_text() == "{"
    (folder / NAME).unlink()
    assert one.claim(one.items[0]) == folder / "a_mask.png"


def test_masks_go_into_a_chosen_folder_of_one_study(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "study", "a.png")
    masks = tmp_path / "masks"
    one = Queue(folder, masks)
    one.claim(one.items[0]).touch()
    one.keep(one.items[0], "done")
    assert sorted(os.listdir(folder)) == ["a.png"], "nothing beside the images"
    assert states(folder, masks) == {"a.png": "done"}
    (tmp_path / "study").rename(tmp_path / "moved")
    with pytest.raises(InputError, match=r"belongs to the images in \.\./study"):
        Queue(tmp_path / "moved", masks)


def test_two_windows_on_one_folder_keep_the_states_of_both(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "study", "a.png", "b.png")
    one, other = Queue(folder), Queue(folder)
    for name, window in (("a.png", one), ("b.png", other)):
        window.claim(window[name]).touch()
        window.keep(window[name], "done")
    assert states(folder) == {"a.png": "done", "b.png": "done"}


@pytest.mark.parametrize("missing", ["nowhere", "empty"])
def test_a_folder_without_images_gets_a_line(tmp_path: Path, missing: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no images in this folder|cannot be read: No such"):
        Queue(tmp_path / missing)


def test_a_folder_that_cannot_be_written_to_gets_a_line(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "study", "a.png")
    (tmp_path / "file").touch()
    one = Queue(folder, tmp_path / "file" / "masks")
    with pytest.raises(InputError, match="cannot be"):
        one.claim(one.items[0])
    assert not one.items[0].saved


def test_ten_thousand_files_are_listed_without_opening_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    for number in range(10_000):
        os.close(os.open(folder / f"case{number}.png", os.O_CREAT))
    one = Queue(folder)
    one.claim(one.items[3])
    opened: list[str] = []
    real = builtins.open, io.open, os.open

    def counting(which: int):
        def call(file, *args, **kwargs):
            opened.append(str(file))
            return real[which](file, *args, **kwargs)

        return call

    monkeypatch.setattr(builtins, "open", counting(0))
    monkeypatch.setattr(io, "open", counting(1))
    monkeypatch.setattr(os, "open", counting(2))
    began = time.monotonic()
    again = Queue(folder)
    took = time.monotonic() - began
    assert {Path(name).name for name in opened} <= {NAME}
    assert len(again) == 10_000
    assert [item.name for item in again.items[:3]] == ["case0.png", "case1.png", "case2.png"]
    print(f"10,000 files in {took:.2f} s")
    assert json.loads((folder / NAME).read_text())["images"].keys() == {"case3.png"}
    assert queue.STATES == ("to do", "drafted", "begun", "done")


def drafted(one: Queue, *names: str, model: str = "one") -> None:
    """As after a draft of each was written."""
    for name in names:
        one[name].draft.parent.mkdir(exist_ok=True)
        one[name].draft.touch()
    one.take_drafts([Made(name, model, 0.25) for name in names])


def waiting(one: Queue, model: str = "one") -> list[str]:
    return [wanted.image.name for wanted in one.wanted(model)]


def test_drafts_come_up_as_first_masks_and_are_no_masks(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "study", "a.png", "b.nii.gz", "c.png", "theirs.png")
    (folder / "theirs_mask.png").touch()
    one = Queue(folder)
    one.show(one["a.png"])
    assert waiting(one) == ["b.nii.gz", "c.png", "a.png"], "the next one first"
    drafted(one, "b.nii.gz", "c.png")
    again = Queue(folder)
    assert states(folder)["b.nii.gz"] == states(folder)["theirs.png"] == "drafted"
    item = again["b.nii.gz"]
    assert (item.benefit, item.made_by, item.saved) == (0.25, "one", False)
    assert item.first_mask == folder / DRAFTS / "b.nii.gz.npz"
    assert again.after("a.png", useful=True) is item
    assert waiting(again) == ["a.png"]
    assert waiting(again, "other") == ["b.nii.gz", "c.png", "a.png"], "another model"
    again.show(again["c.png"])
    assert waiting(Queue(folder), "other") == ["a.png", "b.nii.gz"], "c was looked at"


def test_a_mask_ends_a_draft_whoever_is_first(tmp_path: Path) -> None:
    """The draft of an image that the user begins meanwhile is dropped, the mask stays."""
    folder = folder_of(tmp_path / "study", "a.png", "b.png")
    one = Queue(folder)
    drafted(one, "a.png")
    for item in one.items:
        one.claim(item).write_text("mine")
        one.keep(item, "done")
    drafted(one, "b.png")
    assert states(folder) == {"a.png": "done", "b.png": "done"}
    assert [item.first_mask.read_text() for item in one.items if item.first_mask] == ["mine"] * 2
    assert not (folder / DRAFTS).exists(), "nothing is left behind"
    assert not waiting(one, "other")


def test_a_kill_before_a_draft_is_known_loses_nothing(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "study", "a.png", f"{DRAFTS}/a.png.npz")
    one = Queue(folder)
    assert one["a.png"].state == "drafted"
    assert waiting(one) == ["a.png"], "its facts are asked for"
    drafted(one, "a.png")
    assert not waiting(Queue(folder))
    one["a.png"].draft.unlink()
    assert states(folder) == {"a.png": "to do"}


def test_states_are_kept_from_many_threads(tmp_path: Path) -> None:
    """Drafts are taken while masks are saved."""
    names = [f"{number}.png" for number in range(24)]
    one = Queue(folder_of(tmp_path / "study", *names))
    masks, drafts = one.items[:12], one.items[12:]

    def save(item: Item) -> None:
        one.claim(item).touch()
        one.keep(item, "done")

    with ThreadPoolExecutor(8) as pool:
        saved = [pool.submit(save, item) for item in masks]
        made = [pool.submit(drafted, one, item.name) for item in drafts]
        for each in (*saved, *made):
            each.result()
    assert list(states(one.folder).values()) == ["done"] * 12 + ["drafted"] * 12


def test_some_files_of_a_folder_are_a_list(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "study", "a.png", "b.png", "c.png", "c_mask.png")
    folder_of(tmp_path / "other", "d.png")
    where, only = one_folder([folder / "c.png", folder / "a.png", folder / "c_mask.png"])
    one = Queue(where, only=only)
    assert [item.name for item in one.items] == ["a.png", "c.png"]
    assert one_folder([folder]) == (folder, None)
    one.claim(one["a.png"]).touch()
    one.keep(one["a.png"], "done")
    assert states(folder)["a.png"] == "done", "the list and the folder have the same states"
    with pytest.raises(InputError, match="these lie in 2"):
        one_folder([folder / "a.png", tmp_path / "other" / "d.png"])
    with pytest.raises(InputError, match="among these files"):
        Queue(where, only=["notes.txt"])
