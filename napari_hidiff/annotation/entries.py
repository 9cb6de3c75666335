"""The entries of an annotation's log: one :class:`~typing.TypedDict` per action.

An entry is a small dict that JSON can hold. :class:`napari_hidiff.annotation.journal.Journal` is
the only writer, :mod:`napari_hidiff.annotation.replay` the reader that repeats them.

* Every entry has ``action`` and ``at``, seconds since the image was opened.
* An entry about a slice has ``slice``, its index (-1 for the two axes that are shown), and
  ``mask``, the digest of the slice after the action: a replay finds the first deviation by it.
* ``pixels`` are flat positions in the slice with their labels (:func:`napari_hidiff.masks.pack`).
* A key that is not required is absent where it says nothing, or in logs of older versions.
"""

from collections.abc import Sequence
from typing import Literal, NotRequired, TypedDict, final


class PackedSlice(TypedDict):
    """A :class:`SliceRecord` as text; ``accepted`` and ``mask`` are absent where there is none."""

    slice: Sequence[int]
    fixed: str
    accepted: NotRequired[str]
    mask: NotRequired[str]


class PackedPixels(TypedDict):
    """Pixels of one slice of a mask."""

    slice: Sequence[int]
    pixels: str


class ModelFacts(TypedDict):
    """A model: its name, its file and the file's digest, the engine and the device it runs on.

    threads : torch's threads on the CPU, by which sums are rounded; older versions lack it.
    """

    model: str
    file: str
    digest: str
    engine: str
    device: str
    threads: NotRequired[int]


class SliceFacts(TypedDict):
    """The index of a slice and the digest of its mask."""

    slice: Sequence[int]
    mask: str


class _Entry(TypedDict):
    at: float


class _SliceEntry(_Entry, SliceFacts):
    pass


@final
class OpenEntry(_Entry):
    """An image was opened.

    when : local time. channels : number of leading axes of the image that are no slices. rater :
    who annotates, where a name was given.
    """

    action: Literal["open"]
    when: str
    version: str
    channels: int
    rater: NotRequired[str]


@final
class RestoreEntry(_Entry):
    """Work went on after an earlier session.

    masks : True where unfinished masks came back too; older versions lack it. slices : the state,
    where the log before cannot be repeated. rater : as of an image that is opened.
    """

    action: Literal["restore"]
    when: str
    version: str
    channels: int
    masks: NotRequired[bool]
    rater: NotRequired[str]
    slices: NotRequired[list[PackedSlice]]


@final
class SliceBegunEntry(_SliceEntry):
    """Work on a slice began."""

    action: Literal["slice"]


@final
class StrokeEntry(_SliceEntry):
    """The user painted.

    until : when a stroke of several parts ended, as ``at``. foreign : by no tool of napari.
    """

    action: Literal["stroke"]
    pixels: str
    until: NotRequired[float]
    foreign: NotRequired[bool]


@final
class ConfirmEntry(_SliceEntry):
    """The user painted pixels with the label they had."""

    action: Literal["confirm"]
    pixels: str


@final
class UndoEntry(_SliceEntry):
    """Changes of a slice were undone or redone; by : how many, at least 1."""

    action: Literal["undo", "redo"]
    by: int


class ScaleFacts(TypedDict, total=False):
    """The factor by which a slice was resampled for the model; absent = it was not."""

    scale: float


class PriorFacts(ScaleFacts):
    """What a prior is made from: the segmentor, or a mask, its ``pixels``.

    object : the label of the object that a prompted model is asked for; the mask is of it alone.
    """

    prior: Literal["segmentor", "mask"]
    pixels: NotRequired[str]
    object: NotRequired[int]


@final
class SegmentEntry(_SliceEntry, ModelFacts, PriorFacts):
    """A slice got a prior."""

    action: Literal["segment"]


@final
class RunEntry(_SliceEntry, ModelFacts, ScaleFacts):
    """A refinement began.

    fixed : number of fixed pixels. sampler to seed : :class:`Sampling`. near, certain, margin :
    :class:`Guards`. firm : the setting behind ``margin``. taken : steps taken so far.
    stopped : by the user.
    """

    action: Literal["run"]
    fixed: int
    sampler: str
    steps: int
    samples: int
    seed: int
    certain: bool
    firm: bool
    near: int | None
    margin: float
    taken: NotRequired[int]
    stopped: NotRequired[bool]


@final
class WriteEntry(_SliceEntry):
    """A result was written into the mask; step : of the run, counted from 1, 0 for its prior."""

    action: Literal["write"]
    what: Literal["prior", "walker", "step", "pixels"]
    step: NotRequired[int]
    pixels: NotRequired[str]


@final
class AlternativesEntry(_SliceEntry):
    """Different answers were offered behind the steps of a run; shares : of its samples, 0..1."""

    action: Literal["alternatives"]
    shares: list[float]


@final
class ShowEntry(_SliceEntry):
    """An alternative was outlined; step : its place in the run."""

    action: Literal["show"]
    step: int


@final
class WalkerEntry(_SliceEntry):
    """The random walker began; layers : how many, where every channel is a layer."""

    action: Literal["walker"]
    layers: NotRequired[int]


@final
class RejectEntry(_SliceEntry):
    """The undo before this entry rejected a result."""

    action: Literal["reject"]


class SweepFacts(ScaleFacts, total=False):
    """Sampling (absent for ``segment``) and guards (where the result was guarded) of a pass."""

    sampler: str
    steps: int
    samples: int
    seed: int
    near: int | None
    certain: bool
    margin: float


@final
class SweepEntry(_SliceEntry, ModelFacts, SweepFacts):
    """A slice got its result in a pass over many; the write after this entry has the pixels.

    kind : segment, refine, carry or fill.
    """

    action: Literal["sweep"]
    kind: str


@final
class TakeBackEntry(_Entry):
    """A pass over many slices was undone; slices : how many got their earlier mask back."""

    action: Literal["take_back"]
    slices: int


@final
class LockEntry(_Entry):
    """A class was frozen (``on``) or released; held : its pixels, while it is frozen."""

    action: Literal["lock"]
    label: int
    on: bool
    held: NotRequired[list[PackedPixels]]


@final
class WithdrawEntry(_SliceEntry):
    """The mask is not final after all."""

    action: Literal["withdraw"]


class AcceptFacts(TypedDict, total=False):
    """Where an accepted mask came from.

    fixed : number of fixed pixels. model, step, steps : of the run, where it came from one.
    alternative : its number, counted from 1, where it was one.
    """

    fixed: int
    model: str
    step: int
    steps: int
    alternative: int


@final
class AcceptEntry(_SliceEntry, AcceptFacts):
    """The user accepted the mask as final."""

    action: Literal["accept"]


SliceEntry = (
    SliceBegunEntry
    | StrokeEntry
    | ConfirmEntry
    | UndoEntry
    | SegmentEntry
    | RunEntry
    | WriteEntry
    | AlternativesEntry
    | ShowEntry
    | WalkerEntry
    | RejectEntry
    | SweepEntry
    | WithdrawEntry
    | AcceptEntry
)
"""An entry about one slice."""
PixelEntry = StrokeEntry | ConfirmEntry | SegmentEntry | WriteEntry
"""An entry that may have pixels of its slice."""
Entry = OpenEntry | RestoreEntry | SliceEntry | TakeBackEntry | LockEntry
"""Any entry."""


def rater_of(log: Sequence[Entry]) -> str:
    """Who worked last on an image, by its log; empty where no name was given."""
    for entry in reversed(log):
        if entry["action"] in ("open", "restore"):
            return str(entry.get("rater", ""))
    return ""
