"""What all stages of one training run share.

What is settled before a run: its card, its recipe, its folder.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card, versions
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.inference.preprocessing import parse_intensity
from napari_hidiff.io.storage import atomic_write
from napari_hidiff.masks import Label
from napari_hidiff.networks.segmentor_registry import segmentor_options
from napari_hidiff.training.case_cache import Stored
from napari_hidiff.training.datasets import Dataset
from napari_hidiff.training.losses import RefinerLoss
from napari_hidiff.training.progress import Watch
from napari_hidiff.training.recipes import PROMPTED, Recipe


@dataclass(frozen=True)
class Run:
    """Recipe and card, the run's folder, the device and its processes, what is shown, and the
    model that the networks start from, if any."""

    recipe: Recipe
    card: Card
    folder: Path
    accelerator: Accelerator
    watch: Watch
    start: HiDiff | None = None

    @property
    def main(self) -> bool:
        """Whether this process is the one that writes, validates and speaks."""
        answer: bool = self.accelerator.is_main_process
        return answer

    @property
    def place(self) -> dict[str, int]:
        """This process among the others, as ``crops.batches`` takes it."""
        return {
            "rank": self.accelerator.process_index,
            "processes": self.accelerator.num_processes,
        }


def blank_card(recipe: Recipe, dataset: Dataset, command: str) -> Card:
    """The card of a model that is about to be trained; scores come from an evaluation.

    InputError: an intensity rule or a segmentor that there is not.
    """
    labels = zip(dataset.classes, dataset.colors, strict=True)
    seen = {split: [case.id for case in dataset.splits[split]] for split in ("train", "val")}
    try:
        own = parse_intensity(recipe.intensity) if recipe.intensity else dict(dataset.intensity)
        segmentor = segmentor_options(recipe.segmentor, recipe.segmentor_layers, trusted=True)
    except ValueError as error:
        raise InputError(str(error)) from error
    return Card(
        name=dataset.name,
        summary=f"{', '.join(dataset.classes[1:])} in {'/'.join(dataset.channels)} images",
        dataset=dataset.name,
        classes=tuple(Label(name, color) for name, color in labels),
        channels=tuple(dataset.channels),
        licence=dataset.licence,
        attribution=dataset.attribution,
        intensity=own,
        segmentor=segmentor,
        refiner={
            "width": recipe.width,
            "stem": recipe.stem,
            "convolution": recipe.convolution,
            "output": recipe.predicts,
        }
        | ({} if recipe.xformer else {"xformer": False})
        | ({"hypotheses": recipe.hypotheses} if recipe.hypotheses else {}),
        diffusion={
            "steps": recipe.diffusion_steps,
            "schedule": recipe.schedule,
            "s": recipe.schedule_s,
        }
        | ({} if recipe.kernel == "bernoulli" else {"kernel": recipe.kernel})
        | ({} if recipe.centre == "prior" else {"centre": recipe.centre}),
        defaults={
            "sampler": recipe.sampler,
            "steps": recipe.steps,
            "samples": recipe.samples,
        },
        training={"recipe": asdict(recipe), "command": command, "cases": seen},
        versions=versions(),
        prompted=recipe.dataset in PROMPTED,
        longest_side=recipe.longest_side,
    )


def check_recipe(recipe: Recipe, card: Card) -> None:
    """InputError if the recipe cannot be built, before any data are read or written."""
    if recipe.kernel == "gaussian" and recipe.centre != "prior":
        raise InputError("normal noise has no centre to choose: --centre is for --kernel bernoulli")
    blank = np.zeros((32, 32, len(card.channels)), np.uint8)
    try:
        model = HiDiff.create(card)
        if not model.process.binary and model.refiner.output == "eps":
            raise ValueError("eps are flips, and a Gaussian kernel has none: use --predicts y0")
        RefinerLoss(model.process, model.classes, recipe.loss, recipe.posterior)
        model.steps(blank)  # checks the default sampler, computes nothing
    except ValueError as error:
        raise InputError(str(error)) from error
    if recipe.prior_from and not Path(recipe.prior_from).exists():
        raise InputError(f"{recipe.prior_from}: no such folder of masks or TorchScript file")


def recommended(card: Card, scores: dict[str, float]) -> dict[str, Any]:
    """The card's defaults; the one-step pass becomes the sampler where validation found it as good.

    That needs a network which has seen the start of that pass in training. Steps and samples
    stay: they apply whenever a sampler that takes steps is chosen.
    """
    trained = card.training["recipe"]["one_step"] > 0
    one_step = trained and scores["one-step"] >= scores["refined"]
    return card.defaults | ({"sampler": "one-step"} if one_step else {})


def check_folder(folder: Path, recipe: Recipe, resume: bool) -> None:
    """InputError rather than to overwrite a run, or to mix two."""
    check_place(folder)
    noted = folder / "recipe.json"
    if noted.exists():
        if not resume:
            raise InputError(f"{folder} already holds a run; go on with --resume or name another")
        # Fields that came after the first runs.
        added = {"start": "", "xformer": True, "kernel": "bernoulli", "centre": "prior"}
        added |= {"hypotheses": 0, "hold_out": "", "minutes": 0.0}
        before, now = added | _read_json(noted), asdict(recipe)
        other = [name for name in now | before if before.get(name) != now.get(name)]
        if other:
            told = (
                f"{_option(name)} {_value(before, name)}, now {_value(now, name)}" for name in other
            )
            raise InputError(f"{folder} was trained with other settings: {'; '.join(told)}")
    elif resume:
        raise InputError(f"{folder} holds no run to resume")


def check_place(folder: Path) -> None:
    """InputError where a folder is a file, lies in one, or may not be written to; makes none."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise InputError(f"{there}: is a file where a folder is wanted")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{there}: nothing may be written into this folder")


