"""``python -m benchmarks.segmentors [NAME ...]``: size and speed of segmentors on the CPU.

Names are written as for ``napari-hidiff-train --segmentor``. Each untrained network segments one
RGB image of one foreground class. Seconds are those of the processor, not of the clock, and of the
fastest round, so that whatever else the machine does hardly counts.
"""

import time
from typing import Annotated, Any

import torch
import typer

from napari_hidiff.cli.console import JsonOption, print_json
from napari_hidiff.errors import InputError
from napari_hidiff.networks.segmentor_registry import build_segmentor, segmentor_options

NAMES = (
    "unet",
    "lite-unet",
    "flexible-unet",
    "flexible-unet/resnet34",
    "swin-unetr",
    "attention-unet",
    "segresnet",
    "smp:unet/mit_b0",
    "smp:segformer/mit_b0",
    "smp:unet/resnet18",
    "smp:fpn/resnet18",
    "smp:unet/tu-maxvit_pico_rw_256",
    "smp:unet/tu-maxvit_tiny_tf_224",
)


def measure(name: str, side: int, rounds: int) -> dict[str, Any]:
    """Parameters, padding and features of a segmentor, and processor seconds of a forward pass."""
    options = segmentor_options(name, trusted=True)
    segmentor = build_segmentor(channels=3, classes=1, **options).eval()
    image = torch.zeros(1, 3, side, side)
    seconds = []
    with torch.inference_mode():
        for _ in range(rounds):
            start = time.process_time()
            segmentor(image)
            seconds.append(time.process_time() - start)
    return {
        "parameters": sum(parameter.numel() for parameter in segmentor.parameters()),
        "multiple": segmentor.multiple,
        "features": list(segmentor.feature_channels),
        "seconds": min(seconds),
    }


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Segmentors; else a choice.")] = None,
    side: Annotated[int, typer.Option(help="Side of the image, pixels.")] = 256,
    rounds: Annotated[int, typer.Option(min=1, help="Timed forward passes of each.")] = 10,
    threads: Annotated[int, typer.Option(min=1, help="Threads of torch.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Measure on the CPU of this machine; what cannot be built says why."""
    torch.set_num_threads(threads)
    found: dict[str, dict[str, Any]] = {}
    for name in names or NAMES:
        try:
            found[name] = measure(name, side, rounds)
        except InputError as error:
            found[name] = {"reason": str(error)}
    if as_json:
        setting = {"side": side, "rounds": rounds, "threads": threads, "torch": torch.__version__}
        print_json(setting | {"segmentors": found})
        return
    for name, row in found.items():
        if "reason" in row:
            print(f"{name:32} {row['reason']}")
            continue
        print(
            f"{name:32} {row['parameters'] / 1e6:6.2f} M  {row['seconds']:7.3f} s  sides of "
            f"{row['multiple']:3} n  features {', '.join(map(str, row['features']))}"
        )


if __name__ == "__main__":
    typer.run(main)
