"""One step of a refiner in every variant: its times, its size, and that all compute the same."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks._packed import (
    CleanConv2d,
    Scene,
    clean_twin,
    digits,
    interleaved,
    make_refiner,
    make_scene,
    ratios,
)
from napari_hidiff.engine.packed_refiner import compile_refiner
from napari_hidiff.networks.refiner import Refiner, probabilities

CLOSE = 1e-6
"""The clean twin may differ from ours by this mean of the probability in float64, or it is another
network. In float32 it rounds otherwise, and one sign that differs is carried a long way."""
TIME = 5
"""The time that is denoised, of 1..10."""


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