def _option(field: str) -> str:
    """How a field of a recipe is called on the command line."""
    return "--from" if field == "start" else f"--{field.replace('_', '-')}"


def _value(recipe: Mapping[str, Any], field: str) -> str:
    value = recipe.get(field, "")
    return "not given" if value == "" else str(value)


def note_recipe(folder: Path, recipe: Recipe) -> None:
    """Make the run's folder, which is a run from now on, without what a killed one left half."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in folder.rglob(".*.part"):
        with suppress(OSError):
            part.unlink()
    write_json(folder / "recipe.json", asdict(recipe))


def check_cases(folder: Path, splits: Mapping[str, Sequence[Stored]], writes: bool) -> None:
    """Note in a run's folder what it trains on (if ``writes``); InputError that names the case when
    it is resumed with other images, masks or groups."""
    noted = folder / "cases.json"
    now = {
        split: [
            {"id": case.id, "group": case.group, "image": case.digests[0], "mask": case.digests[1]}
            for case in cases
        ]
        for split, cases in splits.items()
    }
    if noted.exists():
        changed = _change(_read_json(noted), now)
        if changed:
            raise InputError(
                f"{folder}: {changed} since the run began: bring back what was there, or start a "
                "new run in another folder"
            )
    elif writes:
        write_json(noted, now)


def _change(before: Mapping[str, Any], now: Mapping[str, list[dict[str, str]]]) -> str | None:
    """The first difference between what two runs train on, or None."""
    for split, cases in now.items():
        rows = (_row(row) for row in before.get(split, ()))
        then = {row["id"]: row for row in rows}
        ids = {row["id"]: None for row in cases}
        for id_ in (*ids, *then):
            if id_ not in then or id_ not in ids:
                came = "was added to" if id_ in ids else "was taken from"
                return f"case {id_} {came} {split}"
        for row in cases:
            for part in ("mask", "image", "group"):
                if then[row["id"]].get(part, row[part]) != row[part]:
                    return f"the {part} of case {row['id']} ({split}) has changed"
    return None


def _row(noted: dict[str, str] | str) -> dict[str, str]:
    """What is noted of a case; runs of earlier versions noted its name alone."""
    return {"id": noted} if isinstance(noted, str) else noted


def _read_json(path: Path) -> dict[str, Any]:
    """An object that :func:`write_json` wrote; InputError for a damaged file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: is not what a run writes there")
    return found


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one."""
    with atomic_write(path) as (part,):
        part.write_text(json.dumps(value, indent=1) + "\n")
