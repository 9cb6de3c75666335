"""``python -m benchmarks.refiner_step``: the packed engine against torch, step by step.

One step of the reverse process of a random binary refiner (one class, one sample, four features of
a segmentor), a table of single blocks, and a whole inference with its segmentor. All variants take
turns in one process, so that whatever else the machine does meets them alike:

packed   our kernels
clean    the network as an engineer writes it for inference in eager torch: fp32, channels last,
         weights binarised beforehand, BatchNorm modules, no straight-through arithmetic
torch    our own torch engine, which gives the same signs as the packed one
bf16     ``clean`` under bfloat16 autocast
compile  ``clean`` under torch.compile (``--compile``: it takes a minute or more to compile)

A step is timed "cached" (what depends on image, prior and edits alone is there already, as in the
program) and "uncached" (it is computed again in every step). Times are milliseconds of processor
time of one thread; with ``--threads 2`` or more they are the clock on the wall. Ratios are of
medians, how many times longer a variant takes than ``packed``.

Two options measure in a process of its own, and nothing else: ``--portable`` with our kernels made
for a processor without AVX-512, while torch keeps it; ``--pooled`` with glibc told to keep freed
memory. By default glibc gives tensors of 32 MiB and more back and asks for fresh pages again, for
which eager torch pays a quarter of its time at width 128 and 256 x 256, and the packed engine,
which keeps its arrays, nothing. (torch.compile can leave a heap behind that works as pooled.)

With ``--output`` the JSON is merged into the file, so that a long table may be made in parts.
"""

import copy
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks._packed import (
    AVX2,
    POOLED,
    CleanConv2d,
    Scene,
    clean_twin,
    digits,
    interleaved,
    lively,
    machine,
    make_refiner,
    make_scene,
    numbers,
    print_table,
    ratios,
    untrained,
    write,
)
from napari_hidiff.console import JsonOption, print_json
from napari_hidiff.engine import Engine
from napari_hidiff.network import Refiner, probabilities
from napari_hidiff.network.binary import BinaryConv2d
from napari_hidiff.network.blocks import Block, TimeEmbedding
from napari_hidiff.packed import compile_refiner
from napari_hidiff.packed.layers import Layer, Signs, embed_times, pack
from napari_hidiff.packed.memory import Memory

VARIANTS = ("packed", "clean", "torch", "bf16")
CLOSE = 1e-6
"""The clean twin may differ from ours by this mean of the probability in float64, or it is another
network. In float32 it rounds otherwise, and one sign that differs is carried a long way."""
TIME = 5
"""The time that is denoised, of 1..10."""


class Shape(NamedTuple):
    """A block at the sides of its input. ``joined``: the input is two tensors, as after a skip."""

    inputs: int
    outputs: int
    side: int
    stride: int = 1
    joined: bool = False

    @property
    def name(self) -> str:
        """As a row of the table."""
        what = " joined" if self.joined else f" stride {self.stride}"
        return f"{self.inputs}->{self.outputs} at {self.side}{what}"


SHAPES = (
    Shape(32, 32, 256),
    Shape(64, 64, 256),
    Shape(128, 128, 256),
    Shape(128, 128, 128),
    Shape(256, 256, 64),
    Shape(512, 512, 16),
    Shape(256, 128, 256, joined=True),
    Shape(64, 64, 256, stride=2),
    Shape(128, 128, 256, stride=2),
    Shape(128, 256, 128, stride=2),
    Shape(256, 512, 32, stride=2),
)


def step_variants(
    refiner: Refiner, scene: Scene, wanted: list[str]
) -> dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor]]]:
    """Cached and uncached step of every variant; each returns logits [1, 1, H, W]."""
    twin = clean_twin(refiner)
    engines: dict[str, Any] = {"torch": refiner, "clean": twin, "bf16": twin}
    if "packed" in wanted:
        engines["packed"] = compile_refiner(refiner)
    if "compile" in wanted:
        engines["compile"] = torch.compile(twin, dynamic=False)

    def pair(name: str) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
        engine, time = engines[name], torch.tensor(TIME)
        source = twin if name == "compile" else engine
        half = torch.autocast("cpu", torch.bfloat16, enabled=name == "bf16")
        with torch.inference_mode(), half:
            known = source.condition(*scene.given)

        def cached() -> Tensor:
            with torch.inference_mode(), half:
                return engine(scene.y_t, time, known)

        def uncached() -> Tensor:
            with torch.inference_mode(), half:
                return engine(scene.y_t, time, source.condition(*scene.given))

        return cached, uncached

    return {name: pair(name) for name in wanted}


