"""Medical Segmentation Decathlon: any task by its dataset.json.

Antonelli et al. 2022, https://doi.org/10.1038/s41467-022-30695-9.  Only the owner's training cases
have a truth; they are dealt 70 / 15 / 15 by case, always in the same way.
"""

import json
from pathlib import Path
from typing import Any

from napari_hidiff.errors import InputError
from napari_hidiff.io.nifti import stem

from .base import Case, Dataset, DatasetFormat, palette, read_nifti
from .splits import random_split

ABDOMEN = {"rule": "window", "low": -125.0, "high": 275.0}
LUNG = {"rule": "window", "low": -1000.0, "high": 400.0}
MRI = {"rule": "zscore"}


def open_msd(root: Path, seed: int = 0, rule: str = "cases") -> Dataset:
    """Read the task that ``dataset.json`` describes; InputError if it describes none."""
    del rule  # there is one
    path = root / "dataset.json"
    try:
        task: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        labels = {int(code): str(name) for code, name in task["labels"].items()}
        channels = tuple(task["modality"][key] for key in sorted(task["modality"], key=int))
        pairs = [(root / row["image"], root / row["label"]) for row in task["training"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not the description of a Decathlon task ({error!r})") from error
    pairs = [pair for pair in pairs if not pair[0].name.startswith(".")]
    if not pairs:
        raise InputError(f"{path}: lists no training case")
    cases = [Case(stem(image), stem(image), (image,), mask) for image, mask in pairs]
    classes = tuple(labels[code].lower() for code in sorted(labels))
    task_name = str(task.get("name", root.name))
    return Dataset(
        name="msd",
        classes=classes,
        channels=channels,
        colors=palette(len(classes)),
        licence=str(task.get("licence", "CC BY-SA 4.0")),
        attribution=f"Medical Segmentation Decathlon, {task_name}, "
        f"{task.get('reference', 'its contributors')}; Antonelli et al. 2022, "
        "doi 10.1038/s41467-022-30695-9",
        splits=random_split(cases, seed),
        intensity=_intensity(channels, task_name),
        codes={code: label for label, code in enumerate(sorted(labels))},
        reader=read_nifti,
    )


def _intensity(channels: tuple[str, ...], task: str) -> dict[str, Any]:
    if "CT" not in channels:
        return MRI
    return LUNG if "lung" in task.lower() else ABDOMEN


MSD = DatasetFormat(
    name="msd",
    title="Medical Segmentation Decathlon, any task",
    folders=(),
    layout="a task's folder, such as Task04_Hippocampus, with dataset.json, imagesTr/*.nii.gz and "
    "labelsTr/*.nii.gz",
    offered="the Decathlon is offered at http://medicaldecathlon.com/",
    recognise=lambda root: (root / "dataset.json").is_file() and (root / "imagesTr").is_dir(),
    open=open_msd,
    rules=("cases",),
)
