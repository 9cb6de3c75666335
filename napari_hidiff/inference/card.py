"""The card of a model: what it is, what it expects, how it is built, how it scored.

:class:`Card` is the JSON metadata of a model file. :func:`card_rows` and :func:`card_scores` show
it in words, for ``napari-hidiff models`` and the window. :func:`versions` lists the software that a
number depends on. :class:`Sampling` and :class:`LocalRegion` are the settings of a refinement.
"""

import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import numpy as np

from napari_hidiff.errors import InputError
from napari_hidiff.masks import Label

SAMPLERS = ("one-step", "ddim", "ancestral")
"""Names of the samplers (:mod:`napari_hidiff.diffusion.samplers`)."""
FORMAT = 1
LOCAL = {"reach": 48, "fade": 16}
"""Pixels around a stroke with full weight of a local refinement, and pixels of its fade."""
CLEARLY = 1.5
"""Factor between the scales of an image and of the training images from which it is resampled."""
LARGEST_SCALE = 16.0
"""Most that an image is enlarged."""
MEASURES = {"dice": "Dice", "iou": "IoU", "recall": "recall", "nsd": "NSD", "hd95": "HD95"}
"""The scores of a card that are shown, with their names."""
MASKS = {"prior": "prior", "refined": "refined", "second_observer": "second observer"}
RULES = {
    "standardize": "mean 0, deviation 1 per channel; bit depth, gain and offset do not matter",
    "zscore": "mean 0, deviation 1 of what is not 0, which stays 0",
}
PACKAGES = ("napari-hidiff", "torch", "monai", "numpy")


class LocalRegion(NamedTuple):
    """The region of a local refinement: the surroundings of some pixels.

    where : bool [H, W], the painted pixels. standing : float32 [K, H, W], the probability behind
    the current mask, which stays everywhere else and which the new one fades into.
    """

    where: np.ndarray
    standing: np.ndarray


@dataclass(frozen=True)
class Sampling:
    """The sampling of a mask; :meth:`HiDiff.sampling` checks it and fills in the card's defaults.

    sampler : one of :data:`SAMPLERS`. steps : 1..T, and samples : masks drawn, at least 1; the
    one-step sampler ignores both and takes one of each. seed : of the noise.
    scale : factor by which an image is resampled for the model, 1 = not at all; None = by the card
    (:meth:`Card.scale`).
    """

    sampler: str
    steps: int
    samples: int
    seed: int = 0
    scale: float | None = None

    @property
    def passes(self) -> int:
        """Number of denoising passes, which is the number of steps shown."""
        return 1 if self.sampler == "one-step" else self.steps

    @property
    def drawing(self) -> dict[str, Any]:
        """The keyword arguments of :func:`samplers.stream`: all but the scale."""
        return {name: value for name, value in asdict(self).items() if name != "scale"}


