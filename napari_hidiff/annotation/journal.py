"""The journal writes the log of an annotation, and packs the state of its slices.

:class:`Journal` is the only writer of :mod:`napari_hidiff.annotation.entries`: one method per
action. :class:`SliceRecord` is the saved state of a slice; :func:`packed` and :func:`records`
convert records to JSON and back.
"""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np

from napari_hidiff._version import __version__
from napari_hidiff.annotation.constraints import Guards
from napari_hidiff.annotation.entries import (
    AcceptEntry,
    AcceptFacts,
    AlternativesEntry,
    ConfirmEntry,
    Entry,
    LockEntry,
    ModelFacts,
    OpenEntry,
    PackedPixels,
    PackedSlice,
    PriorFacts,
    RejectEntry,
    RestoreEntry,
    RunEntry,
    ScaleFacts,
    SegmentEntry,
    ShowEntry,
    SliceBegunEntry,
    SliceFacts,
    StrokeEntry,
    SweepEntry,
    SweepFacts,
    TakeBackEntry,
    UndoEntry,
    WalkerEntry,
    WithdrawEntry,
    WriteEntry,
)
from napari_hidiff.annotation.undo import MaskHistory
from napari_hidiff.inference.card import Sampling
from napari_hidiff.masks import FREE, Index, of_mask, pack, shown, unpack

if TYPE_CHECKING:
    from napari_hidiff.inference.model import HiDiff

Result = Literal["prior", "walker"]
"""A result that a replay computes again; of others the log has the pixels."""


class HasHistory(Protocol):
    """A session of a slice, as the journal needs it."""

    timeline: MaskHistory


class LoggedRun:
    """The entry of a run that goes on: its steps are added as they are taken."""

    def __init__(self, entry: RunEntry) -> None:
        self._entry = entry

    def took(self, step: int, engine: str) -> None:
        """Step number ``step`` was taken, on an engine: packed or torch."""
        self._entry["taken"] = step
        self._entry["engine"] = engine

    def stopped(self) -> None:
        """The user stopped the run."""
        self._entry["stopped"] = True


