"""The sentences of the widget that carry numbers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari_hidiff.annotation.annotation import Annotation
from napari_hidiff.annotation.sidecar import SavedSession
from napari_hidiff.inference.card import Card
from napari_hidiff.masks import Changes

if TYPE_CHECKING:
    from napari_hidiff.annotation.refinement import Settings
    from napari_hidiff.engine.engine import Engine
    from napari_hidiff.inference.cost import Estimate

NAMED = 3
"""Classes that fit into one line."""

TRAIN = "napari-hidiff-train"
TAKEN_BACK = "taken back"
REJECTED = "Rejected: the mask is as it was before that result. Your strokes stay."


def no_model() -> str:
    """Nothing is bundled and nothing was chosen."""
    return (
        f"No model is installed. Train one on your images with {TRAIN} and choose its file above, "
        "or go on without:"
    )


def no_fit(name: str, problem: str) -> str:
    """The model cannot read the image."""
    return (
        f"{name} does not fit: {problem}. Choose another model, train one with {TRAIN}, "
        "or go on without:"
    )


def missing(channels: list[str]) -> str:
    """The model needs layers for these channels."""
    named = ", ".join(channels)
    return f"The model reads several channels: choose the layer of {named} above."


def fits(card: Card, doubts: Sequence[str] = ()) -> str:
    """What the model finds in the image that it fits; or in what this image differs from those
    that it was trained on."""
    classes = card.classes[1:]
    found = ", ".join(kind.name for kind in classes)
    if len(classes) > NAMED:
        found = f"{len(classes)} classes, listed below"
    if doubts:
        return (
            f"Look twice: not like the images of {card.name}: {'; '.join(doubts)}. It can run, "
            f"and finds: {found}."
        )
    return f"Fits this image. Finds: {found}."


def cost(estimate: "Estimate", runs: "Engine") -> str:
    """What a run will take, and whether that will change."""
    text = f"A run takes about {_seconds(estimate.seconds)} and {_memory(estimate.bytes)}"
    return f"{text}, until fast kernels are ready." if runs.preparing else f"{text}."


def moment(step: int, total: int, shares: list[float] | None, where: str) -> str:
    """What the slider shows: the prior, a step, or one of the alternatives behind the steps."""
    if step == 0:
        name = "prior"
    elif step < total or not shares or len(shares) < 2:
        name = f"step {step} of {total}"
    elif step == total:
        name = "mean of all samples"
    else:
        at = step - total
        where = "" if where == "outlined" else where  # one line is all there is room for
        name = f"alternative {at} of {len(shares)}, {shares[at - 1] * 100:.0f} % of samples"
    return f"{name}, {where}" if where else name


def drawing(settings: "Settings") -> str:
    """What happens where alternatives are wanted and there are no samples yet."""
    return (
        f"Drawing {settings.samples} samples ({settings.sampler}, {settings.passes} steps, "
        f"seed {settings.seed}) to find alternatives; the mask stays as it is."
    )


def agree(samples: int) -> str:
    """There is nothing to choose from."""
    return f"All {samples} samples say much the same: there is no alternative."


def counts(changes: Changes | None, annotation: Annotation | None) -> str:
    """What the last result changed, and how much is the user's."""
    yours = annotation.fixed_count if annotation else 0
    kept = f"{_pixels(yours)} painted by you, all kept." if yours else ""
    if changes is None:
        return kept or "Nothing painted yet."
    relabelled = f", {changes.relabelled:,} relabelled" if changes.relabelled else ""
    return f"+{changes.added:,} added, -{changes.removed:,} removed{relabelled}. {kept}".strip()


def slices(done: int, total: int, seconds: float | None = None) -> str:
    """How far a sweep is, and the seconds that are left where they are known."""
    left = "…" if seconds is None else f"{_seconds(seconds)} left"
    return f"{done} of {total}, {left}"


def swept(what: str, done: int, total: int) -> str:
    """How a sweep ended."""
    if what == "carry":
        return f"carried to {done}, then nothing changed" if done < total else f"carried to {done}"
    name = {"segment": "segmented", "refine": "refined"}[what]
    return f"{done} {name}" if done == total else f"{done} of {total} {name}"


def taken_back(slices: int, later: int) -> str:
    """What was put back."""
    kept = f" {later} changed since and stay as they are." if later else ""
    return f"{slices} slices are as they were before; your strokes stay.{kept}"


def offer(kept: SavedSession) -> str:
    """What a sidecar holds for this image."""
    masks = f" and {kept.accepted} accepted mask{'s' * (kept.accepted > 1)}"
    content = f"{_pixels(kept.strokes)} of strokes{masks if kept.accepted else ''}"
    return (
        f"Kept from {kept.saved}: {content}{f', in {_where(kept)}' if len(kept.shape) > 2 else ''}."
    )


def gone_on(kept: SavedSession) -> str:
    """What came back of a volume, and that the rest did not."""
    return f"Back: {_where(kept)}. Only painted or accepted slices are kept."


def _where(kept: SavedSession) -> str:
    """The slice of a volume in which something is kept, or how many there are."""
    if len(kept.slices) != 1:
        return f"{len(kept.slices)} slices"
    return "".join(f"slice {', '.join(str(at) for at in one if at >= 0)}" for one in kept.slices)


def _pixels(count: int) -> str:
    return f"{count:,} pixel{'s' * (count != 1)}"


def _seconds(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"


def _memory(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{max(count / 1e6, 1):.0f} MB"
