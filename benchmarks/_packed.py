"""What the benchmarks of the packed engine share: machine, refiner, clean twin, timing, tables."""

import copy
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite
import numba
import torch
from llvmlite import binding
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from napari_hidiff.inference.card import Card
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import Label
from napari_hidiff.networks.binary import BinaryConv2d, binarize_weight
from napari_hidiff.networks.blocks import CrossBlock, TimeActivation
from napari_hidiff.networks.refiner import Refiner
from napari_hidiff.networks.segmentor import STRIDES

FEATURES = (48, 64, 96, 128)
"""Channels of the segmentor's features at strides 4, 8, 16, 32: those of the U-Net of a card."""
AVX2 = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+popcnt,+bmi,+bmi2,+sse4.2,+ssse3",
}
"""Environment in which numba compiles for a processor without AVX-512; torch does not read it."""
POOLED = {
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**28),
}
"""Environment in which glibc keeps what is freed, and no tensor is paid for in fresh pages."""

Milliseconds = dict[str, float]
"""Median and minimum, in milliseconds, and how many runs there were."""


def machine(threads: int | list[int]) -> dict[str, Any]:
    """Processor and versions, for a result that somebody else wants to compare with."""
    features = binding.get_host_cpu_features()
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "avx512_vpopcntdq": bool(features.get("avx512vpopcntdq")),
        "kernels_for": os.environ.get("NUMBA_CPU_NAME", "this processor"),
        "malloc": "pooled" if POOLED.items() <= os.environ.items() else "as it is",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
    }


def _processor() -> str:
    """Name and numbers of the processor; virtual machines often hide the exact name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = dict(part.split(":", 1) for part in lines if ":" in part)
    found = {key.strip(): value.strip() for key, value in facts.items()}
    name = found.get("model name", platform.machine())
    return f"{name} (family {found.get('cpu family')}, model {found.get('model')})"


def lively(module: nn.Module, seed: int = 0) -> None:
    """Fill tables with numbers such as training leaves, in place; evaluation mode from then on."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                assert part.running_mean is not None
                assert part.running_var is not None
                part.running_mean.normal_(0, 0.3, generator=generator)
                part.running_var.uniform_(0.5, 2, generator=generator)
                part.bias.normal_(0, 0.3, generator=generator)
            elif isinstance(part, TimeActivation):
                part.shifts.weight.normal_(0, 0.2, generator=generator)
            elif isinstance(part, BinaryConv2d):
                part.threshold.alpha.weight.normal_(0, 0.2, generator=generator)
            elif isinstance(part, CrossBlock):
                part.position.normal_(0, 0.5, generator=generator)
            elif isinstance(part, Refiner):
                part.head.weight.normal_(0, 0.02, generator=generator)
    module.eval().requires_grad_(False)


def make_refiner(width: int, stem: int = 1, seed: int = 0) -> Refiner:
    """A refiner for colour images and one class, with four features, that changes its prior."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        refiner = Refiner(3, 1, FEATURES, width=width, stem=stem)
    lively(refiner, seed)
    return refiner


def untrained(width: int, stem: int) -> HiDiff:
    """A model with the U-Net of a card and a refiner that changes its prior."""
    labels = (Label("background", "#000000"), Label("foreground", "#ffffff"))
    options = {"width": width, "stem": stem}
    model = HiDiff.create(Card("untrained", labels, ("red", "green", "blue"), refiner=options))
    lively(model.refiner)
    return model


class Scene(NamedTuple):
    """An image of side x side pixels on its way through a refiner.

    y_t : a state [1, 1, side, side] in {0, 1}; given : image, prior, fixed map and features, the
    arguments of ``Refiner.condition``.
    """

    y_t: Tensor
    given: tuple[Tensor, Tensor, Tensor, list[Tensor]]


def make_scene(side: int, seed: int = 0) -> Scene:
    """Random numbers of the right kind; ``side`` is a multiple of 32."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(channels: int, stride: int = 1) -> Tensor:
        x = torch.rand(1, channels, side // stride, side // stride, generator=generator)
        return x.contiguous(memory_format=torch.channels_last)

    features = [uniform(c, s) - 0.5 for c, s in zip(FEATURES, STRIDES, strict=True)]
    fixed = torch.randint(-1, 2, (1, side, side), generator=generator)
    return Scene((uniform(1) < 0.3).float(), (uniform(3), uniform(1), fixed, features))


class CleanConv2d(nn.Module):
    """A binary convolution as one writes it for inference: weights are +-scale floats already.

    ``torch.sign`` is the fastest way to signs in eager torch; unlike ours it gives 0 for a value
    that equals its threshold, which random numbers do not meet.
    """

    def __init__(self, source: BinaryConv2d) -> None:
        super().__init__()
        self.alpha = source.threshold.alpha
        weight = binarize_weight(source.weight).contiguous(memory_format=torch.channels_last)
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)
        self.stride, self.padding = source.stride, source.padding

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        signs = torch.sign(x - self.alpha(time)[:, :, None, None])
        return F.conv2d(signs, self.weight, stride=self.stride, padding=self.padding)


