"""``python -m benchmarks.engines``: do packed kernels and torch give the same masks?

Every test image of a data set is refined on both engines, from the same seed. The kernels round as
torch does, so that every sign in the network is the same; what may differ is the last rounding of
the output convolution.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from napari_hidiff import load_model
from napari_hidiff.cli.console import JsonOption, print_json
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.training.datasets import open_dataset

RUNS = {"one-step": {"sampler": "one-step"}, "ddim": {"sampler": "ddim", "steps": 3, "samples": 1}}


def compare(
    models: list[HiDiff], image: np.ndarray, settings: dict[str, object]
) -> dict[str, float]:
    """How far two engines are apart on one image: probability (absolute) and mask (share)."""
    one, other = (model.refine(image, seed=0, **settings) for model in models)  # type: ignore[arg-type]
    assert (one.engine, other.engine) == ("packed", "torch")
    difference = np.abs(one.probability - other.probability)
    return {
        "mean": float(difference.mean()),
        "max": float(difference.max()),
        "within_0.01": float((difference <= 0.01).mean()),
        "same_mask": float((one.mask == other.mask).mean()),
    }


def main(
    model: Annotated[str, typer.Option(help="A bundled model or a file.")] = "chase-vessels",
    dataset: Annotated[str, typer.Option(help="Name of the data set.")] = "chase",
    data: Annotated[Path | None, typer.Option(help="Its folder.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure on the CPU."""
    opened = open_dataset(dataset, data)
    models = [load_model(model, "cpu", engine) for engine in ("packed", "torch")]
    images = []
    for case in opened.split("test"):
        image = opened.load(case).image
        images.append(
            {"id": case.id, **{name: compare(models, image, run) for name, run in RUNS.items()}}
        )
    worst = {
        name: {
            "mean": max(row[name]["mean"] for row in images),
            "max": max(row[name]["max"] for row in images),
            "within_0.01": min(row[name]["within_0.01"] for row in images),
            "same_mask": min(row[name]["same_mask"] for row in images),
        }
        for name in RUNS
    }
    found = {"model": model, "dataset": dataset, "split": "test", "worst": worst, "images": images}
    if as_json:
        print_json(found)
    else:
        for name, row in worst.items():
            print(
                f"{name}, {len(images)} images: "
                + ", ".join(f"{k} {v:.3g}" for k, v in row.items())
            )


if __name__ == "__main__":
    typer.run(main)
