"""``python -m benchmarks.gpu``: what a GPU does of a step, a refinement, the masks, training.

    python -m benchmarks.gpu [--json] [--quick] [--parts step,refine,masks,training]
        [--device cuda] [--seconds 45] [--output FILE]

step      milliseconds of one step of the reverse process, random refiners of one class and four
          features, by width, side and number of samples: ``plain`` is the module as it is,
          ``eager`` reads tables of weights and time, ``graph`` is ``eager`` as one CUDA graph
          (what the program runs), ``bf16`` and ``bf16 graph`` are ``plain`` under autocast
refine    the bundled sample (999 x 960) with chase-vessels, from arrays to arrays: a fresh image,
          and again with other strokes; one-step, and ddim with 3 steps and 5 samples
masks     pixels in which the mask differs from the CPU's, and the largest deviation of sums in
          float16 from whole numbers (exact means 0)
training  images per second, see :mod:`benchmarks._gpu_training`

It runs from the source tree alone, with the tree on PYTHONPATH. Progress goes to stderr. What fails
is said in one line and left out. A part begins nothing new after ``--seconds``, 45 if not given,
so that all is done in less than four minutes; ``--quick`` measures fewer sizes.
"""

import argparse
import importlib.util
import itertools
import json
import os
import platform
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import torch

import napari_hidiff
from benchmarks._gpu_step import measure_step
from benchmarks._gpu_timing import Found, free, left_out, milliseconds, say
from napari_hidiff.engine.graphs import GraphRefiner
from napari_hidiff.engine.precision import TF32
from napari_hidiff.inference import denoiser
from napari_hidiff.inference.catalog import load_model
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.io.images import sample
from napari_hidiff.networks.blocks import Folded, Layer
from napari_hidiff.networks.tables import signs

WAYS = {"one-step": ("one-step", 1, 1), "ddim 3 x 5": ("ddim", 3, 5)}
NUMBERS = itertools.cycle(range(255))


def environment(device: torch.device) -> Found:
    """Machine and versions."""
    found: Found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "package": napari_hidiff.__version__,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(device),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "gpu": properties.name,
            "memory_gb": round(properties.total_memory / 1e9, 1),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return found


def strokes(size: tuple[int, int], number: int) -> np.ndarray:
    """A fixed map with a disc of vessel and one of background, elsewhere for every number."""
    fixed = np.full(size, -1, np.int8)
    row, column = 100 + 37 * number % (size[0] - 200), 100 + 61 * number % (size[1] - 200)
    fixed[row : row + 9, column : column + 9] = 1
    fixed[row + 40 : row + 49, column : column + 9] = 0
    return fixed


def bundled(device: torch.device | str, side: int | None) -> tuple[HiDiff, np.ndarray]:
    """The model on torch, and the sample, perhaps a crop of it."""
    return load_model("chase-vessels", str(device), engine="torch"), sample()[0][:side, :side]


def measure_refine(arguments: argparse.Namespace, device: torch.device) -> Found:
    model, image = bundled(device, arguments.crop)
    prior = model.prior(image, scale=1)
    seconds, found = (1 if arguments.quick else 2), Found()

    def run(way: str, number: int, fresh: bool, entropy: bool = False) -> object:
        sampler, steps, samples = WAYS[way]
        how: Found = {
            "sampler": sampler,
            "steps": steps,
            "samples": samples,
            "seed": number,
            "scale": 1,
        }
        seen = another(image) if fresh else image
        how |= {"prior": None if fresh else prior, "fixed": strokes(image.shape[:2], number)}
        return model.refine(seen, **how) if entropy else list(model.steps(seen, **how))

    for way in WAYS:
        for fresh in (True, False):
            name = f"{way}, {'fresh' if fresh else 'again'}"
            if left_out(arguments, found, name):
                continue
            found[name] = milliseconds(lambda n, w=way, f=fresh: run(w, n, f), device, seconds)
            say(f"refine {name}: {json.dumps(found[name])}")
    found["one-step, again, as Result"] = milliseconds(
        lambda n: run("one-step", n, False, True), device, seconds
    )
    found["segment"] = milliseconds(lambda n: model.prior(another(image), scale=1), device, seconds)
    found["note"], found["caches_bytes"] = model.backend.note, denoiser.remembered()
    steps = model.backend.pick().refiner
    if isinstance(steps, GraphRefiner):
        found |= {"graphs": len(steps), "graphs_bytes": steps.nbytes}
    say(f"refine {json.dumps(found)}")
    return found


def another(image: np.ndarray) -> np.ndarray:
    """The image with one pixel that no other has, so that nothing of it is in a cache."""
    fresh = image.copy()
    fresh[0, 0] = [1 + next(NUMBERS), 77, 77]
    return fresh