class Journal:
    """Writes the log of an annotation.

    sessions : of all slices, for the digest that goes into every entry about one.
    """

    def __init__(self, sessions: Mapping[Index, HasHistory]) -> None:
        self.entries: list[Entry] = []
        self._sessions = sessions
        self._opened = time.monotonic()
        self._strokes: dict[Index, StrokeEntry] = {}  # the last stroke of each slice

    def open(self, channels: int, rater: str = "") -> None:
        """An image was opened; channels : number of its leading axes that are no slices. rater :
        who annotates it, where that is known."""
        now, when = self._now(), _local_time()
        entry = OpenEntry(action="open", at=now, when=when, version=__version__, channels=channels)
        if rater:
            entry["rater"] = rater
        self._add(entry)

    def restore(
        self,
        log: Sequence[Entry],
        slices: Mapping[Index, "SliceRecord"],
        channels: int,
        rater: str = "",
    ) -> None:
        """Work went on from the ``slices`` of an earlier session, whose ``log`` comes first; rater
        as for :meth:`open`."""
        self.entries[:0] = log
        entry = RestoreEntry(
            action="restore",
            at=self._now(),
            when=_local_time(),
            version=__version__,
            channels=channels,
            masks=True,
        )
        if rater:
            entry["rater"] = rater
        if not repeatable(log):
            entry["slices"] = packed(slices)
        self._add(entry)

    def begin_slice(self, index: Index) -> None:
        """Work on a slice began."""
        self._add(SliceBegunEntry(action="slice", at=self._now(), **self._slice(index)))

    def stroke(self, index: Index, more: bool, foreign: bool) -> None:
        """The last change of a slice is a stroke.

        more : it continues the stroke before. foreign : it was painted by no tool of napari.
        """
        timeline, earlier = self._sessions[index].timeline, self._strokes.get(index)
        if timeline.last is None:
            return
        where = timeline.last.pixels.index
        if more and earlier is not None:
            earlier["pixels"] = pack(where, timeline.last.pixels.column(1))
            earlier["until"] = self._now()
            earlier["mask"] = timeline.digest
            return
        now, pixels, about = self._now(), self._pixels(index, where), self._slice(index)
        if foreign:
            entry = StrokeEntry(action="stroke", at=now, pixels=pixels, foreign=True, **about)
        else:
            entry = StrokeEntry(action="stroke", at=now, pixels=pixels, **about)
        self._strokes[index] = entry
        self._add(entry)

    def confirm(self, index: Index, where: np.ndarray) -> None:
        """The user painted pixels (flat positions, rising) with the label they had."""
        now, pixels = self._now(), self._pixels(index, where)
        self._add(ConfirmEntry(action="confirm", at=now, pixels=pixels, **self._slice(index)))

    def undo(self, index: Index, by: int) -> None:
        """Changes of a slice were undone (``by`` < 0) or redone (``by`` > 0)."""
        now, about = self._now(), self._slice(index)
        self._add(UndoEntry(action="undo" if by < 0 else "redo", at=now, by=abs(by), **about))

    def segment(
        self,
        index: Index,
        model: "HiDiff",
        given: np.ndarray | None = None,
        label: int | None = None,
        scale: float | None = None,
    ) -> None:
        """A slice got a prior: from a mask, integer [H, W], or from the segmentor.

        label : of the object that a prompted model is asked for. scale : by which the slice was
        resampled for the segmentor.
        """
        prior: PriorFacts = {"prior": "segmentor"}
        if given is not None:
            prior = {"prior": "mask", "pixels": of_mask(given)}
        if label is not None:
            prior["object"] = label
        prior |= scale_facts(scale)
        now, facts, about = self._now(), model_facts(model), self._slice(index)
        self._add(SegmentEntry(action="segment", at=now, **facts, **prior, **about))

    def run(
        self, index: Index, model: "HiDiff", sampling: Sampling, firm: bool, guards: Guards
    ) -> LoggedRun:
        """A refinement began; firm : the user's setting behind the margin of ``guards``."""
        entry = RunEntry(
            action="run",
            at=self._now(),
            fixed=self._sessions[index].timeline.fixed_count,
            **model_facts(model),
            sampler=sampling.sampler,
            steps=sampling.steps,
            samples=sampling.samples,
            seed=sampling.seed,
            certain=guards.certain,
            firm=firm,
            near=guards.near,
            margin=guards.margin,
            **scale_facts(sampling.scale),
            **self._slice(index),
        )
        self._add(entry)
        return LoggedRun(entry)

    def write_result(self, index: Index, what: Result) -> None:
        """The prior or the random walker's mask was written into a slice."""
        self._add(WriteEntry(action="write", at=self._now(), what=what, **self._slice(index)))

    def write_step(self, index: Index, step: int) -> None:
        """Step number ``step`` of the slice's run was written; 0 is its prior."""
        now, about = self._now(), self._slice(index)
        self._add(WriteEntry(action="write", at=now, what="step", step=step, **about))

    def write_pixels(self, index: Index, before: int) -> None:
        """Another result was written; before : the revision of the slice's history before it."""
        timeline = self._sessions[index].timeline
        last = timeline.last if timeline.revision != before else None
        where = np.empty(0, np.int64) if last is None else last.pixels.index
        now, pixels, about = self._now(), self._pixels(index, where), self._slice(index)
        self._add(WriteEntry(action="write", at=now, pixels=pixels, what="pixels", **about))

    def alternatives(self, index: Index, shares: list[float]) -> None:
        """Alternatives were offered; shares : of the samples, 0..1, one per alternative."""
        now, about = self._now(), self._slice(index)
        self._add(AlternativesEntry(action="alternatives", at=now, shares=shares, **about))

    def show(self, index: Index, step: int) -> None:
        """An alternative was outlined; step : its place among the steps of the run."""
        self._add(ShowEntry(action="show", at=self._now(), step=step, **self._slice(index)))

    def walker(self, index: Index, layers: int | None = None) -> None:
        """The random walker began; layers : how many, where every channel is a layer."""
        now, about = self._now(), self._slice(index)
        if layers is None:
            self._add(WalkerEntry(action="walker", at=now, **about))
        else:
            self._add(WalkerEntry(action="walker", at=now, layers=layers, **about))

    def reject(self, index: Index) -> None:
        """The undo before rejected a result."""
        self._add(RejectEntry(action="reject", at=self._now(), **self._slice(index)))

    def sweep(
        self,
        index: Index,
        model: "HiDiff",
        kind: str,
        sampling: Sampling | None,
        guards: Guards | None,
    ) -> None:
        """A slice got its result in a pass over many; kind : segment, refine, carry or fill."""
        facts: SweepFacts = {}
        if sampling is not None:
            facts["sampler"], facts["steps"] = sampling.sampler, sampling.steps
            facts["samples"], facts["seed"] = sampling.samples, sampling.seed
            facts |= scale_facts(sampling.scale)
        if guards is not None:
            facts["near"], facts["certain"] = guards.near, guards.certain
            facts["margin"] = guards.margin
        now, about = self._now(), self._slice(index)
        self._add(
            SweepEntry(action="sweep", at=now, **model_facts(model), kind=kind, **facts, **about)
        )

    def take_back(self, slices: int) -> None:
        """A pass was undone; slices : how many got the mask back that they had before it."""
        self._add(TakeBackEntry(action="take_back", at=self._now(), slices=slices))

    def lock(self, label: int, held: list[PackedPixels] | None) -> None:
        """A class was frozen with the pixels ``held``, or released (None).

        Only the last entry of a class has its pixels, and only while it is frozen.
        """
        for entry in self.entries:
            if entry["action"] == "lock" and entry["label"] == label:
                entry.pop("held", None)
        now = self._now()
        if held is None:
            self._add(LockEntry(action="lock", at=now, label=label, on=False))
        else:
            self._add(LockEntry(action="lock", at=now, label=label, on=True, held=held))

    def accept(self, index: Index, facts: AcceptFacts) -> None:
        """The user accepted the mask as final."""
        now, about = self._now(), self._slice(index)
        self._add(AcceptEntry(action="accept", at=now, **facts, **about))

    def withdraw(self, index: Index) -> None:
        """The mask is not final after all."""
        self._add(WithdrawEntry(action="withdraw", at=self._now(), **self._slice(index)))

    def _add(self, entry: Entry) -> None:
        self.entries.append(entry)

    def _slice(self, index: Index) -> SliceFacts:
        return {"slice": index, "mask": self._sessions[index].timeline.digest}

    def _pixels(self, index: Index, where: np.ndarray) -> str:
        return pack(where, self._sessions[index].timeline.content.ravel()[where])

    def _now(self) -> float:
        return round(time.monotonic() - self._opened, 2)


