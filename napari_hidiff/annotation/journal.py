"""The log of an annotation: what was done, when, and enough of it to do it again.

An entry is a small JSON-able dict. Every one has ``action`` and ``at``, seconds since the program
opened the image; one about a slice has ``slice`` (an index) and ``mask``, the digest of the slice
after it, so that a repetition can tell where it went astray
(:mod:`napari_hidiff.annotation.replay`).

| action | further facts |
|---|---|
| open | when (local time), version, channels (leading axes of the image that are no slices) |
| restore | the same, after an earlier session; masks: they came back; slices: if not repeatable |
| slice | work on a slice began |
| stroke | pixels (packed, with their labels), until (its end), foreign (not by napari's tools) |
| confirm | pixels that were painted with the label they had |
| undo, redo | by: how many changes of the slice |
| segment | the model's facts; prior: segmentor or mask, and then its pixels |
| run | the model's facts, settings, guards; taken: steps taken so far; stopped: by the user |
| write | what: prior, walker, step (then step: which), or pixels |
| alternatives | shares: what was offered behind the steps of the run, per alternative |
| show | step: the entry of the run that was outlined |
| walker | completion of the strokes as they are began; layers: how many, if channels are layers |
| reject | the undo before it took back a result |
| sweep | kind: segment, refine or carry; the model's facts, settings; its write has the pixels |
| take_back | slices: how many got the masks back that they had before a sweep |
| lock | label: of a class that was frozen (on) or let go; held: its pixels, while frozen |
| withdraw | the mask was not final after all |
| accept | which model and step the mask came from, if any |

What outlives the program of a slice, in memory and as text.
"""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_hidiff._version import __version__
from napari_hidiff.annotation.undo import MaskHistory
from napari_hidiff.masks import FREE, Index, of_mask, pack, shown, unpack

if TYPE_CHECKING:
    from napari_hidiff.inference.model import HiDiff

Entry = dict[str, Any]


class Journal:
    """Writes the log of an annotation; log : the list that entries are added to."""

    def __init__(self, log: list[Entry]) -> None:
        self._log = log
        self._began = time.monotonic()
        self._strokes: dict[Index, Entry] = {}  # the last stroke of each slice

    def add(
        self, action: str, index: Index | None, timeline: MaskHistory | None, **facts: Any
    ) -> Entry:
        """Add an entry; timeline : of the slice ``index``, if it is about one."""
        entry: Entry = {"action": action, "at": self._now(), **facts}
        if index is not None:
            entry["slice"] = index
        if timeline is not None:
            entry["mask"] = timeline.digest
        self._log.append(entry)
        return entry

    def opened(self, earlier: bool = False, **facts: Any) -> Entry:
        """The first entry of a program's work; ``earlier`` : it goes on from an earlier one."""
        when = time.strftime("%Y-%m-%d %H:%M:%S")
        action = "restore" if earlier else "open"
        return self.add(action, None, None, when=when, version=__version__, **facts)

    def pixels(
        self, action: str, index: Index, timeline: MaskHistory, where: np.ndarray, **facts: Any
    ) -> Entry:
        """Add an entry about pixels (flat positions, rising) and the labels that they have now."""
        packed = pack(where, timeline.content.ravel()[where])
        return self.add(action, index, timeline, pixels=packed, **facts)

    def stroke(self, index: Index, timeline: MaskHistory, more: bool, foreign: bool) -> None:
        """The last change of a slice is a stroke, new or (``more``) going on."""
        if timeline.last is None:
            return
        where, entry = timeline.last.pixels.index, self._strokes.get(index)
        if more and entry is not None:
            labels = timeline.last.pixels.column(1)
            entry |= {
                "pixels": pack(where, labels),
                "until": self._now(),
                "mask": timeline.digest,
            }
        else:
            facts = {"foreign": True} if foreign else {}
            self._strokes[index] = self.pixels("stroke", index, timeline, where, **facts)

    def wrote(
        self, index: Index, timeline: MaskHistory, what: str | None, step: int | None, before: int
    ) -> None:
        """A result was written into a slice, whose timeline had the revision ``before``."""
        if what == "step":
            self.add("write", index, timeline, what=what, step=step)
        elif what is not None:
            self.add("write", index, timeline, what=what)
        else:
            last = timeline.last if timeline.revision != before else None
            where = np.empty(0, np.int64) if last is None else last.pixels.index
            self.pixels("write", index, timeline, where, what="pixels")

    def _now(self) -> float:
        return round(time.monotonic() - self._began, 2)


def repeatable(log: list[Entry]) -> bool:
    """Whether a log begins at a beginning: those of older versions have too little in them."""
    return any(entry.get("action") == "open" or "slices" in entry for entry in log)


def model_facts(model: "HiDiff") -> Entry:
    """What the log says of a model: its name, the file it came from and the file's digest, what
    runs it and where."""
    return {
        "model": model.card.name,
        "file": model.file,
        "digest": model.digest,
        "engine": model.engine,
        "device": str(model.device),
    }


class SliceRecord(NamedTuple):
    """What outlives the program of a slice.

    fixed : int32 [H, W], the strokes. accepted : integer [H, W], the mask accepted last, or None.
    mask : integer [H, W], the mask as it was left, or None: strokes and accepted mask make it up.
    """

    fixed: np.ndarray
    accepted: np.ndarray | None
    mask: np.ndarray | None = None


def _fixed(fixed: np.ndarray) -> str:
    where = np.flatnonzero(fixed != FREE)
    return pack(where, fixed.ravel()[where])


def packed(slices: Mapping[Index, SliceRecord]) -> list[dict[str, Any]]:
    """Slices as the file has them, JSON-able; the inverse of :func:`records`."""
    found: list[dict[str, Any]] = []
    for index, record in slices.items():
        found.append({"slice": index, "fixed": _fixed(record.fixed)})
        if record.accepted is not None:
            found[-1]["accepted"] = of_mask(record.accepted)
        if record.mask is not None:
            found[-1]["mask"] = of_mask(record.mask)
    return found


def _unpack(text: str, size: tuple[int, ...], rest: int, dtype: type) -> np.ndarray:
    values: np.ndarray = np.full(size, rest, dtype)
    where, labels = unpack(text, values.size)
    if labels.size and labels.max() > np.iinfo(dtype).max:
        raise ValueError("a label is out of range")
    values.reshape(-1)[where] = labels
    return values


def records(packed: list[dict[str, Any]], shape: Sequence[int]) -> dict[Index, SliceRecord]:
    """Slices as the file has them, unpacked; ValueError and others where they are damaged."""
    slices = {}
    for one in packed:
        index = tuple(one["slice"])
        size = shown(shape, index)
        masks = (one.get(name) for name in ("accepted", "mask"))
        slices[index] = SliceRecord(
            _unpack(one["fixed"], size, FREE, np.int32),
            *(None if mask is None else _unpack(mask, size, 0, np.uint8) for mask in masks),
        )
    return slices
