"""The bundled model on the bundled sample: what refinement does, as numbers and as a picture."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_hidiff.batch.jobs import describe
from napari_hidiff.inference.card import Label
from napari_hidiff.io.images import SAMPLE, sample
from napari_hidiff.io.write import write_labels
from napari_hidiff.scores import mean_dice

if TYPE_CHECKING:
    from napari_hidiff.diffusion.samplers import Step
    from napari_hidiff.inference.model import HiDiff

MODEL = "chase-vessels"


class Stage(NamedTuple):
    """One picture of the demo: a name, a mask uint8 ``[H, W]`` and its Dice with the truth."""

    name: str
    mask: np.ndarray
    dice: float


class Demo(NamedTuple):
    """image ``[H, W, C]``, truth uint8 ``[H, W]``, the prior, every step, the result."""

    image: np.ndarray
    truth: np.ndarray
    stages: list[Stage]
    record: dict[str, Any]


def run_demo(
    model: "HiDiff",
    settings: dict[str, Any],
    on_step: Callable[["Step"], None] = lambda step: None,
) -> Demo:
    """Segment the sample, refine it step by step, score every mask.

    settings: sampler, steps, samples (None = the model's card) and seed.  Raises InputError if the
    model cannot read the sample.
    """
    image, truth = sample()
    start = time.perf_counter()
    run = model.steps(image, **settings)

    def stage(name: str, mask: np.ndarray) -> Stage:
        return Stage(name, mask, mean_dice(mask, truth, model.labels))

    stages = [stage("prior", model.mask_of(model.prior(image)))]
    for step in run:
        stages.append(stage(f"step {step.index}", step.mask))
        on_step(step)
    stages.append(stages[-1]._replace(name="result"))
    record = describe(model, settings) | {
        "image": SAMPLE,
        "dice": {stage.name: round(stage.dice, 4) for stage in stages},
        "seconds": round(time.perf_counter() - start, 3),
    }
    return Demo(image, truth, stages, record)


def save_demo(demo: Demo, output: Path, classes: Sequence[Label]) -> dict[str, str]:
    """Write the picture and the mask into ``output``; returns their paths by name.

    classes: of the mask, background first.
    """
    from napari_hidiff.plot import save_stages

    paths = {"picture": output / "demo.png", "mask": output / f"{SAMPLE}_mask.png"}
    save_stages(paths["picture"], demo.image, demo.truth, demo.stages)
    write_labels(paths["mask"], demo.stages[-1].mask, classes)
    return {name: str(path) for name, path in paths.items()}
