"""How each kind of entry of a log is repeated: a function for every action of the journal."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_hidiff.annotation import refinement, walker
from napari_hidiff.annotation.constraints import Guards
from napari_hidiff.annotation.journal import Entry
from napari_hidiff.annotation.records import records
from napari_hidiff.annotation.run import Prior
from napari_hidiff.annotation.session import Session
from napari_hidiff.slices import Index

if TYPE_CHECKING:
    from napari_hidiff.annotation.replay import Replay
    from napari_hidiff.diffusion.samplers import Step

_SETTINGS = ("sampler", "steps", "samples", "seed")


@dataclass
class Going:
    """A run whose steps are computed when they are needed."""

    entry: Entry
    run: "Iterator[Step] | None" = None
    each: np.ndarray | None = None


def opened(replay: "Replay", entry: Entry) -> None:
    """Work began on an empty mask."""
    replay.forget()
    replay.channels = entry.get("channels", 0)


def restored(replay: "Replay", entry: Entry) -> None:
    """Work went on from the strokes and accepted masks of an earlier session."""
    if "slices" in entry:
        found = records(entry["slices"], replay.shape)
    else:
        found = replay.annotation.records()
    opened(replay, entry)
    replay.annotation.restore(found, replay.mask)


def began(replay: "Replay", entry: Entry) -> None:
    """Work began on a slice."""
    replay.session(slice_of(entry))


def stroke(replay: "Replay", entry: Entry) -> None:
    """The user painted."""
    index = slice_of(entry)
    session = replay.session(index)
    where, labels = replay.pixels(entry)
    painted = session.timeline.content.copy()
    painted.reshape(-1)[where] = labels
    session.timeline.painted(replay.put(index, painted))


def confirm(replay: "Replay", entry: Entry) -> None:
    """The user painted pixels with the label they had."""
    replay.session(slice_of(entry)).timeline.confirm(replay.pixels(entry)[0])


def undo(replay: "Replay", entry: Entry) -> None:
    """Changes of a slice were undone, or done again."""
    index = slice_of(entry)
    timeline = replay.session(index).timeline
    timeline.travel(entry["by"] if entry["action"] == "redo" else -entry["by"])
    replay.put(index, timeline.content)


def segment(replay: "Replay", entry: Entry) -> None:
    """A slice got a prior; it is written by an entry of its own."""
    index = slice_of(entry)
    session, mask = replay.session(index), None
    if entry["prior"] == "mask":
        mask = np.zeros(session.timeline.content.shape, np.uint8)
        where, labels = replay.pixels(entry)
        mask.reshape(-1)[where] = labels
    model = replay.model(entry)
    stack = replay.stack(len(model.card.channels))
    session.begin(mask, refinement.segment(model, stack, index, mask))


def run(replay: "Replay", entry: Entry) -> None:
    """A run began with the strokes of this moment; its steps are taken when they are needed."""
    index = slice_of(entry)
    guards = Guards(entry["near"], entry["certain"], entry["margin"])
    total = 1 if entry["sampler"] == "one-step" else entry["steps"]
    replay.session(index).start(total, replay.model(entry).labels, guards)
    replay.going[index] = Going(entry)


def alternatives(replay: "Replay", entry: Entry) -> None:
    """Clearly different answers were sought among the samples of a run."""
    from napari_hidiff.annotation.suggestions import alternatives as clustered
    from napari_hidiff.annotation.suggestions import offered

    session = replay.session(slice_of(entry))
    _take(replay, slice_of(entry), 2**31)
    each = replay.going[slice_of(entry)].each
    if session.run is None or each is None:
        raise ValueError("there is no run to find alternatives in")
    shares = [round(share, 4) for share in offered(session.run, clustered(each))]
    if shares != entry["shares"]:
        raise ValueError(f"the alternatives have shares {shares}, not {entry['shares']}")


def lock(replay: "Replay", entry: Entry) -> None:
    """A class was frozen or let go."""
    replay.annotation.locks.freeze(entry["label"], replay.mask, entry["on"])


def walk(replay: "Replay", entry: Entry) -> None:
    """The random walker began with the strokes of this moment."""
    index = slice_of(entry)
    image = replay.stack(entry.get("layers", 1)).plane(index)
    replay.walks[index] = image, replay.session(index).timeline.fixed


def write(replay: "Replay", entry: Entry) -> None:
    """A result went into the mask, around the strokes of this moment."""
    index, what = slice_of(entry), entry["what"]
    session, step = replay.session(index), None
    if what == "pixels":
        mask = session.timeline.content.copy()
        where, labels = replay.pixels(entry)
        mask.reshape(-1)[where] = labels
    else:
        if what == "prior":
            mask = _prior(session).mask
        elif what == "walker":
            mask = walker.complete(*replay.walks.pop(index))
        else:
            step = entry["step"]
            _take(replay, index, step)
            if session.run is None or session.run.steps < step:
                raise ValueError(f"there is no step {step} of a run")
            mask = session.view(step)
        mask = replay.annotation.around_fixed(index, mask)
    session.wrote(replay.put(index, mask), step)


def accept(replay: "Replay", entry: Entry) -> None:
    """The user took the mask for final."""
    replay.session(slice_of(entry)).accept()


def nothing(replay: "Replay", entry: Entry) -> None:
    """What changes neither mask nor strokes."""


ACTIONS: dict[str, Callable[["Replay", Entry], None]] = {
    "open": opened,
    "restore": restored,
    "slice": began,
    "stroke": stroke,
    "confirm": confirm,
    "undo": undo,
    "redo": undo,
    "segment": segment,
    "run": run,
    "alternatives": alternatives,
    "show": nothing,
    "lock": lock,
    "sweep": nothing,  # its write has the pixels
    "take_back": nothing,
    "walker": walk,
    "write": write,
    "reject": nothing,  # the undo before it took the result back
    "accept": accept,
}
"""How to repeat an entry, by its action."""


def slice_of(entry: Entry) -> Index:
    """The slice that an entry is about."""
    return tuple(entry["slice"])


def _prior(session: Session) -> Prior:
    if session.prior is None:
        raise ValueError("there is no prior to write")
    return session.prior


def _take(replay: "Replay", index: Index, step: int) -> None:
    """Take the steps of a slice's run up to number ``step``."""
    session, going = replay.session(index), replay.going[index]
    entry = going.entry
    if going.run is None:
        # Until its kernels are compiled a model runs on torch: on what it ran is in the entry.
        model = replay.model(entry, entry["engine"])
        stack = replay.stack(len(model.card.channels))
        settings: dict[str, Any] = {key: entry[key] for key in _SETTINGS}
        given = _prior(session).given
        assert session.run is not None
        going.run = refinement.steps(model, stack, index, given, session.run, **settings)
    while session.run is not None and not session.run.finished and session.run.steps < step:
        taken = next(going.run, None)
        if taken is None:
            raise ValueError("the run has fewer steps than it had")
        session.add_step(taken.mask, taken.probability)
        going.each = taken.each
