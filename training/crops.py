"""Training crops: cut, turned and shaded by MONAI's transforms, one random stream per crop.

A crop is decided by (seed, stage, number) alone, so that any number of worker processes, and a
run that was interrupted, see the same crops.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.data import set_track_meta
from monai.transforms import (
    CenterSpatialCropd,
    Compose,
    RandAffined,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandRotate90d,
    RandScaleIntensityd,
    RandShiftIntensityd,
    SpatialPadd,
)
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from napari_hidiff.preprocess import Intensity, check_image, soften
from napari_hidiff.refine import mask_of
from napari_hidiff.training import datasets
from napari_hidiff.training.priors import corrupt, simulate_corrections
from napari_hidiff.training.recipes import Recipe

MARGIN = 1.4
"""Crops are cut this much larger before they are turned, so that no corner is empty."""


@dataclass
class Loaded:
    """A case in memory: id, image float32 [C, H, W] (standardized), truth uint8 [H, W], and the
    prior float16 [K, H, W] of a segmentor that never saw it (None before there is one)."""

    id: str
    image: np.ndarray
    truth: np.ndarray
    prior: np.ndarray | None = None


def load_cases(dataset: datasets.Dataset, split: str) -> list[Loaded]:
    """All cases of a split; InputError of the data set or of the image names what is wrong."""
    loaded = []
    for case in dataset.split(split):
        sample = dataset.load(case)
        image = Intensity(**dataset.intensity)(
            check_image(sample.image, dataset.channels)
        ).transpose(2, 0, 1)
        loaded.append(Loaded(case.id, image, sample.mask))
    return loaded


class Crops(Dataset[dict[str, Tensor]]):
    """Crops number ``first`` to ``first + count`` of a stage.

    An item holds image [C, h, w], truth int64 [h, w], prior [K, h, w], fixed int64 [h, w] (-1 =
    free) and own (bool: take the current segmentor's prior instead); the last three are there
    only when the cases have priors.
    """

    def __init__(
        self,
        cases: Sequence[Loaded],
        recipe: Recipe,
        soften_rule: dict[str, float],
        stage: int,
        first: int,
        count: int,
    ) -> None:
        self.cases, self.recipe, self.rule = cases, recipe, soften_rule
        self.stage, self.first, self.count = stage, first, count
        keys = ["image", "truth"] + (["prior"] if cases[0].prior is not None else [])
        self.keys, self.transform = keys, augmentation(keys, recipe.crop)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        set_track_meta(False)
        rng = np.random.default_rng([self.recipe.seed, self.stage, self.first + index])
        case = self.cases[int(rng.integers(len(self.cases)))]
        self.transform.set_random_state(int(rng.integers(2**31)))
        whole = {"image": case.image, "truth": case.truth[None], "prior": case.prior}
        crop = self.transform({key: whole[key] for key in self.keys})[0]
        item = {
            "image": torch.as_tensor(crop["image"], dtype=torch.float32),
            "truth": torch.as_tensor(crop["truth"], dtype=torch.int64)[0],
        }
        if "prior" in crop:
            prior = np.asarray(crop["prior"], dtype=np.float32)
            item |= self._prior(prior, item["truth"].numpy(), rng)
        return item

    def _prior(
        self, prior: np.ndarray, truth: np.ndarray, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        recipe = self.recipe
        kind = rng.random()
        own = kind < recipe.own_prior
        if not own and kind < recipe.own_prior + recipe.mask_prior:
            hard = corrupt(prior, rng) if rng.random() < recipe.corrupt else prior
            prior = soften(mask_of(hard), len(prior), **self.rule)
        elif rng.random() < recipe.corrupt:
            prior, own = corrupt(prior, rng), False
        fixed = np.full(truth.shape, -1, dtype=np.int64)
        if rng.random() < recipe.corrections:
            fixed = simulate_corrections(mask_of(prior), truth, rng)
        return {
            "prior": torch.from_numpy(prior),
            "fixed": torch.from_numpy(fixed),
            "own": torch.tensor(own),
        }


def augmentation(keys: list[str], crop: int) -> Compose:
    """From whole arrays to a list with one crop; half of the crops are centred on foreground."""
    outer = (round(crop * MARGIN),) * 2
    modes = ["nearest" if key == "truth" else "bilinear" for key in keys]
    return Compose(
        [
            SpatialPadd(keys, outer, mode="edge"),
            RandCropByPosNegLabeld(keys, "truth", outer, pos=1, neg=1, num_samples=1),
            RandAffined(
                keys,
                prob=0.5,
                rotate_range=np.pi / 4,
                scale_range=(0.2, 0.2),
                shear_range=(0.1, 0.1),
                mode=modes,
                padding_mode="border",
            ),
            CenterSpatialCropd(keys, (crop, crop)),
            RandFlipd(keys, 0.5, 0),
            RandFlipd(keys, 0.5, 1),
            RandRotate90d(keys, 0.75),
            RandScaleIntensityd("image", 0.3, prob=0.8, channel_wise=True),
            RandShiftIntensityd("image", 0.3, prob=0.8, channel_wise=True),
            RandGaussianSmoothd("image", (0.3, 1.0), (0.3, 1.0), prob=0.15),
            RandGaussianNoised("image", prob=0.3, std=0.15),
        ]
    )


def batches(
    cases: Sequence[Loaded],
    recipe: Recipe,
    rule: dict[str, float],
    stage: int,
    done: int,
    iterations: int,
) -> Iterator[list[dict[str, Tensor]]]:
    """For each iteration after ``done`` the micro-batches that one update averages."""
    each = recipe.batch * recipe.accumulate
    crops = Crops(cases, recipe, rule, stage, done * each, (iterations - done) * each)
    loader = DataLoader(crops, recipe.batch, num_workers=recipe.workers)
    group: list[dict[str, Tensor]] = []
    for batch in loader:
        group.append(batch)
        if len(group) == recipe.accumulate:
            yield group
            group = []