def measure_masks(arguments: argparse.Namespace, device: torch.device) -> Found:
    found: Found = {"exact": exactness(device)}
    say(f"masks {json.dumps(found)}")
    here, image = bundled("cpu", arguments.crop)
    fixed = strokes(image.shape[:2], 3)
    for way, (sampler, steps, samples) in WAYS.items():
        how: Found = {
            "sampler": sampler,
            "steps": steps,
            "samples": samples,
            "fixed": fixed,
            "scale": 1,
        }
        if left_out(arguments, found, way):
            continue
        expected = here.refine(image, **how)
        given = how | {"prior": here.prior(image, scale=1)}
        compared = {"": how, ", the CPU's prior": given, ", tf32": how}
        for name, arguments_of in compared.items():
            if left_out(arguments, found, way + name):
                continue
            os.environ[TF32] = "1" if name == ", tf32" else "0"
            there, _ = bundled(device, None)  # a graph keeps the precision of its capture
            got = there.refine(image, **arguments_of)
            differing = int((got.mask != expected.mask).sum())
            found[way + name] = {
                "pixels": differing,
                "of": expected.mask.size,
                "share": differing / expected.mask.size,
                "probability": float(np.abs(got.probability - expected.probability).max()),
            }
            say(f"masks {way}{name}: {json.dumps(found[way + name])}")
        os.environ[TF32] = "0"
    return found


def exactness(device: torch.device) -> list[Found]:
    """Sums of signs in float16 on the device against whole numbers, and how far they are."""
    rows = []
    generator = torch.Generator().manual_seed(0)
    for kernel, inputs, stride in (
        (3, 32, 1),
        (3, 128, 2),
        (3, 448, 1),
        (3, 1024, 1),
        (1, 1024, 1),
    ):
        for kind in ("random", "ones"):
            x = torch.rand(2, inputs, 40, 56, generator=generator) - (
                0.5 if kind == "random" else 0
            )
            weight = torch.rand(64, inputs, kernel, kernel, generator=generator)
            weight = weight - 0.5 if kind == "random" else weight
            expected = torch.nn.functional.conv2d(
                torch.where(x >= 0, 1.0, -1.0).double(),
                torch.where(weight >= 0, 1.0, -1.0).double(),
                stride=stride,
                padding=kernel // 2,
            )
            one = torch.ones((), dtype=torch.float16, device=device)
            zero = torch.zeros(inputs, 1, 1, device=device)
            parts, none = signs(weight.to(device), torch.float16), Folded(zero, zero, zero, zero)
            last = x.to(device).contiguous(memory_format=torch.channels_last)
            got = Layer(zero, parts, one, -one, none).sums(last, stride, kernel // 2)
            deviation = float((got.double().cpu() - expected).abs().max())
            row = {"kernel": kernel, "inputs": inputs, "stride": stride, "kind": kind}
            rows.append(row | {"parts": len(parts), "deviation": deviation})
    return rows


def measure_training(arguments: argparse.Namespace, device: torch.device) -> list[Found]:
    if importlib.util.find_spec("napari_hidiff.training") is None:
        # Installed, the folder training/ is napari_hidiff.training.
        napari_hidiff.__path__.append(str(Path(__file__).resolve().parent.parent))
    from benchmarks._gpu_training import measure

    seconds = 2 if arguments.quick else 4
    return measure(arguments.training, device, seconds, arguments.end, say)


PARTS = {
    "step": measure_step,
    "refine": measure_refine,
    "masks": measure_masks,
    "training": measure_training,
}


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="fewer sizes, fewer repetitions")
    parser.add_argument("--seconds", type=float, default=45, help="of each part, about")
    parser.add_argument("--widths", type=int, nargs="+")
    parser.add_argument("--sides", type=int, nargs="+")
    parser.add_argument("--samples", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--crop", type=int, help="side of a crop of the sample, for a look")
    parser.add_argument(
        "--training", type=int, nargs=3, default=[128, 256, 32], help="width, crop, batch"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("--output", type=Path, help="write the JSON here, after every part")
    arguments = parser.parse_args()
    arguments.widths = arguments.widths or ([128, 32] if arguments.quick else [128, 64, 32])
    arguments.sides = arguments.sides or ([256, 960] if arguments.quick else [256, 512, 960])
    return arguments


def main() -> None:
    arguments = parsed()
    device = torch.device(arguments.device)
    found: Found = {"command": "python -m benchmarks.gpu " + " ".join(sys.argv[1:])}
    found["environment"] = environment(device)
    say(json.dumps(found))
    for name in arguments.parts.split(","):
        start = time.perf_counter()
        arguments.end = start + arguments.seconds
        try:
            found[name] = PARTS[name](arguments, device)
        except Exception as error:  # the other parts are still worth something
            traceback.print_exc()
            found[name] = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        found.setdefault("seconds", {})[name] = round(time.perf_counter() - start, 1)
        say(f"{name}: {found['seconds'][name]} s")
        free(device)
        if arguments.output:
            arguments.output.write_text(json.dumps(found, indent=1) + "\n")
    if arguments.json:
        print(json.dumps(found, indent=1), flush=True)


if __name__ == "__main__":
    main()
