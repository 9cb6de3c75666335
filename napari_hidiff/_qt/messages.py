"""The sentences of the widget that carry numbers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from napari_hidiff._qt import preferences
from napari_hidiff.annotation.entries import rater_of
from napari_hidiff.annotation.sidecar import SavedSession
from napari_hidiff.annotation.suggestions import TourProgress
from napari_hidiff.inference.card import Card
from napari_hidiff.masks import Changes, Index, Label
from napari_hidiff.sizes import Size

if TYPE_CHECKING:
    from napari_hidiff.annotation.refinement import Settings
    from napari_hidiff.engine.engine import Engine
    from napari_hidiff.inference.cost import Estimate

NAMED = 3
"""Classes that fit into one line."""

WORTH_SAYING = 2.0
"""Seconds; a run that takes less is not announced."""

TRAIN = "napari-hidiff-train"
WITHOUT_MODEL = "Next: paint the object, erase on the background, then Complete strokes."
UNDONE = "All slices are as they were before."
REJECTED = "The last result is undone; your strokes stay."
POINTED = "Next: paint a stroke inside the object, or draw a Box around it."
POINT = "Paint a stroke inside the object first, or draw a Box around it."
BRUSH = "Brush: all pixels under it."
SIMILAR_BRUSH = "Brush: only similar pixels."
DROPPED = "Dropped: the mask is as it was."


def no_model(installed: bool) -> str:
    """No model is chosen."""
    fits = "No installed model fits this image." if installed else "No model is installed."
    return f"{fits} Train one ({TRAIN}), or:"


def no_fit(name: str, problem: str) -> str:
    """The model cannot read the image."""
    return f"{name} does not fit: {problem}. Choose another model, or work without:"


def image_name(name: str | None) -> str:
    """Which image is worked on."""
    return f"Image: {name}" if name else "No image is open."


def no_mask(names: Sequence[str]) -> str:
    """Images that look like masks cannot be started from as they are."""
    if not names:
        return ""
    return f"{names[0]} is an image: right-click it, Convert to Labels, to start from it."


def find(card: Card | None) -> str:
    """The button that looks for what the model finds."""
    what = "" if card is None else f" {named(card)}"
    return f"Find{what}  [{preferences.key('segment')}]"


def missing(channels: Sequence[str]) -> str:
    """The model needs layers for these channels."""
    return f"Choose the layer of {', '.join(channels)} in Settings: the model reads all of them."


def fits(card: Card, doubts: Sequence[str] = (), scale: float = 1.0) -> str:
    """What the model finds in the image that it fits; or in what this image differs from those
    that it was trained on. scale : by which it is resampled for the model."""
    if doubts:
        return f"Look twice, unusual for {card.name}: {'; '.join(doubts)}. Expect poor masks."
    if card.prompted:
        known = "" if card.needs_prompt else "what you annotated before, and "
        return f"Fits any image. Finds {known}the object that you paint in or box."
    what, known, _ = card.summary.partition(" in ")  # "anterior" alone does not say of what
    several = known and len(card.classes) > 2
    finds = what[:1].lower() + what[1:] if several else named(card)
    resampled = "" if scale == 1 else f", resampled to {scale:.0%} for the model"
    return f"Fits this image{resampled}. Finds {finds}."


def unreadable(problem: str, small: bool) -> str:
    """No model whatever can work on the image."""
    cure = "Open a larger part of it" if small else "Open a copy without them"
    return f"No model can work on this: {problem}. {cure}."


def named(card: Card) -> str:
    """What a model finds."""
    names = [kind.name for kind in card.classes[1:]]
    if len(names) > NAMED:
        return f"{len(names)} classes"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def cost(estimate: "Estimate", runs: "Engine") -> str:
    """What a run will take, where that is worth to be known, and whether that will change."""
    if estimate.seconds < WORTH_SAYING:
        return ""
    text = f"A run takes about {_seconds(estimate.seconds)} and {_memory(estimate.bytes)}"
    return f"{text}, until fast kernels are ready." if runs.preparing else f"{text}."


def under_way(what: str, left: float | None) -> str:
    """What is under way, and the seconds that are left where that is worth to be known."""
    return what if left is None or left < WORTH_SAYING else f"{what}, {_seconds(left)} left"


def in_slice(what: str, index: Index) -> str:
    """What is done, and in which slice of a volume."""
    at = ", ".join(str(at) for at in index if at >= 0)
    return f"slice {at}: {what}" if at else what


def moment(step: int, total: int, shares: list[float] | None, where: str) -> str:
    """What the slider shows: the prior, a step, or one of the alternatives behind the steps."""
    if step == 0:
        name = "first mask"
    elif step < total or not shares or len(shares) < 2:
        name = f"step {step} of {total}"
    elif step == total:
        name = "mean of all samples"
    else:
        at = step - total
        where = "" if where == "outlined" else where  # one line is all there is room for
        name = f"alternative {at} of {len(shares)}, {shares[at - 1] * 100:.0f} % of samples"
    return f"{name}, {where}" if where else name


def stopped(moment: str) -> str:
    """The last step of a run that has more."""
    return f"{moment}; Run goes on"


def drawing(settings: "Settings") -> str:
    """What happens where alternatives are wanted and there are no samples yet."""
    return (
        f"Drawing {settings.samples} samples for other answers ({settings.sampler}, "
        f"{settings.passes} steps, seed {settings.seed}); the mask stays as it is."
    )


def tour(progress: TourProgress | None) -> str:
    """Where the tour of doubtful places is."""
    return "" if progress is None else f"{progress.visited} of {progress.total}"


def doubt(classes: Sequence[Label], probability: Sequence[float]) -> str:
    """What the model leans to, by the probabilities of its K classes: the one object that it knows,
    or else the likeliest class."""
    at = 1 if len(probability) == 1 else max(range(len(probability)), key=probability.__getitem__)
    share = probability[0] if len(probability) == 1 else probability[at]
    return f"{100 * share:.0f} % {classes[at].name}"


def agree(samples: int) -> str:
    """There is nothing to choose from."""
    return f"No other answer: all {samples} samples say much the same."


def unsaved(names: Sequence[str]) -> str:
    """The window is about to be closed, and masks would be lost."""
    return (
        f"Not saved: the mask of {', '.join(names)}. Strokes are not kept on disk either (see "
        "Preferences > HiDiff). Close all the same?"
    )


def steps_by(settings: "Settings") -> str:
    """What shows steps where the model's default is a single pass."""
    return (
        f"One pass is this model's default and has no steps: shown are {settings.passes} of "
        f"{settings.sampler}, {settings.samples} samples."
    )


