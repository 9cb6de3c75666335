"""A queue: the images of a folder, what state each is in, and where its mask is.

No image is opened to make it: names decide. The states are kept in one small file,
:data:`NAME`, in the folder of the masks, which is the folder of the images unless another is
chosen. The file is written atomically, before a mask is written (whose mask that is) and after it
(the new state), so that a program that is killed in between loses nothing and takes no mask of its
own for a foreign one.
"""

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from napari_hidiff.errors import InputError, first_line, refused
from napari_hidiff.io import nrrd
from napari_hidiff.io.dicom import SUFFIXES as DICOM
from napari_hidiff.io.images import IMAGES, TIFF
from napari_hidiff.io.nifti import is_nifti, stem
from napari_hidiff.io.registry import MASK_NAME
from napari_hidiff.io.storage import atomic_write

NAME = "hidiff-queue.json"
"""The file that keeps the states."""
PROGRAM, FORMAT = "napari-hidiff queue", 1

State = Literal["to do", "drafted", "begun", "done"]
"""``drafted``: a first mask waits that nobody has looked at. ``begun``: a mask was saved. ``done``:
a mask was saved and is final."""
STATES: tuple[State, ...] = get_args(State)


@dataclass
class Item:
    """One image of a queue.

    path : of the file, or of the folder of a DICOM series. state : see :data:`State`.
    mask : the file of the mask, whether or not it exists yet; ``saved`` : whether this program
    wrote it. benefit : of annotating this image next, None = not known; larger is better.
    problem : why the image could not be opened, until the folder is opened again.
    """

    path: Path
    mask: Path
    state: State = "to do"
    saved: bool = False
    benefit: float | None = None
    problem: str = ""

    @property
    def name(self) -> str:
        """What the image is called in the queue."""
        return self.path.name

    @property
    def first_mask(self) -> Path | None:
        """A mask on disk to begin with: the one that was saved, or one of another program."""
        return self.mask if self.mask.is_file() else None


class Queue:
    """The images of a folder in natural order (2 before 10).

    folder : of the images. masks : where masks and states are written; None = beside the images.

    Raises
    ------
    InputError : there is no such folder, it holds no image, or the states cannot be read; nothing
        is changed then.
    """

    def __init__(self, folder: Path, masks: Path | None = None) -> None:
        self.folder = folder.absolute()
        self.masks = (masks or folder).absolute()
        self.file = self.masks / NAME
        paths = list_images(self.folder)
        if not paths:
            raise InputError(
                f"{folder}: no images in this folder (png, jpg, tif, NIfTI, NRRD, npz or DICOM)"
            )
        kept = self._read()
        self.shown: str | None = kept["shown"]
        """The name of the image that was shown last."""
        self.items = self._items(paths, kept["images"])
        self._by_name = {item.name: item for item in self.items}

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, name: str) -> Item:
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    @property
    def done(self) -> int:
        """Number of images that are done."""
        return sum(item.state == "done" for item in self.items)

    def first(self) -> Item | None:
        """Where one stopped: the image that was shown last, else the first that is not done."""
        if self.shown in self and self._waits(self[str(self.shown)]):
            return self[str(self.shown)]
        return self.after(self.shown)

    def after(
        self, name: str | None, useful: bool = False, skipped: Collection[str] = ()
    ) -> Item | None:
        """The next image that is not done, in order and from the beginning again; None = no other.

        name : of the image that is left. useful : whether the largest benefit comes first; images
        whose benefit is not known come last, in order. skipped : names that come last of all.
        """
        names = [item.name for item in self.items]
        at = names.index(name) + 1 if name is not None and name in self else 0
        rest = [item for item in self.items[at:] + self.items[:at] if item.name != name]
        waiting = [item for item in rest if self._waits(item)]
        fresh = [item for item in waiting if item.name not in skipped] or waiting
        if not fresh:
            return None
        if useful:
            return max(fresh, key=lambda item: -1.0 if item.benefit is None else item.benefit)
        return fresh[0]

    def show(self, item: Item) -> None:
        """Keep that this image is shown; raises InputError as :meth:`claim`."""
        self.shown = item.name
        self._update()

    def claim(self, item: Item) -> Path:
        """The file to write the mask of an image into, kept as this program's before it is written.

        A file of another program is left alone: the mask goes beside it (``NAME_mask_2``).

        Raises
        ------
        InputError : the folder cannot be written to, or its states cannot be read any more.
        """
        if not item.saved:
            item.mask = _free(item.mask)
            item.saved = True
            try:
                self._update(item)
            except InputError:
                item.saved = False
                raise
        return item.mask

    def adopt(self, item: Item) -> None:
        """The user saved the mask of an image under the name that it has here; raises InputError as
        :meth:`claim`."""
        item.saved = True
        self.keep(item, "begun" if item.state != "done" else "done")

    def keep(self, item: Item, state: State) -> None:
        """Set the state of an image and keep it; raises InputError as :meth:`claim`."""
        before, item.state = item.state, state
        try:
            self._update(item)
        except InputError:
            item.state = before
            raise

    @staticmethod
    def _waits(item: Item) -> bool:
        return item.state != "done" and not item.problem

    def _items(self, paths: list[Path], kept: dict[str, dict[str, str]]) -> list[Item]:
        """Every image once, without the masks among the files."""
        masks = {self.masks / facts["mask"] for facts in kept.values()}
        items, stems = [], {stem(path) for path in paths}
        for path in paths:
            facts = kept.get(path.name)
            if facts is not None:
                mask = self.masks / facts["mask"]
            else:
                mask = self.masks / mask_name(path)
                if mask in masks:  # a picture of the same name in another format
                    mask = self.masks / mask_name(path, whole=True)
            masks.add(mask)
            state: State = facts["state"] if facts else "to do"  # type: ignore[assignment]
            items.append(Item(path, mask, state, facts is not None))
        images = [item for item in items if item.path not in masks and not _is_mask(item, stems)]
        there = set(_names(self.masks))
        for item in images:
            exists = item.mask.name in there
            if not item.saved and exists:
                item.state = "drafted"
            elif item.saved and exists and item.state not in ("begun", "done"):
                item.state = "begun"  # killed after the mask was written
            elif item.saved and not exists:
                item.state = "to do"  # killed before, or the mask was taken away
        return images

    def _update(self, item: Item | None = None) -> None:
        """Bring the file up to date for one image; what another window kept of others stays."""
        kept = self._read()
        kept["shown"] = self.shown
        if item is not None:
            kept["images"][item.name] = {"state": item.state, "mask": item.mask.name}
        about = {"program": PROGRAM, "format": FORMAT, "folder": self._relative(), **kept}
        try:
            self.masks.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.masks}: cannot be made: {refused(error)}") from error
        with atomic_write(self.file) as (part,):
            part.write_text(json.dumps(about, indent=0, ensure_ascii=False), encoding="utf-8")

    def _relative(self) -> str:
        """The folder of the images as seen from that of the masks: both may be moved together."""
        try:
            return Path(os.path.relpath(self.folder, self.masks)).as_posix()
        except ValueError:  # another drive of Windows
            return str(self.folder)

    def _read(self) -> dict[str, Any]:
        """What is kept, checked: ``shown``, a name or None, and ``images``, by name."""
        try:
            about = json.loads(self.file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return {"shown": None, "images": {}}
        except (OSError, ValueError) as error:
            reason = refused(error) if isinstance(error, OSError) else first_line(error)
            raise self._unreadable(reason) from error
        if not isinstance(about, dict) or about.get("program") != PROGRAM:
            raise self._unreadable("it is of another program")
        if about.get("format") != FORMAT:
            raise self._unreadable(f"it has format {about.get('format')}, this one reads {FORMAT}")
        if about.get("folder") != self._relative():
            raise InputError(
                f"{self.file}: belongs to the images in {about.get('folder')}; choose another "
                "folder for the masks"
            )
        shown, images = about.get("shown"), about.get("images")
        good = isinstance(images, dict) and all(map(_is_entry, images.values()))
        if not good or not isinstance(shown, str | None):
            raise self._unreadable("an entry is damaged")
        return {"shown": shown, "images": images}

    def _unreadable(self, reason: str) -> InputError:
        return InputError(
            f"{self.file}: the states of the images cannot be read ({reason}); move it away, or "
            "choose another folder for the masks. Nothing was changed."
        )


def list_images(folder: Path) -> list[Path]:
    """The images of a folder by their names, in natural order; no file is opened.

    A subfolder with DICOM files is one image, and so is the folder itself if these lie in it.
    Masks that lie among them are listed, too. Raises InputError for what is no readable folder.
    """
    found, series = [], False
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                path = folder / entry.name
                if entry.is_dir():
                    if _holds_series(path):
                        found.append(path)
                elif path.suffix.lower() in DICOM:
                    series = True
                elif _is_image(path):
                    found.append(path)
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {refused(error)}") from error
    return sorted(found, key=lambda path: natural(path.name)) + ([folder] if series else [])


def natural(name: str) -> list[tuple[int, int | str]]:
    """A key to sort names by as people do: ``case2`` before ``case10``."""
    parts: Iterable[str] = re.split(r"(\d+)", name.casefold())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]


