"""Which images a folder holds, what state each is in, and that kills and bad files lose nothing."""

import builtins
import io
import json
import os
import time
from pathlib import Path

import pytest

from napari_hidiff.annotation import queue
from napari_hidiff.annotation.queue import NAME, Queue, list_images, mask_name, natural
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


def test_dicom_files_in_a_folder_are_one_image(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "chest", "IM1.dcm", "IM2.dcm")
    assert list_images(folder) == [folder]


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        *(("a.png", "a_mask.png"), ("a.JPG", "a_mask.png"), ("a.tiff", "a_mask.tif")),
        *(("a.nii.gz", "a_mask.nii.gz"), ("a.b.nrrd", "a.b_mask.nii.gz")),
        *(("a.npz", "a_mask.npz"), ("series", "series_mask.nii.gz")),
    ],
)
def test_a_mask_is_named_like_its_image(image: str, mask: str) -> None:
    assert mask_name(Path(image)) == mask


def test_natural_order_takes_any_name() -> None:
    names = ["b", "10", "9a", "a9", "²", "a10"]
    assert sorted(names, key=natural) == ["9a", "10", "a9", "a10", "b", "²"]


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