def counts(changes: Changes | None, yours: int) -> str:
    """What the last result changed, and how many pixels are the user's."""
    mine = f"{yours:,} yours" if yours else ""
    if changes is None:
        return mine
    relabelled = f", {changes.relabelled:,} relabelled" if changes.relabelled else ""
    changed = f"+{changes.added:,} -{changes.removed:,} pixels{relabelled}"
    if not (changes.added or changes.removed or changes.relabelled):
        changed = "Nothing else changed"
    return ", ".join(filter(None, (changed, mine)))


def next_step(
    image: bool,
    busy: bool,
    problem: str | None,
    without_model: bool,
    prompted: bool,
    begun: bool,
    painted: bool,
    at_once: bool,
    done: bool,
    doubt: str | None,
    queue: bool = False,
) -> str:
    """What to do next.

    image : whether there is one. busy : whether work is under way. problem : why the model cannot
    run; without_model : whether strokes alone can do it. prompted : whether the model finds what
    it is pointed at. begun : whether there is a mask. painted : whether strokes wait for an
    update; at_once : which follows by itself. done : whether the mask is final. doubt : what the
    model leans to at the marked place, None = no place is marked. queue : whether the image is one
    of a folder that are annotated one after another.
    """
    save = "Next image" if queue else "Save mask"
    if not image:
        return "Next: open an image, or press Open a sample."
    if busy:
        return "Working. You can paint meanwhile: what you paint stays."
    if problem is not None:
        return WITHOUT_MODEL if without_model else "Next: see the lines on top."
    if not begun:
        return POINTED if prompted else "Next: press Find."
    if doubt is not None:
        return f"Unsure in the ring: {doubt}. Paint or erase there if you know better."
    if painted and not at_once:
        return "Next: press Update, or paint more."
    if done:
        return (
            "Next: press Next image."
            if queue
            else "Next: Save mask, or go to another slice or image."
        )
    other = "New object, or " if prompted else ""
    return f"Next: paint what is missing, erase what is wrong; then {other}{save}."