def mask_name(image: Path, whole: bool = False) -> str:
    """The name of the file of an image's mask; whole : with the suffix of the image in it."""
    suffix = image.suffix.lower()
    if suffix in TIFF:
        kind = ".tif"
    elif suffix == ".npz":
        kind = ".npz"
    else:
        kind = ".png" if suffix in IMAGES else ".nii.gz"
    series = kind == ".nii.gz" and not is_nifti(image) and suffix not in nrrd.SUFFIXES
    base = image.name if series else stem(image)
    return f"{base}{f'_{suffix[1:]}' if whole else ''}_mask{kind}"


def _free(path: Path) -> Path:
    """This name, or the next that no file has."""
    if not path.exists():
        return path
    end = ".nii.gz" if is_nifti(path) else path.suffix
    names = (path.with_name(f"{stem(path)}_{number}{end}") for number in range(2, 10_000))
    return next(name for name in names if not name.exists())


def _is_image(path: Path) -> bool:
    suffix, name = path.suffix.lower(), path.name.lower()
    known = suffix in (*IMAGES, *nrrd.SUFFIXES, ".npz") or is_nifti(path)
    return known and not name.endswith(".seg.nrrd")


def _is_mask(item: Item, stems: set[str]) -> bool:
    """Whether a file has the name of a mask of an image that is there, such as ``case_seg``."""
    name = re.sub(r"_\d+$", "", stem(item.path))
    return MASK_NAME.search(name) is not None and MASK_NAME.sub("", name) in stems


def _holds_series(folder: Path) -> bool:
    """Whether the name of a file in a folder is one of DICOM."""
    return any(Path(name).suffix.lower() in DICOM for name in _names(folder))


def _names(folder: Path) -> Iterator[str]:
    """The names in a folder; none where it is missing or cannot be read."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            yield entry.name


def _is_entry(facts: object) -> bool:
    if not isinstance(facts, dict):
        return False
    mask = facts.get("mask")
    plain = isinstance(mask, str) and mask == Path(mask).name
    return plain and facts.get("state") in STATES
