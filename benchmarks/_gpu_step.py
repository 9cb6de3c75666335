"""Milliseconds of one step of the reverse process, for :mod:`benchmarks.gpu`."""

import argparse
import json
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks._gpu_timing import Found, free, left_out, milliseconds, say
from napari_hidiff.engine.graphs import GraphRefiner
from napari_hidiff.engine.precision import full_precision
from napari_hidiff.networks.refiner import Condition, Refiner
from napari_hidiff.networks.segmentor import STRIDES

FEATURES = (48, 64, 96, 128)
TIMES = (10, 7, 4)
"""Times of the steps, in turn."""


def random_step(
    width: int, side: int, samples: int, device: torch.device
) -> tuple[Refiner, Tensor, Condition]:
    """A refiner, y_t and a condition, all random."""
    torch.manual_seed(0)
    refiner = Refiner(3, 1, FEATURES, width=width)
    torch.nn.init.normal_(refiner.head.weight, std=0.05)
    refiner = refiner.to(device).eval().requires_grad_(False)
    features = [
        torch.randn(1, c, side // s, side // s, device=device)
        for c, s in zip(FEATURES, STRIDES, strict=True)
    ]
    image, prior = (torch.rand(1, c, side, side, device=device) for c in (3, 1))
    fixed = torch.full((1, side, side), -1, device=device)
    y_t = (torch.rand(samples, 1, side, side, device=device) < 0.3).float()
    return refiner, y_t, refiner.condition(image, prior, fixed, features)


def graph_of(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Any computation as a CUDA graph, its result in one place."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        run()
        run()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = run()

    def replay() -> Tensor:
        graph.replay()
        return out

    return replay


def variants(
    refiner: Refiner, y_t: Tensor, condition: Condition, cuda: bool
) -> Iterator[tuple[str, Callable[[], Callable[[int], Tensor]]]]:
    """Ways to compute a step, each made on demand."""

    def half(t: Tensor | int = TIMES[0]) -> Tensor:
        with torch.autocast(y_t.device.type, torch.bfloat16, cache_enabled=False):
            return refiner(y_t, t, condition)

    def ours(most: int) -> Callable[[int], Tensor]:
        steps = GraphRefiner(refiner, most=most)
        return lambda n: steps(y_t, TIMES[n % 3], condition)

    def half_graph() -> Callable[[int], Tensor]:
        at = torch.full((1,), TIMES[0], device=y_t.device)
        replay = graph_of(lambda: half(at))
        return lambda n: replay()

    yield "plain", lambda: lambda n: refiner(y_t, TIMES[n % 3], condition)
    yield "eager", lambda: ours(0)
    if cuda:
        yield "graph", lambda: ours(1)
    yield "bf16", lambda: lambda n: half(TIMES[n % 3])
    if cuda:
        yield "bf16 graph", half_graph


def measure_step(arguments: argparse.Namespace, device: torch.device) -> list[Found]:
    rows = []
    cuda, seconds = device.type == "cuda", 0.1 if arguments.quick else 0.2
    for width in arguments.widths:
        for side in arguments.sides:
            for samples in arguments.samples:
                with torch.inference_mode(), full_precision(device):
                    try:
                        scene = random_step(width, side, samples, device)
                    except Exception as error:
                        say(f"step {width} {side} {samples}: {error}")
                        continue
                    for name, make in variants(*scene, cuda=cuda):
                        row = {"width": width, "side": side, "samples": samples, "way": name}
                        if left_out(arguments, row, "error"):
                            rows.append(row)
                            continue
                        try:
                            row |= measured_way(make, device, seconds)
                        except Exception as error:
                            row["error"] = f"{type(error).__name__}: {error}".splitlines()[0]
                        say(f"step {json.dumps(row)}")
                        rows.append(row)
                    del scene
                    free(device)
    return rows


def measured_way(
    make: Callable[[], Callable[[int], Tensor]], device: torch.device, seconds: float
) -> Found:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    found = milliseconds(make(), device, seconds)
    if device.type == "cuda":
        found["peak_gb"] = round(torch.cuda.max_memory_allocated(device) / 1e9, 3)
    return found
