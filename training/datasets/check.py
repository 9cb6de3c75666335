"""Check a data set on disk before training: its contents, what is missing, what is odd.

Every case is loaded once; a case that cannot be loaded is listed with its error.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from napari_hidiff.errors import InputError
from napari_hidiff.inference.preprocessing import SMALLEST

from .base import Case, Dataset, Sample
from .lacking import never_trained, no_foreground, paired_only, without_pair

AIR = -900
"""HU; values below are air (-1000 HU) and mark a CT among the supported kinds."""


@dataclass
class Findings:
    """Facts of the loaded cases, one row each."""

    classes: int
    ids: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    sizes: list[tuple[int, ...]] = field(default_factory=list)
    spacings: list[tuple[float, ...] | None] = field(default_factory=list)
    dtypes: Counter[str] = field(default_factory=Counter)
    lows: list[np.ndarray] = field(default_factory=list)
    highs: list[np.ndarray] = field(default_factory=list)
    voxels: list[np.ndarray] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)

    def add(self, sample: Sample, split: str) -> None:
        """Count one loaded case."""
        axes = tuple(range(sample.mask.ndim))
        self.ids.append(sample.case.id)
        self.splits.append(split)
        self.sizes.append(sample.mask.shape)
        self.spacings.append(sample.spacing)
        self.dtypes[str(sample.image.dtype)] += 1
        self.lows.append(sample.image.min(axes).astype(float))
        self.highs.append(sample.image.max(axes).astype(float))
        self.voxels.append(np.bincount(sample.mask.ravel(), minlength=self.classes))

    def where(self, wanted: Sequence[bool] | np.ndarray) -> list[str]:
        """Ids of the cases that meet a condition."""
        return [id_ for id_, holds in zip(self.ids, wanted, strict=True) if holds]

    def labels(self, split: str) -> dict[str, list[int]]:
        """The labels of each loaded case of a split, without the background."""
        rows = zip(self.ids, self.splits, self.voxels, strict=True)
        return {id_: (np.flatnonzero(n[1:]) + 1).tolist() for id_, one, n in rows if one == split}


def check(
    dataset: Dataset, on_case: Callable[[int, Case], None] = lambda done, case: None
) -> dict[str, Any]:
    """Load every case of every split; the result is plain data that JSON can hold.

    ``on_case(done, case)`` is called before each case.  Keys: dataset, root, classes, channels,
    intensity, cases and groups (per split), loaded, dtypes (cases per dtype), size and spacing (per
    axis min, median, max; None where unknown), range (per channel), voxels and present (voxels and
    cases per class), empty (ids without foreground), bad (a line per case that training refuses,
    one for all without mask or image), unusable (their number), refused (the reason why training
    refuses the whole set, or None), odd (a line per oddity).
    """
    seen = Findings(len(dataset.classes))
    alone, line = without_pair(dataset)
    seen.bad.extend([line] * bool(alone))
    usable = paired_only(dataset, alone)
    cases = [(split, case) for split, cases in usable.splits.items() for case in cases]
    for done, (split, case) in enumerate(cases):
        on_case(done, case)
        try:
            sample = dataset.load(case)
        except InputError as error:
            seen.bad.append(f"{case.id} ({split}): {error}")
            continue
        seen.add(sample, split)
        if min(sample.mask.shape[-2:]) < SMALLEST:
            size = " x ".join(map(str, sample.mask.shape))
            seen.bad.append(f"{case.id} ({split}): {size} is under {SMALLEST} pixels a side")
    voxels = np.array(seen.voxels, dtype=np.int64).reshape(-1, seen.classes)
    known = [spacing for spacing in seen.spacings if spacing is not None]
    axes = ("depth", "height", "width")[-len(seen.sizes[0]) :] if seen.sizes else ()
    return {
        "dataset": dataset.name,
        "root": str(dataset.root),
        "classes": list(dataset.classes),
        "channels": list(dataset.channels),
        "intensity": dict(dataset.intensity),
        "cases": {split: len(cases) for split, cases in dataset.splits.items()},
        "groups": {s: len({case.group for case in c}) for s, c in dataset.splits.items()},
        "loaded": len(seen.ids),
        "dtypes": dict(seen.dtypes),
        "size": _per_axis(axes, seen.sizes),
        "spacing": _per_axis(axes, known),
        "range": {
            name: [float(min(low[i] for low in seen.lows)), float(max(h[i] for h in seen.highs))]
            for i, name in enumerate(dataset.channels)
            if seen.lows
        },
        "voxels": dict(zip(dataset.classes, voxels.sum(0).tolist(), strict=True)),
        "present": dict(zip(dataset.classes, (voxels > 0).sum(0).tolist(), strict=True)),
        "empty": seen.where(voxels[:, 1:].sum(1) == 0),
        "bad": seen.bad,
        "unusable": len(alone) + len(seen.bad) - bool(alone),
        "refused": no_foreground(seen.labels("train")),
        "odd": [*_oddities(dataset, seen, voxels), *dataset.notes],
    }


def _per_axis(axes: tuple[str, ...], rows: Sequence[tuple[float, ...]]) -> dict[str, Any] | None:
    if not rows:
        return None
    columns = np.array(rows).T.tolist()
    return {
        axis: {"min": min(values), "median": float(np.median(values)), "max": max(values)}
        for axis, values in zip(axes, columns, strict=True)
    }


def _oddities(dataset: Dataset, seen: Findings, voxels: np.ndarray) -> list[str]:
    lines = []

    def odd(ids: list[str], what: str) -> None:
        if ids:
            lines.append(f"{len(ids)} of {len(seen.ids)} cases {what}, {ids[0]} first")

    odd(seen.where(voxels[:, 1:].sum(1) == 0), "have no foreground")
    flat = [bool((low == high).any()) for low, high in zip(seen.lows, seen.highs, strict=True)]
    odd(seen.where(flat), "have a channel of one value only")
    if dataset.intensity["rule"] != "window":
        odd(
            seen.where([bool((low <= AIR).any()) for low in seen.lows]),
            "look like CT in HU; --intensity window:LOW:HIGH suits them",
        )
    distinct = sorted({tuple(round(v, 3) for v in s) for s in seen.spacings if s is not None})
    if len(distinct) > 1:
        ends = " to ".join(" x ".join(f"{v:g}" for v in s) for s in (distinct[0], distinct[-1]))
        lines.append(f"{len(distinct)} different spacings, {ends} mm")
    if distinct:
        unknown = [spacing is None for spacing in seen.spacings]
        odd(seen.where(unknown), "do not say their spacing")
    if seen.ids:
        never = [n for n, count in zip(dataset.classes, voxels.sum(0), strict=True) if count == 0]
        lines.extend(f"class {name!r} never appears" for name in never)
    lines.extend(never_trained(dataset.classes, seen.labels("train"), seen.labels("val")))
    return lines


def print_check(content: dict[str, Any], console: Console) -> None:
    """The result of :func:`check` as tables for people."""

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    line(f"{content['dataset']} in {content['root']}")
    line(f"intensity: {', '.join(f'{k} {v}' for k, v in content['intensity'].items())}")
    _table(console, ("split", "cases", "groups"), _splits(content))
    if content["size"] is not None:
        _table(console, ("axis", "min", "median", "max"), _axes(content))
        _table(console, ("channel", "from", "to"), _ranges(content))
        _table(console, ("class", "pixels", "share", "in cases"), _classes(content))
    if sets := content.get("sets"):
        _table(console, tuple(sets[0]), [tuple(map(str, row.values())) for row in sets])
    for title, lines in (("cannot be used", content["bad"]), ("to look at", content["odd"])):
        if lines:
            line(f"{title}:")
        for text in lines:
            line(f"  {text}")


def _splits(content: dict[str, Any]) -> list[tuple[str, ...]]:
    cases, groups = content["cases"], content["groups"]
    return [(split, str(cases[split]), str(groups[split])) for split in cases]


def _axes(content: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (f"{axis}, {unit}", *(f"{values[key]:g}" for key in ("min", "median", "max")))
        for unit, sizes in (("pixels", content["size"]), ("mm", content["spacing"]))
        for axis, values in (sizes or {}).items()
    ]


def _ranges(content: dict[str, Any]) -> list[tuple[str, ...]]:
    dtypes = ", ".join(content["dtypes"])
    return [
        (f"{name} ({dtypes})", f"{low:g}", f"{high:g}")
        for name, (low, high) in content["range"].items()
    ]


def _classes(content: dict[str, Any]) -> list[tuple[str, ...]]:
    total = max(sum(content["voxels"].values()), 1)
    return [
        (name, f"{count:,}", f"{count / total:.3%}", f"{content['present'][name]}")
        for name, count in content["voxels"].items()
    ]


def _table(console: Console, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    table = Table(*head, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*row)
    console.print(table, markup=False)
    console.print()
