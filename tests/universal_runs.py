"""Recipes and runs of a universal refiner that take seconds."""

from napari_hidiff.training.cli import resolved
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.learner import accelerator_for
from napari_hidiff.training.progress import Watch
from napari_hidiff.training.run import blank_card
from napari_hidiff.training.universal.run import Training

SIDE = 64


def recipe(**changes):
    small = {
        "crop": 32, "batch": 2, "longest_side": SIDE, "iterations": 4, "width": 32,
        "validate_cases": 2, "precision": "fp32",
    }  # fmt: skip
    return resolved("collection", "quick", paper=False, changes=small | changes)


def training_of(root, folder, device="cpu"):
    card = blank_card(recipe(), open_dataset("collection", root), "")
    return Training(recipe(), card, folder, accelerator_for(recipe(), device), Watch(folder, False))
