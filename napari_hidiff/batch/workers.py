"""How many processes a batch is worth on this machine."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch

from napari_hidiff.batch.jobs import Job
from napari_hidiff.batch.refine import held
from napari_hidiff.errors import InputError
from napari_hidiff.inference.denoiser import PIXELS_AT_ONCE, REMEMBERED, STANDING
from napari_hidiff.inference.estimate import Estimate
from napari_hidiff.io.images import read_image
from napari_hidiff.io.registry import is_volume, read

if TYPE_CHECKING:
    from napari_hidiff.inference.model import HiDiff

PROGRAM = 700 * 2**20
"""Bytes of a process with a small model loaded (docs/engine.md: 0.65 GB)."""
START = 15.0
"""Seconds of work that make the start of one more process worth while."""
TYPICAL = (1024, 1024)
"""Rows and columns assumed where the largest file cannot be read."""


def how_many(model: "HiDiff", jobs: Sequence[Job], settings: Mapping[str, Any]) -> int:
    """Processes for a batch: one per GPU, else what cores, memory and the work to do allow.

    The image of the largest file stands for all: its estimate, and what a model remembers of
    images, must fit into the memory that is free, once per process.
    """
    if model.device.type == "cuda":
        return max(1, min(torch.cuda.device_count(), len(jobs)))
    chosen = {name: settings[name] for name in ("sampler", "steps", "samples")}
    cost = _cost(model, max((job.image for job in jobs), key=_size), chosen)
    memory = psutil.virtual_memory().available // (PROGRAM + REMEMBERED + STANDING + cost.bytes)
    worth = int(cost.seconds * len(jobs) / START)
    return max(1, min(torch.get_num_threads(), len(jobs), memory, worth))


def _cost(model: "HiDiff", image: Path, chosen: Mapping[str, Any]) -> Estimate:
    """What refining a picture takes, or all slices of a volume, some of them at once."""
    try:
        if not is_volume(image):
            return model.estimate(read_image(image).shape, **chosen)
        array = read(image).array
    except InputError:
        return model.estimate(TYPICAL, **chosen)
    depth, height, width = array.shape[:3]
    together = max(1, min(depth, PIXELS_AT_ONCE // (height * width)))
    seconds = model.estimate((height, width), **chosen).seconds * depth
    peak = model.estimate((together * height, width), **chosen).bytes
    return Estimate(seconds, peak + held(array))


def _size(image: Path) -> int:
    """Bytes of a file, or of those in a folder."""
    files = image.iterdir() if image.is_dir() else [image]
    return sum(file.stat().st_size for file in files if file.is_file())