def _sign(x: Tensor) -> Tensor:
    return torch.sign(x)


def clean_twin(module: nn.Module) -> Any:
    """The same network without what training needs: no straight-through arithmetic, no scale taken
    from latent weights, BatchNorm modules as they are; fp32, channels last, evaluation mode.

    With our convolution gone, a Block and the X-Former are their plain textbook formula.
    """
    twin = copy.deepcopy(module)
    for parent in list(twin.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, BinaryConv2d):
                setattr(parent, name, CleanConv2d(child))
        if isinstance(parent, CrossBlock):
            parent.quantize = _sign
    return twin.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def interleaved(
    variants: Mapping[str, Callable[[], object]], rounds: int, threads: int, warm: bool = False
) -> dict[str, Milliseconds]:
    """Milliseconds of every variant; in each round all take their turn, after a round to warm up.

    warm : every turn is two calls, of which the second counts: a block finds its input in the
    cache, as after the block before it, and not what another variant left there.
    With one thread it is processor time of this thread, so that other work on the machine counts
    little; with more it is the clock on the wall.
    """
    clock = time.thread_time if threads == 1 else time.perf_counter
    spent: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(rounds + 1):
        for name, function in variants.items():
            if warm:
                function()
            start = clock()
            function()
            if turn:
                spent[name].append(1000 * (clock() - start))
    return {name: summary(values) for name, values in spent.items()}


def summary(values: list[float]) -> Milliseconds:
    """Median and minimum of a list, rounded to four digits; how many."""
    return {
        "median_ms": digits(statistics.median(values)),
        "min_ms": digits(min(values)),
        "runs": len(values),
    }


def digits(value: float, count: int = 4) -> float:
    """A number with so many significant digits."""
    return float(f"{value:.{count}g}")


def ratios(found: Mapping[str, Milliseconds], ours: str) -> dict[str, float]:
    """How many times longer than ``ours`` the others take, by their medians."""
    base = found[ours]["median_ms"]
    return {
        name: digits(times["median_ms"] / base, 3) for name, times in found.items() if name != ours
    }


def numbers(text: str) -> list[int]:
    """``32,64`` as [32, 64]; nothing as []."""
    return [int(part) for part in text.split(",") if part.strip()]


def print_table(title: str, columns: list[str], rows: list[list[object]]) -> None:
    """A table on stdout; the first column is text, the others stand to the right."""
    table = Table(title=title, title_justify="left")
    for n, column in enumerate(columns):
        table.add_column(column, justify="left" if n == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else f"{cell}" for cell in row))
    Console(width=140).print(table)


def merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """``new`` over ``old``, key by key at every depth."""
    merged = dict(old)
    for key, value in new.items():
        before = merged.get(key)
        both = isinstance(before, dict) and isinstance(value, dict)
        merged[key] = merge(before, value) if both else value  # type: ignore[arg-type]
    return merged


def write(path: Path | None, found: dict[str, Any]) -> None:
    """Write JSON; what the file holds of other configurations stays, so that a long table may be
    made in several runs."""
    if path is None:
        return
    old = json.loads(path.read_text()) if path.is_file() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(merge(old, found), indent=1, allow_nan=False) + "\n")