@dataclass(frozen=True)
class Card:
    """Stored as JSON in the metadata of a model file; every field is plain data.

    classes : one :class:`Label` per label value, background first.
    channels : names of the image's channels, in order.
    segmentor, refiner, diffusion : keyword arguments of ``build_segmentor``, ``Refiner`` and
        ``diffusion.process_of``.
    defaults : default sampler, steps and samples of a refinement.
    intensity : keyword arguments of ``preprocessing.Intensity``, the normalisation of grey values.
    soften : sigma (pixels) and confidence of the rule that turns a hard mask into a prior.
    local : how far a local refinement reaches, see :data:`LOCAL`; ``fade`` is at least 1.
    scores : measured results; training : recipe, command, seeds; versions : of the software.
    spacing : physical size of a training pixel in mm, (y, x) or (z, y, x); None for images without
        one.
    prompted : whether the refiner was trained on objects of any kind, from a prompt (a stroke, a
        box, a mask); see :attr:`needs_prompt`.
    longest_side : longer side in pixels that training images were scaled to; 0 = not scaled, see
        :attr:`trained_side`.
    looks : statistics of the training images (:func:`ood.image_statistics`); empty on older cards.
    slices : neighbouring slices of a volume that the networks see together as channels to find
        the middle one, an odd number; 1 = every slice alone. See :attr:`inputs`.
    """

    name: str
    classes: tuple[Label, ...]
    channels: tuple[str, ...]
    summary: str = ""
    dataset: str = ""
    licence: str = ""
    attribution: str = ""
    spacing: tuple[float, ...] | None = None
    intensity: dict[str, Any] = field(default_factory=lambda: {"rule": "standardize"})
    segmentor: dict[str, Any] = field(default_factory=lambda: {"name": "unet"})
    refiner: dict[str, Any] = field(default_factory=dict)
    diffusion: dict[str, Any] = field(default_factory=dict)
    defaults: dict[str, Any] = field(
        default_factory=lambda: {"sampler": "ddim", "steps": 3, "samples": 5}
    )
    soften: dict[str, float] = field(default_factory=lambda: {"sigma": 1.0, "confidence": 0.9})
    local: dict[str, int] = field(default_factory=lambda: dict(LOCAL))
    scores: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    looks: dict[str, Any] = field(default_factory=dict)
    prompted: bool = False
    longest_side: int = 0
    slices: int = 1

    @property
    def inputs(self) -> int:
        """Channels that the networks read: those of every slice that they see together."""
        return len(self.channels) * self.slices

    @property
    def outputs(self) -> int:
        """K, the channels of the network's mask: 1 for one foreground class."""
        return 1 if len(self.classes) == 2 else len(self.classes)

    @property
    def needs_prompt(self) -> bool:
        """Whether the model finds nothing before it is told where: it is ``prompted``, and no
        segmentor of the user's own makes its prior."""
        return self.prompted and self.segmentor.get("name") != "own"

    @property
    def hypotheses(self) -> int:
        """N, the masks that the refiner proposes beside its answer."""
        return int(self.refiner.get("hypotheses", 0))

    @property
    def trained_side(self) -> int:
        """Longer side in pixels of an image at the training scale; 0 = images stay as they are.

        It is ``longest_side``; else the middle of the longer sides of the training images, if they
        were pictures (a rule for MRI and CT has no fields of view in common) that differed by less
        than :data:`CLEARLY`.
        """
        if self.prompted or self.spacing is not None:
            return 0
        if self.longest_side:
            return self.longest_side
        if "size" not in self.looks or self.intensity.get("rule", "standardize") != "standardize":
            return 0
        low, high = (max(size) for size in self.looks["size"])
        return round((low * high) ** 0.5) if high <= CLEARLY * low else 0

    def scale(self, size: Sequence[int], spacing: Sequence[float] | None = None) -> float:
        """Factor from the pixels of an image to those of the training images.

        size : (H, W). spacing : of the image in mm, (y, x); None = unknown. Where the card has a
        spacing, that decides, else :attr:`trained_side`. 1 where the scales differ by less than
        :data:`CLEARLY`, or one of them is unknown.
        """
        factor = 1.0
        if self.spacing is not None and spacing is not None and not self.prompted:
            mine, other = (float(np.prod(sides[-2:])) ** 0.5 for sides in (self.spacing, spacing))
            factor = other / mine
        elif self.trained_side:
            factor = self.trained_side / max(size)
        clear = not 1 / CLEARLY <= factor <= CLEARLY
        return min(factor, LARGEST_SCALE) if clear else 1.0

    def to_json(self) -> str:
        """The card as one JSON object, with the version of its format."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Card":
        """The inverse of :meth:`to_json`; InputError if the text is no card of this format."""
        try:
            values = json.loads(text)
            if values.pop("format") != FORMAT:
                raise InputError("the model was written by another version of napari-hidiff")
            values["classes"] = tuple(Label(**label) for label in values["classes"])
            values["channels"] = tuple(values["channels"])
            return cls(**values)
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise InputError(f"the model's card cannot be read ({error})") from error


Fact = tuple[str, str]
"""A heading and a line."""


def card_rows(card: Card) -> Iterator[Fact]:
    """The facts for choosing a model, in order; empty ones are left out.

    For classes and scores see ``card.classes`` and :func:`card_scores`.
    """
    lines = {
        "Finds": card.summary,
        "Channels": ", ".join(card.channels),
        "Slices": f"{card.slices} neighbouring slices of a volume at a time, to find the middle one"
        if card.slices > 1
        else "",
        "Image size": _size(card),
        "Scale": _scale(card),
        "Spacing": " x ".join(f"{side:g}" for side in card.spacing) if card.spacing else "",
        "Intensity": _intensity(card),
        "Data": card.dataset,
        "Licence": card.licence,
        "Attribution": card.attribution,
        "Threshold": _threshold(card),
        "Trained": _training(card),
        "Recommends": f"{card.defaults['sampler']}, {card.defaults['steps']} steps, "
        f"{card.defaults['samples']} samples"
        if card.defaults["sampler"] != "one-step"
        else "one-step",
        "Command": str(card.training.get("command", "")),
        "Note": str(card.training.get("note", "")),
        "Versions": ", ".join(f"{name} {version}" for name, version in card.versions.items()),
    }
    return ((name, line) for name, line in lines.items() if line)


def card_scores(card: Card) -> tuple[str, list[list[str]]]:
    """The data behind the scores, and a table: column names, then a row per mask.

    Both are empty without measured scores.
    """
    if strokes := card.scores.get("prompted"):
        return _prompted_scores(strokes)
    means = card.scores.get("mean") or {}
    held_out = card.training.get("held_out", {}).get("mean")
    if not means and held_out:
        rows = [["mask", "before", "after"]]
        for name in held_out["after"]:
            rows.append([name, *(f"{held_out[when][name]:.3f}" for when in ("before", "after"))])
        count = len(card.training["held_out"]["cases"])
        return f"Dice on {count} held-out corrections, before and after the fine-tuning", rows
    measured = [key for key in MEASURES if all(key in means.get(name, {}) for name in means)]
    if not means or not measured:
        return "", []
    unit = card.scores.get("surface", {}).get("unit", "pixels")
    names = [MEASURES[key] + (f" ({unit})" if key == "hd95" else "") for key in measured]
    rows = [["mask", *names]]
    for key, name in MASKS.items():
        if key in means:
            rows.append([name, *(_number(means[key][measure]) for measure in measured)])
    about = f"{card.scores.get('n', '?')} cases of {card.scores.get('dataset', '?')}"
    return f"{about}, split {card.scores.get('split', '?')}", rows


def _prompted_scores(found: list[dict[str, Any]]) -> tuple[str, list[list[str]]]:
    """Dice of a prompted model after 1, 2, 3, 5, 10 strokes, a row per set it never saw."""
    shown = [n for n in (1, 2, 3, 5, 10) if all(n <= len(row["dice"]) for row in found)]
    rows = [["set", "objects", "strokes", *(f"after {n}" for n in shown)]]
    for row in found:
        dice = [_number(row["dice"][n - 1]) for n in shown]
        rows.append([row["set"], str(row["n"]), row["strokes"], *dice])
    return "Dice on sets that were not trained on, from an empty mask, by strokes", rows


def file_size(count: int) -> str:
    """A number of bytes as text with a unit."""
    return f"{count / 1e6:.1f} MB"


def _number(value: Any) -> str:
    if not isinstance(value, int | float):
        return "-"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.1f}"


def _size(card: Card) -> str:
    if card.prompted:
        return f"any; it looks at a window of {card.longest_side} pixels around the prompt"
    if "size" not in card.looks:
        return "not noted on this card"
    (low_h, low_w), (high_h, high_w) = card.looks["size"]
    text = f"{_span(low_h, high_h)} x {_span(low_w, high_w)} pixels in training"
    longest = card.training.get("recipe", {}).get("longest_side")
    return f"{text}, shrunk to {longest}" if longest else text


def _scale(card: Card) -> str:
    """What happens to images of another scale."""
    if card.prompted:
        return ""
    if card.spacing is not None:
        return f"images of other spacing ({CLEARLY:g} times or more) are resampled to this one"
    if card.trained_side:
        return (
            f"images {CLEARLY:g} times larger or smaller are resampled to a longer side of "
            f"{card.trained_side} pixels"
        )
    return "images stay as they are"


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"


def _intensity(card: Card) -> str:
    rule = card.intensity.get("rule", "standardize")
    if rule == "window":
        return f"values {card.intensity['low']:g} to {card.intensity['high']:g}, the rest clipped"
    text: str = RULES.get(rule, rule)
    return text


def _threshold(card: Card) -> str:
    """Where masks are cut from the networks' probabilities, if elsewhere than at 1/2."""
    parts = {"segmentor": card.segmentor, "refiner": card.refiner}
    found = [f"{own['threshold']:g} of the {p}" for p, own in parts.items() if "threshold" in own]
    return f"{', '.join(found)}, best in validation; shown as 0.5" if found else ""


def _training(card: Card) -> str:
    cases = card.training.get("cases", {})
    count, chosen = len(cases.get("train", ())), len(cases.get("val", ()))
    origin = card.training.get("from")
    if origin:
        held = f", {chosen} held out" if chosen else ""
        return f"fine-tuned from {origin['name']} on {count} more images{held}"
    return f"on {count} cases, chosen on {chosen}" if count else ""


def versions() -> dict[str, str]:
    """``{package: version}`` of Python and of the packages that a result depends on."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    """The version; ``unknown`` for a package that is not installed or runs from its sources."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