def slices(done: int, total: int, seconds: float | None = None) -> str:
    """How far a pass over slices is, and the seconds that are left where they are known."""
    left = "…" if seconds is None else f"{_seconds(seconds)} left"
    return f"{done} of {total}, {left}"


def swept(what: str, done: int, total: int) -> str:
    """How a pass over slices ended."""
    if what == "carry":
        return f"Carried to {_slices(done)}" if done else "No neighbour needed a change"
    name = {"segment": "First mask in", "refine": "Updated", "fill": "Filled"}[what]
    return f"{name} {_slices(done)}" if done == total else f"{name} {done} of {total} slices"


def taken_back(slices: int, later: int) -> str:
    """What was put back."""
    kept = f" {later} changed since and stay as they are." if later else ""
    return f"{_slices(slices)} as before; your strokes stay.{kept}"


def offer(kept: SavedSession) -> str:
    """What a sidecar holds for this image."""
    parts = []
    if kept.strokes:
        parts.append(f"{_pixels(kept.strokes)} of strokes")
    if kept.masks:
        parts.append("a mask" if len(kept.shape) == 2 else f"masks of {_slices(kept.masks)}")
    by = rater_of(kept.log)
    when = f"{kept.saved}, by {by}" if by else kept.saved
    return f"Kept from {when}: {' and '.join(parts) or 'nothing but a log'}."


def sizes(name: str, found: Sequence[Size], most: int) -> str:
    """What a table of sizes is about; most : rows that it shows."""
    if not found:
        return f"The mask of {name} is empty."
    parts = [f"The mask of {name}."]
    if not found[0].unit:
        parts.append("The image says no pixel size in mm, so only pixels are counted.")
    if len(found) > most:
        parts.append(f"{most} of {len(found):,} rows are shown; the file has all.")
    return " ".join(parts)


def queue(done: int, total: int) -> str:
    """How many images of a folder are done, and how to go on."""
    key = preferences.key("next_image")
    rest = "All are done." if done == total else f"Next image [{key}] saves and goes on."
    return f"{done:,} of {total:,} done. {rest}"


def drafts(made: int, left: int, total: int, why: str) -> str:
    """How far drafts are; left : images that get none, and why the last of them."""
    rest = f", {left:,} left ({why})" if left else ""
    return f"Drafts: {made:,} of {total:,} made{rest}."


def no_drafts(name: str) -> str:
    """The chosen model makes no drafts."""
    return f"{name} makes no drafts: it finds what it is pointed at."


def own_offer(done: int) -> str:
    """So many images are done: a segmentor of one's own can be trained."""
    return f"{done} images are done. A network can learn from them: minutes, beside your work."


def own_training(share: float) -> str:
    """How far a training is."""
    return f"Learning from the done images: {share:.0%}. You can go on working."


def own_result(report: Mapping[str, Any]) -> str:
    """What a training was worth on the images held out (``Tuning.report``)."""
    if report["mean"] is None:
        return f"Trained, but not used: {report['note']}."
    before, after = (list(report["mean"][when].values())[-1] for when in ("before", "after"))
    count = len(report["cases"])
    each = " a slice" if any(row["slices"] > 1 for row in report["cases"]) else ""
    scores = f"Dice after 3 strokes{each} on {count} held-out image{'s' * (count != 1)}"
    if report["better"]:
        return f"Better than none: {scores} {before:.2f} before, {after:.2f} now. Press Find."
    return f"Not better than none, so it is not used: {scores} {before:.2f} without, {after:.2f}."


def queue_over(done: int, total: int) -> str:
    """There is no image to go to."""
    if done == total:
        return f"All {total:,} images are done."
    return "No other image is left that can be opened and is not done."


def _slices(count: int) -> str:
    return f"{count} slice{'s' * (count != 1)}"


def _pixels(count: int) -> str:
    return f"{count:,} pixel{'s' * (count != 1)}"


def _seconds(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"


def _memory(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{max(count / 1e6, 1):.0f} MB"
