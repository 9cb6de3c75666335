"""Which classes of a model are those of a data set that it was not trained on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from napari_hidiff.errors import InputError
from napari_hidiff.training.datasets import Dataset


@dataclass(frozen=True)
class Match:
    """pairs : label of the data set and of the model for every class that both know, in the order
    of the data set.  only_dataset, only_model : names of the others, which are not scored."""

    pairs: tuple[tuple[int, int], ...]
    only_dataset: tuple[str, ...]
    only_model: tuple[str, ...]

    def labels(self, of_model: int) -> list[int]:
        """The label within :func:`narrowed` for each of so many labels of the model."""
        found = [0] * of_model
        for new, (_, own) in enumerate(self.pairs, 1):
            found[own] = new
        return found


def match(dataset: Sequence[str], model: Sequence[str]) -> Match:
    """Match class names, background first in both, whatever their case.

    Where both have one foreground class these are the same, whatever they are called: Kvasir-SEG's
    polyp and a ``folder`` of adenomas.  InputError where no class is known to both.
    """
    if len(dataset) == len(model) == 2:
        return Match(((1, 1),), (), ())
    own = {name.casefold().strip(): label for label, name in enumerate(model) if label}
    pairs = tuple(
        (label, own[name.casefold().strip()])
        for label, name in enumerate(dataset)
        if label and name.casefold().strip() in own
    )
    if not pairs:
        raise InputError(
            f"no class is known to both: the model has {', '.join(model[1:])}; the data set "
            f"{', '.join(dataset[1:])}"
        )
    known = [{pair[side] for pair in pairs} for side in (0, 1)]
    rest = [
        tuple(name for label, name in enumerate(names) if label and label not in met)
        for names, met in zip((dataset, model), known, strict=True)
    ]
    return Match(pairs, *rest)


def narrowed(dataset: Dataset, matched: Match) -> Dataset:
    """The data set with the matched classes only, numbered 1, 2, ...; all else is background.

    A region stays where each of its classes is matched.
    """
    new = {old: label for label, (old, _) in enumerate(matched.pairs, 1)}
    kept = (0, *new)
    codes = dataset.codes or {label: label for label in range(len(dataset.classes))}
    return replace(
        dataset,
        classes=tuple(dataset.classes[label] for label in kept),
        colors=tuple(dataset.colors[label] for label in kept),
        codes={file: new.get(label, 0) for file, label in codes.items()},
        regions={
            name: tuple(new[label] for label in union)
            for name, union in dataset.regions.items()
            if set(union) <= set(new)
        },
    )
