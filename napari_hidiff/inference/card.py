"""The card of a model: what it is, what it expects, how it is built, how it scored."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from napari_hidiff.errors import InputError

FORMAT = 1
LOCAL = {"reach": 48, "fade": 16}
"""Pixels around a stroke that a local refinement decides alone, and over which it then fades."""


@dataclass(frozen=True)
class Label:
    """One label value of a mask: its name and its colour ``#rrggbb``."""

    name: str
    color: str


@dataclass(frozen=True)
class Card:
    """Stored as JSON in the metadata of a model file; every field is plain data.

    classes : one :class:`Label` per label value, background first.
    channels : names of the image's channels, in order.
    segmentor, refiner, diffusion : keyword arguments of ``build_segmentor``, ``Refiner`` and
        ``diffusion.process_of``.
    defaults : sampler, steps and samples that refinement uses unless told otherwise.
    intensity : keyword arguments of ``preprocess.Intensity``, how grey values are normalised.
    soften : sigma (pixels) and confidence of the rule that turns a hard mask into a prior.
    local : how far a local refinement reaches, see :data:`LOCAL`; ``fade`` is at least 1.
    scores : measured results; training : recipe, command, seeds; versions : of the software.
    spacing : physical size of a training pixel, or None where the images have none.
    prompted : whether the model waits for a prompt (a stroke, a box, a mask) before it answers: it
        was trained on objects of any kind, and its own prior is 1/2 everywhere.
    longest_side : pixels of the longer side that training images were brought to; 0 where they
        kept their own size.
    looks : what training images look like (:func:`looks.looks_of`); empty on older cards.
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

    @property
    def outputs(self) -> int:
        """K, the channels of the network's mask: 1 for one foreground class."""
        return 1 if len(self.classes) == 2 else len(self.classes)

    @property
    def hypotheses(self) -> int:
        """N, the masks that the refiner offers beside its answer."""
        return int(self.refiner.get("hypotheses", 0))

    def to_json(self) -> str:
        """The card as one JSON object, with the version of its format."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Card":
        """The inverse of :meth:`to_json`; InputError when the text is no card of this format."""
        try:
            values = json.loads(text)
            if values.pop("format") != FORMAT:
                raise InputError("the model was written by another version of napari-hidiff")
            values["classes"] = tuple(Label(**label) for label in values["classes"])
            values["channels"] = tuple(values["channels"])
            return cls(**values)
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise InputError(f"the model's card cannot be read ({error})") from error
