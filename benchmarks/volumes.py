"""``python -m benchmarks.volumes``: slices of a volume refined in batches against one by one.

The volume is made of patches of the bundled sample; the model is ``chase-vessels``. Times are
processor seconds of one thread, so that other work on the machine does not count. Rounding differs
with the batch and can push single pixels over a threshold: how many of the mask is reported too.
"""

import json
import time
from typing import Annotated, Any

import numpy as np
import torch
import typer

from napari_hidiff import load_model
from napari_hidiff.cli.console import JsonOption, print_json
from napari_hidiff.inference import volumes
from napari_hidiff.inference.denoiser import PIXELS_AT_ONCE
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.io.images import sample


def patches(model: HiDiff, depth: int, side: int) -> np.ndarray:
    """A normalised volume float32 [depth, side, side, 3] of places in the sample."""
    image = model.intensity(sample()[0])
    rng = np.random.default_rng(0)
    corners = rng.integers(100, 860 - side, (depth, 2))
    return np.stack([image[y : y + side, x : x + side] for y, x in corners])


def measure(model: HiDiff, volume: np.ndarray, sampler: str) -> dict[str, Any]:
    """Seconds of both ways (the second of two runs) and the pixels in which their masks differ."""
    prior, masks, seconds = volumes.prior(model, volume), [], []
    for together in (PIXELS_AT_ONCE, 1):
        volumes.PIXELS_AT_ONCE = together
        for _ in range(2):
            start = time.process_time()
            refined = volumes.refine(model, volume, prior, sampling=model.sampling(sampler))
            spent = time.process_time() - start
        masks.append(model.mask_of(refined, axis=0))
        seconds.append(round(spent, 2))
    volumes.PIXELS_AT_ONCE = PIXELS_AT_ONCE
    differ = int((masks[0] != masks[1]).sum())
    return {"batches": seconds[0], "one by one": seconds[1], "pixels that differ": differ}


def main(
    depth: Annotated[int, typer.Option(help="Slices.")] = 40,
    side: Annotated[int, typer.Option(help="Pixels along each side of a slice.")] = 48,
    as_json: JsonOption = False,
) -> None:
    """Measure on the CPU of this machine."""
    torch.set_num_threads(1)
    model = load_model("chase-vessels", device="cpu")
    volume = patches(model, depth, side)
    found: dict[str, Any] = {"slices": depth, "side": side, "pixels": depth * side**2}
    found |= {sampler: measure(model, volume, sampler) for sampler in ("one-step", "ddim")}
    if as_json:
        print_json(found)
    else:
        print(json.dumps(found))


if __name__ == "__main__":
    typer.run(main)
