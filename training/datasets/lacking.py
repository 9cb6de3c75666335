"""Data sets that cannot be learned from: images without masks, no foreground, missing classes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from napari_hidiff.errors import InputError

from .base import Case, Dataset

Present = Mapping[str, Collection[int]]
"""The labels of each case by its id, without the background."""

ENDINGS = "the name may also end in _mask, _seg or _label"


def without_pair(dataset: Dataset) -> tuple[frozenset[str], str]:
    """Ids of all cases without mask or without image, and one line about them."""
    cases = [case for cases in dataset.splits.values() for case in cases]
    no_mask = [c for c in cases if not c.mask.is_file() and all(p.is_file() for p in c.images)]
    no_image = [c for c in cases if c.mask.is_file() and not any(p.is_file() for p in c.images)]
    lines = []
    if no_mask:
        first, images = no_mask[0], len(cases) - len(no_image)
        more = f" ({ENDINGS})" if dataset.name == "folder" else ""
        lines.append(
            f"{len(no_mask)} of {images} images have no mask, {first.images[0].name} first: "
            f"expected {first.mask}{more}"
        )
    if no_image:
        first, masks = no_image[0], len(cases) - len(no_mask)
        lines.append(
            f"{len(no_image)} of {masks} masks have no image, {first.mask.name} first: "
            f"expected {first.images[0]}"
        )
    return frozenset(case.id for case in (*no_mask, *no_image)), "; ".join(lines)


def paired_only(dataset: Dataset, ids: Collection[str]) -> Dataset:
    """The data set without the cases of these ids."""

    def paired(cases: Sequence[Case]) -> tuple[Case, ...]:
        return tuple(case for case in cases if case.id not in ids)

    return replace(dataset, splits={name: paired(cases) for name, cases in dataset.splits.items()})


def no_foreground(train: Present) -> str | None:
    """The reason why these training masks cannot train, in one line, or None."""
    if not train or any(train.values()):
        return None
    masks = "the one training mask has" if len(train) == 1 else "all training masks have"
    return f"{masks} no foreground at all, {next(iter(train))} first: there is nothing to learn"


def check_foreground(train: Present) -> None:
    """InputError if no training mask has any foreground."""
    line = no_foreground(train)
    if line:
        raise InputError(line)


def never_trained(classes: Sequence[str], train: Present, val: Present) -> list[str]:
    """A line per class (background first) that is in masks of ``val`` and in none of ``train``."""
    learned = {label for labels in train.values() for label in labels}
    lines = []
    for label, name in enumerate(classes):
        cases = [id_ for id_, labels in val.items() if label in labels]
        if cases and label not in learned:
            others = f" and {len(cases) - 1} more" if len(cases) > 1 else ""
            lines.append(
                f"class {name!r} is in the val masks ({cases[0]}{others}) and in no training mask: "
                "nothing is learned of it; --split-file decides what trains"
            )
    return lines
