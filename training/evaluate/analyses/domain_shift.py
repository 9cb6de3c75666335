"""A model on its own test images, changed as another camera or scanner would: what still helps?

Each change keeps the truth where it is. Prior and refined mask are scored on the changed image, so
the loss is that of the segmentor, and the difference says what the refiner makes of its errors.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from zlib import crc32

import numpy as np
from scipy import ndimage

from napari_hidiff.inference.model import HiDiff
from napari_hidiff.training.datasets import Case, Dataset, Sample
from napari_hidiff.training.datasets.base import resampled

from ..metrics import REPORTED
from ..output import Content, Report, Table, interval, plain, score_cells, verdict
from ..samplers import plain_settings, recommended, settings_named
from ..scoring import PRIOR, REFINED
from ..study import OnCase, Options, silent
from .scored import ModelOnCases, difference, mean_interval, means, settings_line, surface

BLUR = 2.0
"""Deviation of the blur in pixels."""
NOISE = 0.3
"""Deviation of the noise, of that of the image."""
GAMMA = 1.6
"""Power of the grey values, scaled to 0..1."""
MIXED = 0.3
"""Share that a channel takes from the next one."""
SLOPE = 0.5
"""Brightness from 1 - SLOPE at the left to 1 + SLOPE at the right."""
AS_IT_IS = "as it is"


def _pixels(change: Callable[[np.ndarray, int], np.ndarray]) -> Callable[[Sample], Sample]:
    """A change of the grey values float32 [..., H, W, C]; the second argument seeds its noise."""

    def changed(sample: Sample) -> Sample:
        seed = crc32(sample.case.id.encode())
        image = change(sample.image.astype(np.float32), seed)
        return replace(sample, image=image.astype(np.float32))

    return changed


def _blurred(image: np.ndarray, seed: int) -> np.ndarray:
    sigma = (0.0,) * (image.ndim - 3) + (BLUR, BLUR, 0.0)
    return np.asarray(ndimage.gaussian_filter(image, sigma, mode="nearest"))


def _noisy(image: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(image.shape, np.float32)
    return np.asarray(image + NOISE * image.std() * noise)


def _other_colours(image: np.ndarray, seed: int) -> np.ndarray:
    """Darker middle tones; with several channels each has a part of the next one."""
    mixed = (1 - MIXED) * image + MIXED * np.roll(image, -1, -1)
    low, high = mixed.min(), mixed.max()
    scaled = (mixed - low) / max(high - low, 1e-6)
    return np.asarray(low + (high - low) * scaled**GAMMA)


def _uneven(image: np.ndarray, seed: int) -> np.ndarray:
    light = np.linspace(1 - SLOPE, 1 + SLOPE, image.shape[-2], dtype=np.float32)
    return image * light[:, None]


SHIFTS: Mapping[str, Callable[[Sample], Sample]] = {
    AS_IT_IS: lambda sample: sample,
    "half the size": lambda sample: resampled(sample, 0.5),
    "blurred": _pixels(_blurred),
    "noisy": _pixels(_noisy),
    "other colours": _pixels(_other_colours),
    "uneven light": _pixels(_uneven),
}
"""The changes by name; ``--arms`` names further samplers, not these."""


@dataclass(frozen=True)
class Shifted(Dataset):
    """A data set whose samples are changed as they are loaded, at the size that is scored."""

    change: str = AS_IT_IS

    def load(self, case: Case) -> Sample:
        """The sample, changed."""
        return SHIFTS[self.change](super().load(case))


def shifted(dataset: Dataset, name: str) -> Shifted:
    """The data set under a change, which is part of its name."""
    own = {one.name: getattr(dataset, one.name) for one in fields(dataset)}
    return Shifted(**own | {"name": f"{dataset.name}, {name}", "change": name})


def run(
    model: HiDiff,
    dataset: Dataset,
    cases: Sequence[Case],
    options: Options,
    state: Path,
    on_case: OnCase = silent,
) -> Content:
    """Score prior and refined mask of every case under every change; plain data.

    Arms are the prior, ``refined`` (the options' sampler, or the card's) and the settings of
    ``options.arms``. ``shifts``: by change ``mean`` by arm (dice, hd95, nsd), ``minus_prior`` with
    paired intervals over cases, and ``lost``: Dice of the prior, as it is minus changed.
    ``images``: the Dice of every case by change and arm.

    InputError: an unknown setting, or a case is bad.
    """
    settings = {REFINED: recommended(model, options)} | settings_named(options.arms or (), model)
    arms = (PRIOR, *settings)
    shifts: dict[str, Content] = {}
    images: list[Content] = [{"id": case.id} for case in cases]
    for name in SHIFTS:
        on = ModelOnCases(model, shifted(dataset, name), settings, options.seeds)
        scored = on.scored(cases, state, on_case)
        for row, case in zip(images, scored, strict=True):
            row[name] = {arm: case.arms[arm].mean["dice"] for arm in arms}
        lost = [row[AS_IT_IS][PRIOR] - row[name][PRIOR] for row in images]
        shifts[name] = {
            "mean": {arm: means(scored, arm) for arm in arms},
            "minus_prior": {arm: difference(scored, arm, PRIOR) for arm in settings},
            "lost": mean_interval(lost),
        }
    return plain(
        {
            "pictures": [],
            "surface": surface(scored),
            "ways": plain_settings(settings),
            "shifts": shifts,
            "images": images,
        }
    )


def report(content: Content) -> Report:
    """A row per change and mask; whether refinement helps under each change."""
    lines, rows = [], []
    for name, found in content["shifts"].items():
        for arm, apart in found["minus_prior"].items():
            lines.append(f"- {name}: {arm} {verdict(apart['dice'], 'the prior')}.")
        for arm, mean in found["mean"].items():
            apart = interval(found["minus_prior"][arm]["dice"]) if arm != PRIOR else ""
            rows.append([name, arm, *score_cells(mean), apart])
    table = Table(["image", "mask", "Dice", "HD95", "NSD", "Dice - prior"], rows, words=2)
    heads = ["image", *REPORTED]
    apart = [
        [name, *(interval(found["minus_prior"][REFINED][metric]) for metric in REPORTED)]
        for name, found in content["shifts"].items()
    ]
    tables = {"refined minus prior": Table(heads, apart)}
    return Report(f"`{content['model']}`", lines, table, settings_line(content), tables)
