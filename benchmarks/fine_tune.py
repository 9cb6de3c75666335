"""Is fine-tuning on a few corrected images worth it?

    python -m benchmarks.fine_tune [--data CHASEDB1] [--work DIR] [--seeds 3] [--start 400 300]
                                   [--output FILE]

CHASE_DB1 at half size, its 20 training images only; the 8 test images are not touched. A small
model is trained from scratch on the 4 images of children 1 and 2. It is then fine-tuned, by the
command that the widget starts and with its defaults, on the 8 images of children 3 to 6, whose
true masks stand for corrections; and, for as many iterations, on the 4 old images again. Both are
scored on the 8 images of children 7 to 10, which nothing was trained on. The arms are
repeated with several seeds; the intervals are over images, of the means over seeds. The start is
weak by default, its training short; ``--start`` trains it longer.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from napari_hidiff.inference.card import versions
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.evaluate.metrics import paired_bootstrap
from napari_hidiff.training.fine_tuning import TUNE

HALF = 500
"""Pixels of the longer side."""
CHILDREN = {"old": (1, 2), "corrected": (3, 4, 5, 6), "held out": (7, 8, 9, 10)}
START = {
    "size": "quick",
    "crop": 128,
    "folds": 0,
    "pretrain_iterations": 400,
    "iterations": 300,
    "validate_every": 300,
    "workers": 0,
}
"""The weak start: few images, few iterations unless ``--start`` says otherwise."""


def write_images(data: Path | None, folder: Path) -> None:
    """The training images at half size, in the layout ``folder``."""
    dataset = replace(open_dataset("chase", data), longest_side=HALF)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "classes.txt").write_text("vessel\n", encoding="utf-8")
    for case in (*dataset.splits["train"], *dataset.splits["val"]):
        sample = dataset.load(case)
        Image.fromarray(sample.image.astype(np.uint8)).save(folder / "images" / f"{case.id}.png")
        Image.fromarray(sample.mask).save(folder / "masks" / f"{case.id}.png")


def ids(group: str) -> list[str]:
    """Both eyes of the children of a group."""
    return [f"Image_{child:02}{eye}" for child in CHILDREN[group] for eye in "LR"]


def train(folder: Path, run: Path, split: dict[str, list[str]], **options: Any) -> dict[str, Any]:
    """One run of the real command, unless it is there from before; its report and seconds."""
    seconds = run / "seconds.json"
    if not seconds.exists():
        run.parent.mkdir(parents=True, exist_ok=True)
        listed = run.with_suffix(".json")
        listed.write_text(json.dumps(split))
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        command = [sys.executable, "-m", "napari_hidiff.training.cli", "--dataset=folder"]
        command += [f"--data={folder}", f"--output={run}", f"--split-file={listed}", *flags]
        began = time.monotonic()
        subprocess.run([*command, "--device=cpu"], check=True, stdin=subprocess.DEVNULL)
        seconds.write_text(json.dumps(time.monotonic() - began))
    report: dict[str, Any] = json.loads((run / "report.json").read_text())
    return report | {"seconds": json.loads(seconds.read_text())}


def measure(data: Path | None, work: Path, seeds: int, beginning: dict[str, Any]) -> dict[str, Any]:
    """All runs, and what came of them; ``beginning`` is how the start is trained."""
    folder = work / "data"
    write_images(data, folder)
    start = train(folder, work / "start", {"train": ids("old"), "val": []}, **beginning)
    model = work / "start" / "model.safetensors"
    arms: dict[str, list[dict[str, Any]]] = {"corrected": [], "old": []}
    for seed in range(seeds):
        for arm, reports in arms.items():
            split = {"train": ids(arm), "val": ids("held out")}
            options = {"from": model, "seed": seed, "validate_every": 1000}
            reports.append(train(folder, work / f"{arm}-{seed}", split, **options))

    def dice(reports: list[dict[str, Any]], when: str, mask: str) -> np.ndarray:
        rows = [[case[when][mask] for case in r["held_out"]["cases"]] for r in reports]
        return np.mean(rows, 0)  # type: ignore[no-any-return]

    found: dict[str, Any] = {}
    for mask in ("prior", "refined"):
        before = dice(arms["corrected"], "before", mask)
        tuned, again = (dice(arms[arm], "after", mask) for arm in ("corrected", "old"))
        found[mask] = {
            "start": float(before.mean()),
            "tuned on 8 corrected": float(tuned.mean()),
            "as long on the 4 old": float(again.mean()),
            "tuned minus start": paired_bootstrap(tuned - before)._asdict(),
            "tuned minus old": paired_bootstrap(tuned - again)._asdict(),
            "old minus start": paired_bootstrap(again - before)._asdict(),
            "images": {
                case["id"]: [round(float(v), 4) for v in values]
                for case, *values in zip(
                    arms["old"][0]["held_out"]["cases"], before, tuned, again, strict=True
                )
            },
        }
    took = {arm: [round(r["seconds"]) for r in reports] for arm, reports in arms.items()}
    return {"dice": found, "seconds": {"start": round(start["seconds"]), **took}}


def main() -> None:
    """Measure, print, and write the report."""
    parser = argparse.ArgumentParser(prog="benchmarks.fine_tune", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", type=Path, help="CHASE_DB1; else as for the other commands")
    parser.add_argument("--work", type=Path, default=Path("out/fine-tune"), help="for the runs")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions of both arms")
    usual = [START["pretrain_iterations"], START["iterations"]]
    help_of_start = "iterations of the start: of its segmentor, of its refiner (400 300)"
    parser.add_argument("--start", type=int, nargs=2, default=usual, help=help_of_start)
    parser.add_argument("--output", type=Path, default=Path("results/fine-tune.json"))
    options = parser.parse_args()
    segmentor, refiner = options.start
    lengths = {"pretrain_iterations": segmentor, "iterations": refiner, "validate_every": refiner}
    beginning = START | lengths
    changed = f" --start {segmentor} {refiner}" if options.start != usual else ""
    report = {
        "command": f"python -m benchmarks.fine_tune --seeds {options.seeds}{changed}",
        "data": "CHASE_DB1, training images at 500 pixels",
        "images": {name: ids(name) for name in CHILDREN},
        "start": beginning,
        "tune": TUNE,
        "versions": versions(),
        **measure(options.data, options.work, options.seeds, beginning),
    }
    options.output.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report["dice"]["refined"], indent=1))


if __name__ == "__main__":
    main()