def measure_step(
    width: int, stem: int, side: int, wanted: list[str], rounds: int, threads: int
) -> dict[str, Any]:
    """One configuration: times with and without cache, ratios, agreement, size of the network."""
    refiner, scene = make_refiner(width, stem), make_scene(side)
    variants = step_variants(refiner, scene, wanted)
    found: dict[str, Any] = {"network": size_of(refiner, scene), "differs": {}}
    if set(wanted) - {"packed", "torch"}:
        found["clean_differs_in_float64"] = check_twin(refiner)
    expected = probabilities(variants[wanted[0]][0]())
    for name in wanted[1:]:
        difference = (probabilities(variants[name][0]().float()) - expected).abs().mean()
        found["differs"][name] = digits(float(difference), 2)
    for n, kind in enumerate(("cached", "uncached")):
        times = interleaved({name: pair[n] for name, pair in variants.items()}, rounds, threads)
        found[kind] = times | ({"ratios": ratios(times, "packed")} if "packed" in times else {})
    return found


@torch.inference_mode()
def check_twin(refiner: Refiner, side: int = 64) -> float:
    """The mean difference of the probability between refiner and clean twin, both in float64."""
    double, scene = copy.deepcopy(refiner).double(), make_scene(side)
    image, prior, fixed, features = scene.given
    given = image.double(), prior.double(), fixed, [feature.double() for feature in features]
    ours, theirs = (
        probabilities(network(scene.y_t.double(), TIME, network.condition(*given)))
        for network in (double, clean_twin(double))
    )
    difference = float((ours - theirs).abs().mean())
    if difference > CLOSE:
        raise RuntimeError(f"the clean twin computes something else: {difference:.1e} on average")
    return digits(difference, 2)


