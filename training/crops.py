"""Training crops: cut, turned and shaded by MONAI's transforms, one random stream per crop.

A crop depends on (seed, stage, number) alone, so any number of worker processes and a resumed run
see the same crops.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace

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
from torch.utils.data import DataLoader, Dataset, Sampler

from napari_hidiff.inference.card import Card
from napari_hidiff.inference.preprocessing import soften
from napari_hidiff.masks import mask_of
from napari_hidiff.networks.segmentor import MULTIPLE
from napari_hidiff.training.case_cache import Stored
from napari_hidiff.training.priors import corrupt
from napari_hidiff.training.recipes import Recipe
from napari_hidiff.training.simulated_annotator import simulate_corrections

MARGIN = 1.4
"""Crops are cut this much larger before they are turned, so that no corner is empty."""


FOREGROUND = 0.75
"""Share of a volume's crops that come from a plane with foreground."""
ALONE = 0.1
"""Share of the crops of several slices that hold the same slice throughout, so that a model of
several slices reads a picture, too."""


class Crops(Dataset[dict[str, Tensor]]):
    """Crop number n of a stage, for any n >= 0.

    An item holds number (n), image [C, h, w] and truth int64 [h, w]; with ``refining`` also prior
    [K, h, w], fixed int64 [h, w] (-1 = free) and own (bool: take the current segmentor's prior).
    """

    def __init__(
        self,
        cases: Sequence[Stored],
        recipe: Recipe,
        card: Card,
        stage: int,
        refining: bool = False,
    ) -> None:
        self.cases, self.recipe, self.stage, self.refining = cases, recipe, stage, refining
        self.classes, self.rule = card.outputs, card.soften
        keys = ["image", "truth"] + (["prior"] if refining and needs_priors(recipe) else [])
        apart = recipe.slices == 1
        self.keys, self.transform = keys, augmentation(keys, recipe.crop, recipe.flips, apart)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        set_track_meta(False)
        rng = np.random.default_rng([self.recipe.seed, self.stage, number])
        case = self.cases[int(rng.integers(len(self.cases)))]
        plane = _plane(case, rng)
        self.transform.set_random_state(int(rng.integers(2**31)))
        alone = case.slices > 1 and rng.random() < ALONE
        seen = replace(case, slices=1).plane(plane) if alone else case.plane(plane)
        if alone:
            seen = np.tile(seen, (case.slices, 1, 1))
        whole = {"image": seen, "truth": case.truth[plane][None]}
        if "prior" in self.keys:
            stored = case.prior
            assert stored is not None, f"{case.id} has no prior"
            whole["prior"] = stored[plane]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Num foregrounds")  # a plane without any is normal
            crop = self.transform({k: v.astype(np.float32) for k, v in whole.items()})[0]
        item = {
            "number": torch.tensor(number),
            "image": torch.as_tensor(crop["image"], dtype=torch.float32),
            "truth": torch.as_tensor(crop["truth"], dtype=torch.int64)[0],
        }
        if "prior" in crop:
            prior = np.asarray(crop["prior"], dtype=np.float32)
            item |= self._prior(prior, item["truth"].numpy(), rng)
        elif self.refining:
            size = item["truth"].shape
            item |= {
                "prior": torch.full((self.classes, *size), 1 / max(2, self.classes)),
                "fixed": torch.full(size, -1),
                "own": torch.tensor(True),
            }
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


def augmentation(keys: list[str], crop: int, flips: bool, apart: bool = True) -> Compose:
    """From whole arrays to a list with one crop; half of the crops are centred on foreground.

    Without ``flips`` up stays up: only small rotations, but of almost every crop. apart : each
    channel gets a brightness and contrast of its own; neighbouring slices share them.
    """
    turned = [RandFlipd(keys, 0.5, 0), RandFlipd(keys, 0.5, 1), RandRotate90d(keys, 0.75)]
    outer = (round(crop * MARGIN),) * 2
    modes = ["nearest" if key == "truth" else "bilinear" for key in keys]
    return Compose(
        [
            SpatialPadd(keys, outer, mode="edge"),
            RandCropByPosNegLabeld(keys, "truth", outer, pos=1, neg=1, num_samples=1),
            RandAffined(
                keys,
                prob=0.5 if flips else 0.9,
                rotate_range=np.pi / (4 if flips else 12),
                scale_range=(0.2, 0.2),
                shear_range=(0.1, 0.1),
                mode=modes,
                padding_mode="border",
            ),
            CenterSpatialCropd(keys, (crop, crop)),
            *(turned if flips else []),
            RandScaleIntensityd("image", 0.3, prob=0.8, channel_wise=apart),
            RandShiftIntensityd("image", 0.3, prob=0.8, channel_wise=apart),
            RandGaussianSmoothd("image", (0.3, 1.0), (0.3, 1.0), prob=0.15),
            RandGaussianNoised("image", prob=0.3, std=0.15),
        ]
    )


def _plane(case: Stored, rng: np.random.Generator) -> int:
    """The plane of a case for a crop; pictures have one."""
    depth = case.shape[0]
    if depth == 1:
        return 0
    if case.foreground and rng.random() < FOREGROUND:
        return int(rng.choice(case.foreground))
    return int(rng.integers(depth))


def needs_priors(recipe: Recipe) -> bool:
    """Whether any crop is refined from a prior other than the current segmentor's."""
    return recipe.own_prior < 1 or recipe.corrections > 0


def fitted(recipe: Recipe, cases: Sequence[Stored]) -> Recipe:
    """The recipe with crops of at most the largest plane (a multiple of 32): more is padding."""
    largest = max(max(case.shape[2:]) for case in cases)
    return replace(recipe, crop=min(recipe.crop, -(-largest // MULTIPLE) * MULTIPLE))


class Shares(Sampler[list[int]]):
    """The numbers of the crops of one process, batch by batch.

    Batch j has the crops j * batch ... (j + 1) * batch - 1, each process an equal range of them.
    """

    def __init__(self, batch: int, first: int, last: int, rank: int = 0, processes: int = 1):
        self.batch, self.first, self.last = batch, first, last
        self.rank, self.each = rank, batch // processes

    def __iter__(self) -> Iterator[list[int]]:
        for batch in range(self.first, self.last):
            start = batch * self.batch + self.rank * self.each
            yield list(range(start, start + self.each))

    def __len__(self) -> int:
        return self.last - self.first


def batches(
    crops: Crops, done: int, iterations: int, rank: int = 0, processes: int = 1
) -> Iterator[list[dict[str, Tensor]]]:
    """For each iteration after ``done`` the micro-batches of one update."""
    recipe = crops.recipe
    parts = recipe.accumulate
    shares = Shares(recipe.batch, done * parts, iterations * parts, rank, processes)
    loader = DataLoader(
        crops,
        batch_sampler=shares,
        num_workers=recipe.workers,
        pin_memory=torch.cuda.is_available(),
        prefetch_factor=4 if recipe.workers else None,
    )
    group: list[dict[str, Tensor]] = []
    for batch in loader:
        group.append(batch)
        if len(group) == parts:
            yield group
            group = []
