"""Trainings of a handful of updates, in this process or by their recipe."""

import dataclasses

from commands import call

from napari_hidiff.training import cli
from napari_hidiff.training.recipes import RECIPES

TINY = {
    "pretrain_iterations": 3,
    "fold_iterations": 2,
    "iterations": 4,
    "width": 32,
    "stem": 2,
    "crop": 32,
    "batch": 2,
    "segmentor_every": 2,
    "validate_every": 2,
    "workers": 0,
    "steps": 2,
    "samples": 1,
    "precision": "fp32",
}
FLAGS = [part for k, v in TINY.items() for part in (f"--{k.replace('_', '-')}", str(v))]
FLAGS += ["--size", "paper"]  # without a GPU the command would take another


def tiny(**changes):
    return dataclasses.replace(RECIPES["folder"], **(TINY | changes))


def run(*arguments):
    return call(cli.main, *arguments)