def size_of(refiner: Refiner, scene: Scene) -> dict[str, Any]:
    """Binary convolutions of a step, and billions of multiplications of its convolutions: binary,
    real in a step, and real once per image; counted on the shapes that a forward sees."""
    twin = clean_twin(refiner)
    work = {CleanConv2d: [0, 0], nn.Conv2d: [0, 0]}

    def count(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        tally = work[type(module)]
        tally[0] += 1
        tally[1] += weight.numel() * out.shape[-2] * out.shape[-1]

    for module in twin.modules():
        if type(module) in work:
            module.register_forward_hook(count)
    blank = twin.to("meta")
    image, prior, fixed, features = scene.given
    known = blank.condition(
        *(x.to("meta") for x in (image, prior, fixed)), [x.to("meta") for x in features]
    )
    once = work[nn.Conv2d][1]
    blank(scene.y_t.to("meta"), TIME, known)
    spots = known.static.shape[-2] * known.static.shape[-1]
    moving, entry = refiner.moving_weight.numel(), refiner.entry.weight.numel()
    return {
        "binary_convolutions": work[CleanConv2d][0],
        "binary_gmac": digits(work[CleanConv2d][1] / 1e9),
        "real_gmac_per_step": digits((work[nn.Conv2d][1] - once + moving * spots) / 1e9),
        "real_gmac_per_image": digits((once + (entry - moving) * spots) / 1e9),
    }


class BlockCase:
    """A block at work: ours on bits (it also writes the bits of the next), torch's on floats.

    As in the packed program the result takes the place of the block's input where it fits.
    """

    def __init__(self, shape: Shape) -> None:
        torch.manual_seed(0)
        self.shape = shape
        parts = 2 if shape.joined else 1
        block = Block(shape.inputs, shape.outputs, 32, BinaryConv2d, stride=shape.stride)
        embedding = TimeEmbedding(10, 32)
        lively(block)
        self.twin, self.block = clean_twin(block), block
        with torch.no_grad():
            times = embed_times(embedding)
            self.time = times[TIME]
            self.layer = Layer.of_block(block, times, parts)
            follower = Block(shape.outputs, shape.outputs, 32, BinaryConv2d)
            self.follower = Layer.of_block(follower, times)
        x = torch.randn(1, shape.inputs, shape.side, shape.side)
        last = torch.channels_last
        self.x = [part.contiguous(memory_format=last) for part in x.chunk(parts, 1)]
        self.signs = torch.sign(x).contiguous(memory_format=last)
        memory, size = Memory(), (1, shape.side, shape.side)
        self.values = [part.permute(0, 2, 3, 1).numpy().flatten() for part in self.x]
        width = shape.inputs // parts
        self.bits = []
        for n, values in enumerate(self.values):
            bits = memory.bits(f"source{n}", size, width)
            pack(values, size, width, self.layer.reader(TIME, bits, n))
            self.bits.append(Signs(bits, size, width // 32))
        half = shape.side // shape.stride
        fits = shape.stride == 1 and width == shape.outputs
        out = memory.values("out", (1, half, half), shape.outputs)
        self.out = self.values[0] if fits else out
        self.reader = self.follower.reader(TIME, memory.bits("out", (1, half, half), shape.outputs))

    def packed(self) -> np.ndarray:
        """From bits to float32 flat [H, W, outputs] and the next block's bits."""
        b = self.bits[1] if self.shape.joined else None
        self.layer.run(
            TIME, self.bits[0], self.out, b=b, shortcut=tuple(self.values), readers=(self.reader,)
        )
        return self.out

    @torch.inference_mode()
    def clean(self) -> Tensor:
        """From floats to floats; two sources are joined first, as a U-Net does."""
        return self.twin(torch.cat(self.x, 1) if self.shape.joined else self.x[0], self.time)

    @torch.inference_mode()
    def alone(self) -> Tensor:
        """Nothing but torch's convolution, on signs that are there already."""
        convolution = self.twin.convolution
        return F.conv2d(self.signs, convolution.weight, stride=self.shape.stride, padding=1)


def measure_block(shape: Shape, rounds: int, threads: int) -> dict[str, Any]:
    """Times and ratios of one block, and the greatest difference of a value from torch's."""
    case = BlockCase(shape)
    ours = torch.from_numpy(case.packed().copy())
    theirs = case.clean().permute(0, 2, 3, 1).flatten()
    variants = {"packed": case.packed, "clean": case.clean, "conv2d alone": case.alone}
    times = interleaved(variants, rounds, threads, warm=True)
    return times | {
        "ratios": ratios(times, "packed"),
        "greatest_difference": digits(float((ours - theirs).abs().max()), 2),
    }


def measure_inference(
    width: int, side: int, steps: int, wanted: list[str], rounds: int, threads: int
) -> dict[str, Any]:
    """A fresh image through segmentor and ``steps`` steps of DDIM, one sample: image to mask."""
    model = untrained(width, 1)
    engines = {"torch": Engine(model.refiner, model.device)}
    if "clean" in wanted:
        engines["clean"] = Engine(clean_twin(model.refiner), model.device)
    if "packed" in wanted:
        engines["packed"] = Engine(model.refiner, model.device, "packed")
        engines["packed"].prepare()
    rng = np.random.default_rng(0)

    def fresh() -> np.ndarray:
        return rng.integers(0, 255, (side, side, 3), dtype=np.uint8)

    def refine(name: str) -> None:
        model.runs = engines[name]
        result = model.refine(fresh(), sampler="ddim", steps=steps, samples=1)
        assert result.engine == ("packed" if name == "packed" else "torch")

    names = [name for name in wanted if name in engines]
    variants: dict[str, Callable[[], object]] = {name: partial(refine, name) for name in names}
    times = interleaved(variants | {"segmentor": lambda: model.prior(fresh())}, rounds, threads)
    alone = times.pop("segmentor")
    ratio = {"ratios": ratios(times, "packed")} if "packed" in times else {}
    return {"steps": steps, "segmentor alone": alone} | times | ratio


def apart(arguments: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """The same command in a process of its own, with more in its environment."""
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-m", "benchmarks.refiner_step", "--json", *arguments]
        more = environment | (
            {"NUMBA_CACHE_DIR": cache} if AVX2.items() <= environment.items() else {}
        )
        done = subprocess.run(command, env=os.environ | more, stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout)
    return {key: value for key, value in found.items() if value}


def measure(
    widths: list[int],
    sides: list[int],
    strides: list[int],
    wanted: list[str],
    rounds: int,
    threads: int,
) -> dict[str, Any]:
    """The machine, and the steps of all configurations."""
    return {
        "machine": machine(threads),
        "steps": {
            f"width {width}, {side} x {side}, stem {stem}": measure_step(
                width, stem, side, wanted, rounds, threads
            )
            for width in widths
            for side in sides
            for stem in strides
        },
    }


def show(found: dict[str, Any], title: str) -> None:
    """Tables of what was measured, ratios beside times."""
    rows: list[list[object]] = []
    for name, entry in found.get("steps", {}).items():
        for kind in ("cached", "uncached"):
            for variant, times in entry[kind].items():
                if variant != "ratios":
                    rows.append([f"{name}, {kind}", variant, *_cells(entry[kind], variant, times)])
    for name, entry in found.get("inference", {}).items():
        for variant, times in entry.items():
            if isinstance(times, dict) and variant != "ratios":
                rows.append([name, variant, *_cells(entry, variant, times)])
    columns = ["what", "variant", "median ms", "min ms", "runs", "times packed"]
    if rows:
        print_table(f"Steps and inference, {title}", columns, rows)
    rows = []
    for name, entry in found.get("blocks", {}).items():
        for variant in ("packed", "clean", "conv2d alone"):
            rows.append([name, variant, *_cells(entry, variant, entry[variant])])
    if rows:
        print_table(f"Blocks, {title}", columns, rows)


def _cells(entry: dict[str, Any], variant: str, times: dict[str, float]) -> list[object]:
    ratio = entry.get("ratios", {}).get(variant)
    return [times["median_ms"], times["min_ms"], times["runs"], ratio]


def main(
    widths: Annotated[str, typer.Option(help="Widths of the refiner, with commas.")] = "32,64,128",
    sizes: Annotated[str, typer.Option(help="Sides of the image, multiples of 32.")] = "256,512",
    stem: Annotated[list[int] | None, typer.Option(help="1 or 2; may be given twice.")] = None,
    variants: Annotated[str, typer.Option(help="Of a step; see above.")] = ",".join(VARIANTS),
    with_compile: Annotated[bool, typer.Option("--compile", help="torch.compile too.")] = False,
    blocks: Annotated[bool, typer.Option(help="The table of single blocks.")] = True,
    inference: Annotated[
        str, typer.Option(help="Widths of the whole inference, 256 x 256; '' for none.")
    ] = "128",
    steps: Annotated[int, typer.Option(help="Steps of the whole inference.")] = 10,
    with_portable: Annotated[
        bool, typer.Option("--portable", help="No AVX-512 for our kernels.")
    ] = False,
    with_pooled: Annotated[
        bool, typer.Option("--pooled", help="A malloc that keeps what is freed (glibc).")
    ] = False,
    rounds: Annotated[int, typer.Option(help="Turns of each variant after a first.")] = 5,
    threads: Annotated[int, typer.Option(help="Threads of every variant.")] = 1,
    as_json: JsonOption = False,
    output: Annotated[Path | None, typer.Option(help="JSON to write or to add to.")] = None,
) -> None:
    """Measure on the CPU of this machine."""
    torch.set_num_threads(threads)
    wanted = [name for name in variants.split(",") if name] + ["compile"] * with_compile
    strides = stem or [1]
    under = {"portable": (with_portable, AVX2), "pooled": (with_pooled, POOLED)}
    chosen = {name: more for name, (asked, more) in under.items() if asked}
    title = f"{threads} thread{'s' * (threads > 1)}, {' and '.join(chosen) or 'as it is'}"
    if chosen:
        arguments = [f"--widths={widths}", f"--sizes={sizes}", f"--rounds={rounds}"]
        arguments += [f"--stem={stride}" for stride in strides]
        arguments += [f"--threads={threads}", f"--variants={variants}", f"--steps={steps}"]
        arguments += [f"--inference={inference}", "--blocks" if blocks else "--no-blocks"]
        arguments += ["--compile"] * with_compile
        environment = {key: value for more in chosen.values() for key, value in more.items()}
        found = {" and ".join(chosen): apart(arguments, environment)}
    else:
        found = measure(numbers(widths), numbers(sizes), strides, wanted, rounds, threads)
        if blocks:
            found["blocks"] = {s.name: measure_block(s, 3 * rounds, threads) for s in SHAPES}
        found["inference"] = {
            f"whole inference, width {width}, 256 x 256": measure_inference(
                width, 256, steps, wanted, max(1, rounds // 2), threads
            )
            for width in numbers(inference)
        }
    write(output, found)
    if as_json:
        print_json(found)
        return
    show(found.get(" and ".join(chosen), found), title)


if __name__ == "__main__":
    typer.run(main)