def scale_facts(scale: float | None) -> ScaleFacts:
    """The factor by which a slice was resampled, where it was."""
    return {} if scale in (None, 1) else {"scale": scale}


def _local_time() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def is_snapshot(entry: Entry) -> bool:
    """Whether an entry has the whole state of the slices, so that a replay can begin at it."""
    return entry.get("action") == "restore" and "slices" in entry


def repeatable(log: Sequence[Entry]) -> bool:
    """Whether a replay can begin in this log; logs of older versions may have no such place."""
    return any(entry.get("action") == "open" or is_snapshot(entry) for entry in log)


def model_facts(model: "HiDiff") -> ModelFacts:
    """The model, its file with digest, the engine, the device and torch's threads, as an entry has
    them."""
    import torch

    return {
        "model": model.card.name,
        "file": model.file,
        "digest": model.digest,
        "engine": model.engine,
        "device": str(model.device),
        "threads": torch.get_num_threads(),
    }


class SliceRecord(NamedTuple):
    """The saved state of a slice.

    fixed : int32 [H, W], the strokes. accepted : integer [H, W], the mask accepted last, or None.
    mask : integer [H, W], the current mask, or None where strokes and accepted mask make it up.
    """

    fixed: np.ndarray
    accepted: np.ndarray | None
    mask: np.ndarray | None = None


def _fixed(fixed: np.ndarray) -> str:
    where = np.flatnonzero(fixed != FREE)
    return pack(where, fixed.ravel()[where])


def packed(slices: Mapping[Index, SliceRecord]) -> list[PackedSlice]:
    """Records for a JSON file; the inverse of :func:`records`."""
    texts: list[PackedSlice] = []
    for index, record in slices.items():
        text: PackedSlice = {"slice": index, "fixed": _fixed(record.fixed)}
        if record.accepted is not None:
            text["accepted"] = of_mask(record.accepted)
        if record.mask is not None:
            text["mask"] = of_mask(record.mask)
        texts.append(text)
    return texts


def _unpack(text: str, size: tuple[int, ...], rest: int, dtype: type) -> np.ndarray:
    values: np.ndarray = np.full(size, rest, dtype)
    where, labels = unpack(text, values.size)
    if labels.size and labels.max() > np.iinfo(dtype).max:
        raise ValueError("a label is out of range")
    values.reshape(-1)[where] = labels
    return values


def given_by(entry: SegmentEntry, size: tuple[int, ...]) -> np.ndarray | None:
    """What a prior was made from: a mask uint8 [H, W] = ``size``, None = the segmentor."""
    return _unpack(entry["pixels"], size, 0, np.uint8) if entry["prior"] == "mask" else None


def records(packed: Sequence[PackedSlice], shape: Sequence[int]) -> dict[Index, SliceRecord]:
    """The inverse of :func:`packed`; shape : of the whole mask.

    Raises
    ------
    ValueError, LookupError, TypeError : the text is damaged.
    """
    slices = {}
    for text in packed:
        index = tuple(text["slice"])
        size = shown(shape, index)
        masks = (text.get("accepted"), text.get("mask"))
        slices[index] = SliceRecord(
            _unpack(text["fixed"], size, FREE, np.int32),
            *(None if mask is None else _unpack(mask, size, 0, np.uint8) for mask in masks),
        )
    return slices
