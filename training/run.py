"""The state that all stages of a training run share, and the checks before the run starts.

A :class:`Run` has the card, the recipe and the folder. The ``check_`` functions refuse a recipe,
a folder or cases that do not fit.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from napari_hidiff.errors import InputError, first_line
from napari_hidiff.inference.card import Card, versions
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.inference.preprocessing import parse_intensity
from napari_hidiff.io.storage import atomic_write
from napari_hidiff.masks import Label
from napari_hidiff.networks.pretrained import start_from_imagenet
from napari_hidiff.networks.segmentor_registry import segmentor_options
from napari_hidiff.training.case_cache import Stored
from napari_hidiff.training.datasets import Dataset
from napari_hidiff.training.losses import RefinerLoss
from napari_hidiff.training.progress import Watch
from napari_hidiff.training.recipes import PROMPTED, Recipe


@dataclass(frozen=True)
class Run:
    """A training run: recipe, card, folder, device and processes, progress, and the model to start
    from, if any."""

    recipe: Recipe
    card: Card
    folder: Path
    accelerator: Accelerator
    watch: Watch
    start: HiDiff | None = None

    @property
    def main(self) -> bool:
        """Whether this is the main process, which writes, validates and prints."""
        answer: bool = self.accelerator.is_main_process
        return answer

    @property
    def place(self) -> dict[str, int]:
        """Rank and number of the processes, for ``crops.batches``."""
        return {
            "rank": self.accelerator.process_index,
            "processes": self.accelerator.num_processes,
        }


def blank_card(recipe: Recipe, dataset: Dataset, command: str) -> Card:
    """The card of a model before training; an evaluation adds scores.

    InputError: an unknown intensity rule or segmentor.
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
        slices=recipe.slices,
    )


def check_recipe(recipe: Recipe, card: Card) -> None:
    """InputError if the recipe cannot be built, before any data are read or written."""
    if recipe.kernel == "gaussian" and recipe.centre != "prior":
        raise InputError("normal noise has no centre to choose: --centre is for --kernel bernoulli")
    if recipe.slices < 1 or recipe.slices % 2 == 0:
        raise InputError(f"--slices is an odd number from 1 on, not {recipe.slices}")
    if recipe.slices > 1 and card.prompted:
        raise InputError(f"--slices is not for {recipe.dataset}, whose model sees one slice")
    try:
        model = HiDiff.create(card)
        if not model.process.binary and model.refiner.output == "eps":
            raise ValueError("eps are flips, and a Gaussian kernel has none: use --predicts y0")
        if not card.prompted:  # whose loss needs no library
            RefinerLoss(model.process, model.classes, recipe.loss, recipe.posterior)
        model.sampling()  # the defaults of the card
        if not recipe.start:
            start_from_imagenet(model.segmentor)
    except ValueError as error:
        raise InputError(str(error)) from error
    if recipe.prior_from and not Path(recipe.prior_from).exists():
        raise InputError(f"{recipe.prior_from}: no such folder of masks or TorchScript file")


def recommended(card: Card, scores: dict[str, float]) -> dict[str, Any]:
    """The card's defaults, with the one-step sampler if it validated as well.

    That needs a network trained on the start of that sampler. Steps and samples stay, for the
    samplers of several steps.
    """
    trained = card.training["recipe"]["one_step"] > 0
    one_step = trained and scores["one-step"] >= scores["refined"]
    return card.defaults | ({"sampler": "one-step"} if one_step else {})


def check_folder(folder: Path, recipe: Recipe, resume: bool) -> None:
    """InputError for a folder with another run, which would be overwritten or mixed."""
    check_place(folder)
    noted = folder / "recipe.json"
    if noted.exists():
        if not resume:
            raise InputError(f"{folder} already holds a run; go on with --resume or name another")
        # Fields that earlier versions lack.
        added = {"start": "", "xformer": True, "kernel": "bernoulli", "centre": "prior"}
        added |= {"hypotheses": 0, "hold_out": "", "minutes": 0.0, "slices": 1}
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
    """InputError if a folder is a file, is inside one, or is not writable; creates nothing."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise InputError(f"{there}: is a file where a folder is wanted")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"{there}: nothing may be written into this folder")


def _option(field: str) -> str:
    """The command-line option of a field of a recipe."""
    return "--from" if field == "start" else f"--{field.replace('_', '-')}"


def _value(recipe: Mapping[str, Any], field: str) -> str:
    value = recipe.get(field, "")
    return "not given" if value == "" else str(value)


def note_recipe(folder: Path, recipe: Recipe) -> None:
    """Create the run's folder with its recipe, and remove partial files of a killed run."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in folder.rglob(".*.part"):
        with suppress(OSError):
            part.unlink()
    write_json(folder / "recipe.json", asdict(recipe))


def check_cases(folder: Path, splits: Mapping[str, Sequence[Stored]], writes: bool) -> None:
    """Compare the cases with those noted in the run's folder, and note them if ``writes``.

    InputError, with the case, for a run resumed with other images, masks or groups.
    """
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
    """The first difference between the cases of two runs, or None."""
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
    """The note of a case; earlier versions noted only its name."""
    return {"id": noted} if isinstance(noted, str) else noted


def _read_json(path: Path) -> dict[str, Any]:
    """An object from :func:`write_json`; InputError for a damaged file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)})") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: is not what a run writes there")
    return value


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    with atomic_write(path) as (part,):
        part.write_text(json.dumps(value, indent=1) + "\n")
