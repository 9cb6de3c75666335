"""Train, validation and test splits: split files, random splits and their checks.

:func:`paired` matches images and masks whose files have the same stem.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import numpy as np

from napari_hidiff.errors import InputError, first_line
from napari_hidiff.io.images import IMAGES
from napari_hidiff.io.nifti import stem

from .base import SPLITS, Case

Splits = dict[str, tuple[Case, ...]]


def fixed_split(
    cases: Iterable[Case], val: Collection[str], test: Collection[str]
) -> tuple[Splits, tuple[str, ...]]:
    """The owner's split by case id: cases in neither ``val`` nor ``test`` train.

    If an incomplete copy has no case of ``val``, the last group of the training cases validates,
    with a line in the returned notes.
    """
    cases = tuple(cases)
    splits = {
        "train": tuple(c for c in cases if c.id not in val and c.id not in test),
        "val": tuple(c for c in cases if c.id in val),
        "test": tuple(c for c in cases if c.id in test),
    }
    groups = sorted({case.group for case in splits["train"]})
    if splits["val"] or len(groups) < 2:
        return splits, ()
    train = splits["train"]
    splits["val"] = tuple(case for case in train if case.group == groups[-1])
    splits["train"] = tuple(case for case in train if case.group != groups[-1])
    return splits, (f"no official validation case here, {groups[-1]} of the training set serves",)


def random_split(cases: Iterable[Case], seed: int, val: float = 0.15, test: float = 0.15) -> Splits:
    """Split whole groups at random, determined by the seed.

    ``val`` and ``test`` are shares of the groups, rounded, with at least one group each (unless the
    share is 0), but training has the first: two groups are train and val, one is train.
    """
    cases = tuple(cases)
    groups = sorted({case.group for case in cases})
    spare = len(groups) - 1
    n_val, n_test = (max(1, round(share * len(groups))) if share else 0 for share in (val, test))
    n_val = min(n_val, spare)
    n_test = min(n_test, spare - n_val)
    order = [groups[i] for i in np.random.default_rng(seed).permutation(len(groups))]
    part = dict.fromkeys(order[:n_val], "val")
    part |= dict.fromkeys(order[n_val : n_val + n_test], "test")
    return {
        name: tuple(case for case in cases if part.get(case.group, "train") == name)
        for name in SPLITS
    }


def read_split(path: Path, cases: Iterable[Case]) -> Splits:
    """Apply a split file, JSON ``{"train": [ids], "val": [ids], "test": [ids]}``, to ``cases``.

    A split may be left out (empty) and a case may be in none.  InputError for a file that is not
    that, an unknown id, an id twice, or a group in two splits.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot read this split file ({first_line(error)})") from error
    _check_form(path, content)
    by_id = {case.id: case for case in cases}
    home: dict[str, str] = {}
    for name, ids in content.items():
        for id_ in ids:
            if id_ not in by_id:
                raise InputError(f"{path}: unknown case {id_!r} in {name}; known: {_some(by_id)}")
            if id_ in home:
                raise InputError(f"{path}: case {id_!r} is in {home[id_]} and again in {name}")
            home[id_] = name
    splits = {name: tuple(by_id[id_] for id_ in content.get(name, ())) for name in SPLITS}
    divided = divided_group(splits)
    if divided is not None:
        raise InputError(f"{path}: {divided}")
    return splits


def divided_group(splits: Mapping[str, Iterable[Case]]) -> str | None:
    """One line about the first group that two splits share, or None."""
    home: dict[str, tuple[str, Case]] = {}
    for name, cases in splits.items():
        for case in cases:
            other, first = home.setdefault(case.group, (name, case))
            if other != name:
                return (
                    f"group {case.group!r} is divided: "
                    f"{first.id!r} is in {other}, {case.id!r} in {name}"
                )
    return None


def _check_form(path: Path, content: object) -> None:
    wanted = '{"train": [ids], "val": [ids], "test": [ids]}'
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path}: a split file is JSON {wanted}")
    for name, ids in content.items():
        if name not in SPLITS:
            raise InputError(f"{path}: unknown split {name!r}; a split file is JSON {wanted}")
        if not isinstance(ids, list) or not all(isinstance(id_, str) for id_ in ids):
            raise InputError(f"{path}: {name} is not a list of case ids (strings)")


def _some(ids: Iterable[str], most: int = 3) -> str:
    ids = list(ids)
    return ", ".join(ids[:most]) + (", ..." if len(ids) > most else "")


def paired(
    images: Path,
    masks: Path,
    suffixes: Collection[str] = IMAGES,
    prefix: str = "",
    ending: re.Pattern[str] | None = None,
) -> list[Case]:
    """A case per stem found in either folder, by name; its id (and group) is prefix and stem.

    ``ending``: an optional suffix of a mask's stem.

    An image without mask, or a mask without image, is a case, too: loading it reports the missing
    file.  InputError for an empty folder and for two files of one stem.
    """
    pictures = by_stem(images, suffixes)

    def of_image(path: Path) -> str:
        name = stem(path)
        return name if ending is None or name in pictures else ending.sub("", name)

    truths = by_stem(masks, suffixes, of_image)
    return [
        Case(
            id=prefix + name,
            group=prefix + name,
            images=(pictures.get(name, _expected(name, pictures)),),
            mask=truths.get(name, _expected(name, truths)),
        )
        for name in sorted(pictures.keys() | truths.keys())
    ]


def by_stem(
    folder: Path, suffixes: Collection[str] = IMAGES, named: Callable[[Path], str] = stem
) -> dict[str, Path]:
    """Files of these suffixes by stem, or by another name; InputError if there are none or two of
    one name."""
    if not folder.is_dir():
        raise InputError(f"{folder}: missing")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not _is_one_of(path, suffixes):
            continue
        name = named(path)
        if name in files:
            other = files[name].name
            same = stem(path) == stem(files[name])
            why = "has the same stem" if same else f"is for {name} too; keep one of them"
            raise InputError(f"{path}: {other} {why}")
        files[name] = path
    if not files:
        raise InputError(f"{folder}: empty; wanted are files of {', '.join(sorted(suffixes))}")
    return files


def holds(folder: Path, suffixes: Collection[str] = IMAGES) -> bool:
    """Whether a folder exists and has a file with one of these suffixes."""
    return folder.is_dir() and any(_is_one_of(path, suffixes) for path in folder.iterdir())


def _is_one_of(path: Path, suffixes: Collection[str]) -> bool:
    hidden = path.name.startswith(".")
    return not hidden and path.name.lower().endswith(tuple(suffixes)) and path.is_file()


def _expected(name: str, files: dict[str, Path]) -> Path:
    """The expected path of a missing file: like the others of its folder."""
    known, other = next(iter(files.items()))
    return other.with_name(name + other.name[len(known) :])
