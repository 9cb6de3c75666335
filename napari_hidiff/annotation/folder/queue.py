"""A queue: the images of a folder, what state each is in, and where its mask is.

No image is opened to make it: names decide. The states are kept in one small file,
:data:`NAME`, in the folder of the masks, which is the folder of the images unless another is
chosen. The file is written atomically, before a mask is written (whose mask that is) and after it
(the new state), so that a program that is killed in between loses nothing and takes no mask of its
own for a foreign one.

Drafts (:mod:`napari_hidiff.annotation.folder.drafts`) are first masks that a model made by itself.
They lie in a folder of their own, :data:`DRAFTS`, so that nothing takes one for a mask of the
user's.
"""

import json
import os
import threading
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from napari_hidiff.annotation.folder.drafts import Made, Wanted
from napari_hidiff.errors import InputError, first_line, refused
from napari_hidiff.io.listing import free_name, is_mask_name, list_images, mask_name, names_in
from napari_hidiff.io.nifti import stem
from napari_hidiff.io.storage import atomic_write

NAME = "hidiff-queue.json"
"""The file that keeps the states."""
DRAFTS = "hidiff-drafts"
"""The folder of drafts, in that of the masks; a draft is named after its image."""
UNKNOWN = "unknown"
"""Who made a draft that is not among the states: the program was killed in between."""
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
    wrote it. draft : the file of the draft, whether or not there is one; made_by : the digest of
    its model, empty = there is none; looked_at : whether it was shown. benefit : of annotating this
    image next, None = not known; larger is better. problem : why the image could not be opened,
    until the folder is opened again.
    """

    path: Path
    mask: Path
    draft: Path
    state: State = "to do"
    saved: bool = False
    made_by: str = ""
    looked_at: bool = False
    benefit: float | None = None
    problem: str = ""

    @property
    def name(self) -> str:
        """What the image is called in the queue."""
        return self.path.name

    @property
    def first_mask(self) -> Path | None:
        """A mask on disk to begin with: the one that was saved, one of another program, a draft."""
        return next((path for path in (self.mask, self.draft) if path.is_file()), None)


class Queue:
    """The images of a folder in natural order (2 before 10).

    folder : of the images. masks : where masks and states are written; None = beside the images.
    only : the names of some images of the folder; None = all of them. Methods may be called from
    any thread.

    Raises
    ------
    InputError : there is no such folder, it holds no image, or the states cannot be read; nothing
        is changed then.
    """

    def __init__(
        self, folder: Path, masks: Path | None = None, only: Collection[str] | None = None
    ) -> None:
        self.folder, self.only = folder.absolute(), only
        self.masks = (masks or folder).absolute()
        self.file = self.masks / NAME
        self._lock = threading.RLock()
        paths = list_images(self.folder)
        if only is not None:
            paths = [path for path in paths if path.name in set(only)]
        if not paths:
            which = "in this folder" if only is None else "among these files"
            raise InputError(
                f"{folder}: no images {which} (png, jpg, tif, NIfTI, NRRD, npz or DICOM)"
            )
        kept = self._read()
        self.shown: str | None = kept["shown"]
        """The name of the image that was shown last."""
        self.items = self._items(paths, kept)
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
        item.looked_at = item.state == "drafted"
        self._update(drafts=[item] if item.benefit is not None else [])

    def claim(self, item: Item) -> Path:
        """The file to write the mask of an image into, kept as this program's before it is written.

        A file of another program is left alone: the mask goes beside it (``NAME_mask_2``).

        Raises
        ------
        InputError : the folder cannot be written to, or its states cannot be read any more.
        """
        with self._lock:
            if not item.saved:
                item.mask = free_name(item.mask)
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
        """Set the state of an image and keep it; raises InputError as :meth:`claim`.

        Its draft, if it has one, is not needed any more.
        """
        with self._lock:
            before, item.state = item.state, state
            try:
                self._update(item)
            except InputError:
                item.state = before
                raise
            self._drop_draft(item)

    def wanted(self, model: str) -> list[Wanted]:
        """The images that a draft by a model may be made of, the next one first.

        model : its digest. An image with a mask of anybody is left out, and one whose draft is of
        this model or was looked at.
        """
        at = next((n for n, item in enumerate(self.items, 1) if item.name == self.shown), 0)
        return [
            Wanted(item.path, item.mask, item.draft)
            for item in self.items[at:] + self.items[:at]
            if not (item.saved or item.problem or item.looked_at)
            and (item.state == "to do" or item.made_by not in ("", model))
        ]

    def take_drafts(self, made: Iterable[Made]) -> None:
        """Keep that drafts were made; those of images with a mask by now are dropped. Raises
        InputError as :meth:`claim`."""
        with self._lock:
            news = []
            for one in made:
                item = self[one.name]
                if item.saved or item.state not in ("to do", "drafted"):
                    self._drop_draft(item)
                else:
                    item.state, item.made_by, item.benefit = "drafted", one.model, one.benefit
                    news.append(item)
            self._update(drafts=news)

    def _drop_draft(self, item: Item) -> None:
        item.made_by, item.benefit = "", None
        with suppress(OSError):  # it may not be there, or others are
            item.draft.unlink()
            item.draft.parent.rmdir()

    @staticmethod
    def _waits(item: Item) -> bool:
        return item.state != "done" and not item.problem

    def _items(self, paths: list[Path], kept: dict[str, Any]) -> list[Item]:
        """Every image once, without the masks among the files."""
        known, drafts = kept["images"], kept["drafts"]
        masks = {self.masks / facts["mask"] for facts in known.values()}
        items, stems = [], {stem(path) for path in paths}
        for path in paths:
            facts = known.get(path.name)
            if facts is not None:
                mask = self.masks / facts["mask"]
            else:
                mask = self.masks / mask_name(path)
                if mask in masks:  # a picture of the same name in another format
                    mask = self.masks / mask_name(path, whole=True)
            masks.add(mask)
            state: State = facts["state"] if facts else "to do"
            draft = self.masks / DRAFTS / f"{path.name}.npz"
            items.append(Item(path, mask, draft, state, facts is not None))
        images = [
            item for item in items if item.path not in masks and not is_mask_name(item.path, stems)
        ]
        there, drafted = set(names_in(self.masks)), set(names_in(self.masks / DRAFTS))
        for item in images:
            exists = item.mask.name in there
            if not item.saved and exists:
                item.state = "drafted"
            elif item.saved and exists and item.state not in ("begun", "done"):
                item.state = "begun"  # killed after the mask was written
            elif item.saved and not exists:
                item.state = "to do"  # killed before, or the mask was taken away
            if item.state == "to do" and item.draft.name in drafted:
                facts = drafts.get(item.name, {})
                item.state, item.made_by = "drafted", facts.get("model", UNKNOWN)
                item.looked_at, item.benefit = facts.get("looked_at", False), facts.get("benefit")
        return images

    def _update(self, item: Item | None = None, drafts: Iterable[Item] = ()) -> None:
        """Bring the file up to date for one image, and for drafts; what another window kept of
        others stays."""
        with self._lock:
            kept = self._read()
            kept["shown"] = self.shown
            if item is not None:
                kept["images"][item.name] = {"state": item.state, "mask": item.mask.name}
                kept["drafts"].pop(item.name, None)
            for one in drafts:
                facts = {"model": one.made_by, "benefit": one.benefit, "looked_at": one.looked_at}
                kept["drafts"][one.name] = facts
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
        """What is kept, checked: ``shown``, a name or None, ``images`` and ``drafts``, by name."""
        try:
            about = json.loads(self.file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return {"shown": None, "images": {}, "drafts": {}}
        except (OSError, ValueError) as error:
            raise self._unreadable(first_line(error)) from error
        if not isinstance(about, dict) or about.get("program") != PROGRAM:
            raise self._unreadable("it is of another program")
        if about.get("format") != FORMAT:
            raise self._unreadable(f"it has format {about.get('format')}, this one reads {FORMAT}")
        if about.get("folder") != self._relative():
            raise InputError(
                f"{self.file}: belongs to the images in {about.get('folder')}; choose another "
                "folder for the masks"
            )
        shown, images, drafts = about.get("shown"), about.get("images"), about.get("drafts", {})
        good = isinstance(images, dict) and all(map(_is_entry, images.values()))
        good = good and isinstance(drafts, dict) and all(map(_is_draft, drafts.values()))
        if not good or not isinstance(shown, str | None):
            raise self._unreadable("an entry is damaged")
        return {"shown": shown, "images": images, "drafts": drafts}

    def _unreadable(self, reason: str) -> InputError:
        return InputError(
            f"{self.file}: the states of the images cannot be read ({reason}); move it away, or "
            "choose another folder for the masks. Nothing was changed."
        )


def _is_entry(facts: object) -> bool:
    if not isinstance(facts, dict):
        return False
    mask = facts.get("mask")
    plain = isinstance(mask, str) and mask == Path(mask).name
    return plain and facts.get("state") in STATES


def _is_draft(facts: object) -> bool:
    kinds = {"model": str, "benefit": float | int, "looked_at": bool}
    return isinstance(facts, dict) and all(isinstance(facts.get(k), t) for k, t in kinds.items())


def one_folder(paths: Collection[Path]) -> tuple[Path, list[str] | None]:
    """The folder that some files lie in, and their names; a folder alone stands for all its images,
    whose names are None. Raises InputError for files of several folders."""
    first, *others = paths
    if not others and first.is_dir():
        return first, None
    folders = {path.absolute().parent for path in paths}
    if len(folders) > 1:
        raise InputError(f"{first}: images of one folder make a list; these lie in {len(folders)}")
    return folders.pop(), [path.name for path in paths]
