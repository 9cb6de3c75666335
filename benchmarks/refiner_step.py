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

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from benchmarks._blocks import SHAPES, measure_block
from benchmarks._packed import (
    AVX2,
    POOLED,
    clean_twin,
    interleaved,
    machine,
    numbers,
    print_table,
    ratios,
    untrained,
    write,
)
from benchmarks._steps import measure_step
from napari_hidiff.cli.console import JsonOption, print_json
from napari_hidiff.engine.engine import Engine

VARIANTS = ("packed", "clean", "torch", "bf16")


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
        model.backend = engines[name]
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
