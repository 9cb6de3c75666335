"""Turn a run's model into a bundled one: a name, a summary, its measured scores.

``python -m napari_hidiff.training.publish runs/chase/model.safetensors --name chase-vessels
--output napari_hidiff/models`` and, once the test split has been evaluated, the same on the
published file with ``--scores results/chase-vessels-test.json`` and, for the value of strokes,
``--interactive results/chase-vessels-interactive.json``. Weights are never touched.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import typer

from napari_hidiff.cli.console import new_app, run
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.catalog import load_model
from napari_hidiff.inference.ood import image_statistics
from napari_hidiff.io.storage import atomic_write
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.datasets.base import common_spacing

LARGEST = 12_000_000
"""Largest size of a bundled model in bytes."""

ARM = ("after", "nauc", "as_painting", "lowered", "changed_off_stroke", "fixed_changed", "seconds")
"""Scores on a card of an arm of the simulated annotator."""

app = new_app()


def scores_of(report: dict[str, Any]) -> dict[str, Any]:
    """The scores of an evaluation for a card: means, the difference, and its settings."""
    keys = ("dataset", "split", "n", "seeds", "settings", "surface", "mean", "difference")
    return {key: report[key] for key in (*keys, "damage", "command", "versions") if key in report}


def interactive_scores_of(report: dict[str, Any]) -> dict[str, Any]:
    """The scores of the simulated annotator for a card: every arm, without curves of cases."""
    keys = ("dataset", "split", "n", "strokes", "seeds", "longest_side", "command", "versions")
    arms = {
        name: {figure: arm[figure] for figure in ARM if figure in arm}
        for name, arm in report["arms"].items()
    }
    ahead = report["differences"]["refine_minus"]
    return {key: report[key] for key in keys} | {"arms": arms, "refine_minus": ahead}


def prompted_scores_of(report: dict[str, Any]) -> list[dict[str, Any]]:
    """What the card of a prompted model says of the simulated annotator: a row per set, with Dice
    after 1, 2, ... strokes."""
    rows = []
    for name, part in report["by_set"].items():
        own = [case["stroke"] for case in report["cases"] if case["id"].startswith(f"{name}/")]
        kinds = " or ".join(sorted({kind for kinds in own for kind in kinds}))
        dice = [round(value, 4) for value in part["arms"]["refine"]["dice"][1:]]
        rows.append({"set": name, "strokes": kinds, "n": part["n"], "dice": dice})
    return rows


def training_looks(card: Card, dataset: str, data: Path | None) -> dict[str, Any]:
    """The ``looks`` of a card: statistics of exactly its training cases; and its ``spacing``, the
    median of theirs in mm (y, x), None where one does not state it. InputError if one is missing.
    """
    found = replace(open_dataset(dataset, data), longest_side=card.longest_side)
    cases = {case.id: case for cases in found.splits.values() for case in cases}
    trained = card.training["cases"]["train"]
    if missing := [case for case in trained if case not in cases]:
        raise InputError(f"{missing[0]}, which {card.name} was trained on, is not in {found.root}")
    spacings: list[tuple[float, ...] | None] = []

    def images() -> Iterator[np.ndarray]:
        for case in trained:
            sample = found.load(cases[case])
            spacings.append(sample.spacing)
            yield sample.image

    looks = image_statistics(images(), card.channels)
    return {"looks": looks, "spacing": common_spacing(spacings)}


@app.command()
def publish_command(
    model: Annotated[Path, typer.Argument(metavar="FILE", help="A trained model.")],
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the published model.")],
    name: Annotated[str | None, typer.Option(help="Name of the published model.")] = None,
    summary: Annotated[str | None, typer.Option(help="One line: what it segments.")] = None,
    scores: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON that napari-hidiff-evaluate --output wrote."),
    ] = None,
    interactive: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="JSON that napari-hidiff-evaluate --experiment interactive --output wrote.",
        ),
    ] = None,
    looks: Annotated[
        str | None,
        typer.Option(
            metavar="DATASET",
            help="Note what the images look like that the model was trained on, and their spacing.",
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The folder of that data set.")] = None,
    note: Annotated[
        str | None, typer.Option(help="What a reader of the card should know of the training.")
    ] = None,
    command: Annotated[
        str | None, typer.Option(help="The command that trained it, without this machine's paths.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights.")] = None,
    attribution: Annotated[
        str | None, typer.Option(help="Whose data it was trained on, under which licences.")
    ] = None,
    export: Annotated[
        bool,
        typer.Option(
            "--export",
            help="Store binary weights as signs: a third of the size, but not to be trained on.",
        ),
    ] = False,
) -> None:
    """Write a model under a name, with the scores of an evaluation on its card."""
    loaded = load_model(model, device="cpu", engine="torch")
    if not (export or loaded.card.prompted):
        loaded.check_trainable()  # a bundled model can be fine-tuned
    texts = {"summary": summary, "licence": licence, "attribution": attribution}
    changes: dict[str, Any] = {key: text for key, text in texts.items() if text is not None}
    changes["name"] = name or loaded.card.name
    about = {"note": note, "command": command}
    training = loaded.card.training | {key: text for key, text in about.items() if text is not None}
    known = loaded.card.scores
    if loaded.card.prompted and "validation" in training:  # its training scores it
        known = known | {"prompted": training.pop("validation")}
    changes["training"] = training
    if scores is not None:
        strokes = {key: known[key] for key in ("interactive",) if key in known}
        known = scores_of(json.loads(scores.read_text())) | strokes
    if interactive is not None and loaded.card.prompted:
        report = json.loads(interactive.read_text())
        known = known | {"prompted": prompted_scores_of(report), "command": report["command"]}
    elif interactive is not None:
        known = known | {"interactive": interactive_scores_of(json.loads(interactive.read_text()))}
    changes["scores"] = known
    if looks is not None:
        changes |= training_looks(loaded.card, looks, data)
    path = output / f"{changes['name']}.safetensors"
    with TemporaryDirectory() as folder:  # an older one stays until the new one is known to fit
        written = Path(folder) / path.name
        loaded.with_card(**changes).save(written, export)
        size = written.stat().st_size
        if size > LARGEST:
            raise InputError(
                f"{path} would have {size / 1e6:.1f} MB; at most {LARGEST / 1e6:.0f} are bundled"
            )
        with atomic_write(path) as (part,):
            part.write_bytes(written.read_bytes())
    print(f"{path}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    run(app, "napari_hidiff.training.publish")
