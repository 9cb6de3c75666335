"""Choices and settings of the widget: annotated functions that magicgui builds boxes from."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal
from weakref import WeakMethod

from magicgui import magicgui
from magicgui.widgets import FunctionGui

from napari_hidiff.annotation.refinement import CERTAIN, FIRM, Settings
from napari_hidiff.inference.card import Card

FROM_FILE = "from a file …"
"""The entry of the model box that opens a file dialog."""

NO_MODEL = "(none)"
"""The entry of the model box for work without one."""

MANAGE = "about models …"
"""The entry of the model box that opens the manager."""


EXPLAINED = {
    "one-step": "one-step: one pass, nothing random; the fastest.",
    "ddim": "ddim: a few steps, mean of several samples; steady.",
    "ancestral": "ancestral: every step drawn at random; the most varied.",
}


def choose(
    image: Annotated[Any, {"label": "Image", "tooltip": "The image layer to segment."}],
    model: Annotated[
        str | None,
        {
            "label": "Model",
            "tooltip": "A bundled model, or a .safetensors file made by napari-hidiff-train.",
        },
    ],
    prior: Annotated[
        Any,
        {
            "label": "Start from",
            "tooltip": "The model's own segmentation, or a Labels layer of yours to make better. "
            "Your layer is only read.",
        },
    ],
) -> None:
    """What to segment, with what, starting from what."""


def refine_by(
    sampler: Annotated[
        Literal["one-step", "ddim", "ancestral"],
        {"label": "Sampler", "tooltip": "\n".join(EXPLAINED.values())},
    ] = "ddim",
    steps: Annotated[
        int,
        {
            "label": "Steps",
            "min": 1,
            "max": 100,
            "tooltip": "More steps take longer; three are enough for most images.",
        },
    ] = 3,
    samples: Annotated[
        int,
        {
            "label": "Samples",
            "min": 1,
            "max": 64,
            "tooltip": "Masks drawn side by side and averaged; more are steadier and slower.",
        },
    ] = 5,
    seed: Annotated[
        int,
        {
            "label": "Seed",
            "min": 0,
            "max": 2**31 - 1,
            "tooltip": "The same seed gives the same mask; change it to see another one.",
        },
    ] = 0,
    certain: Annotated[
        bool,
        {
            "label": "Only where surer",
            "tooltip": "Re-refine changes a place only if the model is surer of it than before.",
        },
    ] = CERTAIN,
    firm: Annotated[
        bool,
        {
            "label": "Leave toss-ups",
            "tooltip": "Re-refine leaves a pixel where the new label is hardly more probable.",
        },
    ] = FIRM,
    resample: Annotated[
        bool,
        {
            "label": "Resample to the model's scale",
            "tooltip": "An image much larger or smaller than those that the model was trained on "
            "is resampled for it; the mask has the image's size. Turn it off for a cut-out.",
        },
    ] = True,
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"],
        {
            "label": "Device",
            "tooltip": "auto takes a graphics card if PyTorch finds one, else the processor.",
        },
    ] = "auto",
) -> Settings:
    """How to refine."""
    return Settings(sampler, steps, samples, seed, None if resample else 1.0, certain, firm)


def choose_box(images: Callable[[], Sequence[Any]], masks: Callable[[], Sequence[Any]]) -> Any:
    """The boxes of :func:`choose`, with objectNames; images and masks list the layers to offer.

    They are methods, and only referred to: typing remembers the options of magicgui's last boxes,
    and with them would keep closed widgets, their models and images.
    """
    listed = WeakMethod(images), WeakMethod(masks)

    def layers(which: int) -> list[tuple[str, Any]]:
        lister = listed[which]()
        return [] if lister is None else [(layer.name, layer) for layer in lister()]

    def image_layers(widget: Any) -> list[tuple[str, Any]]:
        return layers(0)

    def mask_layers(widget: Any) -> list[tuple[str, Any]]:
        return [("the model", None), *layers(1)]

    box: FunctionGui[..., None] = magicgui(
        choose,
        image={"widget_type": "ComboBox", "choices": image_layers},
        model={
            "widget_type": "ComboBox",
            "choices": [(NO_MODEL, None), FROM_FILE, MANAGE],
            "nullable": False,
        },
        prior={"widget_type": "ComboBox", "choices": mask_layers},
        call_button=False,
        labels=False,
    )
    return _named(box)


def settings_box() -> Any:
    """The boxes of :func:`refine_by`, with objectNames."""
    return _named(magicgui(refine_by, call_button=False, labels=False))


def adopt(settings: Any, card: Card, sampler: str | None = None) -> None:
    """Set the boxes of :func:`settings_box` to what a model's card recommends.

    sampler : what the user prefers to the card's.
    """
    with settings.changed.blocked():
        for name in ("sampler", "steps", "samples"):
            settings[name].value = card.defaults[name]
        if sampler is not None:
            settings.sampler.value = sampler
        settings.steps.max = card.diffusion.get("steps", 10)
    settings.changed.emit(settings)


def _named(box: Any) -> Any:
    for widget in box:
        widget.native.setObjectName(widget.name)
        widget.min_width = 60
    return box
