"""How each command of the pages is treated: run as it stands, or as far as a test can."""

import argparse
import configparser
import csv
import dataclasses
import functools
import importlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from doc_pages import PAGES, ROOT, Line, command_lines, script
from PIL import Image
from volume_files import write_series

from napari_hidiff.io.storage import SESSIONS
from napari_hidiff.training.evaluate.ablations.variants import ABLATIONS
from napari_hidiff.training.recipes import RECIPES

Call = Callable[..., int]


def run(line: Line, call: Call) -> None:
    """As it stands."""
    assert call(*line.words) == 0


def without_window(line: Line, call: Call) -> None:
    """All but the window at the end."""
    assert call(*line.words, "--no-window") == 0


def up_to_the_window(line: Line, call: Call) -> None:
    """Up to the question whether there is a display; the arguments are checked before."""
    assert call(*line.words) == 2
    assert "QT_QPA_PLATFORM keeps Qt from showing windows" in call.said()  # type: ignore[attr-defined]


def of_a_folder(line: Line, call: Call) -> None:
    """Of a folder that is there, and of its files, up to the window."""
    Path("study").mkdir(exist_ok=True)
    for word in line.words:
        if word.endswith(".png"):
            Path(word).touch()
    up_to_the_window(line, call)


def going_on(line: Line, call: Call) -> None:
    """What a run that was killed in the midst has left is not done again."""
    assert call(*(word for word in line.words if word != "--resume")) == 0
    for name in ("other_mask.png", "other_steps.json"):
        (Path("masks") / name).unlink()
    assert call(*line.words) == 0
    with open("masks/report.csv", encoding="utf-8", newline="") as file:
        became = {Path(row["image"]).stem: row["status"] for row in csv.DictReader(file)}
    assert became == {"photo": "skipped", "other": "done"}


def of_masks(line: Line, call: Call) -> None:
    """Of a folder with one mask, in which there are two squares."""
    mask = np.zeros((20, 30), np.uint8)
    mask[2:6, 2:6] = mask[10:12, 10:12] = 1
    Path("masks").mkdir(exist_ok=True)
    Image.fromarray(mask).save("masks/squares_mask.png")
    assert call(*line.words) == 0
    with open("sizes.csv", encoding="utf-8-sig", newline="") as file:
        rows = [row["pixels"] for row in csv.DictReader(file) if "squares" in row["file"]]
    assert rows == ["20", "16", "4"]


def of_two_raters(line: Line, call: Call) -> None:
    """Of one mask each, in a folder of each; with an image up to the window."""
    mask = np.zeros((20, 30), np.uint8)
    for rater in ("anna", "ben"):
        mask[2:6, 2:6] += 1
        Path(rater).mkdir(exist_ok=True)
        Image.fromarray(mask).save(f"{rater}/eye_mask.png")
    Image.fromarray(mask).save("eye.png")
    if "--image" in line.words:
        return up_to_the_window(line, call)
    assert call(*line.words) == 0
    if "--output" in line.words:
        with open("agreement.csv", encoding="utf-8-sig", newline="") as file:
            assert [row["Dice"] for row in csv.DictReader(file)] == ["0.000", "0.000"]


def with_a_box(line: Line, call: Call) -> None:
    """As it stands where LiteMedSAM is installed, and else up to the line that says how to."""
    from napari_hidiff.inference.lite_medsam import is_installed

    assert call(*line.words) == (0 if is_installed() else 2)
    if not is_installed():
        assert "install it with: pip install" in call.said()  # type: ignore[attr-defined]


def as_a_dicom_segmentation(line: Line, call: Call) -> None:
    """As it stands where highdicom is installed, and else up to the line that says how to."""
    from napari_hidiff.io.dicom.segmentation import is_installed

    write_series(Path("mri"), np.arange(3 * 40 * 48, dtype=np.uint16).reshape(3, 40, 48))
    assert call(*line.words) == (0 if is_installed() else 2)
    if not is_installed():
        assert "install it with: pip install" in call.said()  # type: ignore[attr-defined]
    assert Path("masks/mri_mask.dcm").exists() == is_installed()


def on_a_cluster(line: Line, call: Call) -> None:
    """On a scheduler and a worker of this machine, both in this process."""
    from distributed import LocalCluster

    named = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
    named |= {"processes": False, "protocol": "tcp"}
    with LocalCluster(host="127.0.0.1", **named) as cluster:
        words = [cluster.scheduler_address if "HOST" in word else word for word in line.words]
        assert call(*words) == 0


def of_dask(line: Line, call: Call) -> None:
    """A command of dask's own: its own parser reads the arguments."""
    (command,) = importlib.metadata.entry_points(group="dask_cli", name=line.words[1])
    command.load().make_context(line.words[1], list(line.words[2:]))


def after_a_session(line: Line, call: Call) -> None:
    """A session is there to be repeated: of a picture, or of volumes that are one channel each."""
    from sessions import record

    from napari_hidiff import load_model
    from napari_hidiff.inference.stack import Stack

    named = line.words[line.words.index("--model") + 1] if "--model" in line.words else None
    model = load_model(named or "chase-vessels", device="cpu")
    volumes = [word for word in line.words if word.endswith(".nii.gz")]
    if volumes:
        rng = np.random.default_rng(0)
        arrays = list(rng.integers(0, 900, (len(volumes), 3, 48, 64)).astype(np.int16))
        for name, array in zip(volumes, arrays, strict=True):
            nibabel.save(nibabel.Nifti1Image(array.T, np.eye(4)), name)
        stack, index = Stack(arrays, "apart"), (1, -1, -1)
    else:
        picture = next(word for word in line.words if word.endswith(".png"))
        arrays = [np.asarray(Image.open(picture))]
        stack, index = Stack(arrays, "last"), (-1, -1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SESSIONS, str(Path("kept").absolute()))
        kept, mask = record(model, stack, arrays[0], index)
        if line.words[2].endswith(".npz"):
            shutil.copy(kept, line.words[2])
        assert call(*line.words) == 0
    if "--output" in line.words:
        written = np.asarray(Image.open(line.words[line.words.index("--output") + 1]))
        np.testing.assert_array_equal(written, mask)


def check_or_dry_run(line: Line, call: Call) -> None:
    """Training: the data are found and the recipe is resolved; only --check does all it does."""
    done = {"--check", "--dry-run"} & set(line.words)
    assert call(*line.words, *(() if done else ("--dry-run",))) == 0


def with_a_split(line: Line, call: Call) -> None:
    """Training on a split of the cases that are there."""
    from napari_hidiff.training.datasets import open_dataset

    words = dict(pairwise(line.words))
    found = open_dataset(words["--dataset"], Path(words["--data"]) if "--data" in words else None)
    split = {name: [case.id for case in cases] for name, cases in found.splits.items()}
    file = Path(words["--split-file"])
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(split))
    check_or_dry_run(line, call)


def after_adding_it(line: Line, call: Call) -> None:
    """On a model that is among one's own."""
    assert call("napari-hidiff", "models", "add", "mine.safetensors", "--name", line.words[3]) == 0
    assert call(*line.words) == 0


def publishing(line: Line, call: Call) -> None:
    """On a model whose card names what it was trained on, as cards of training do."""
    from napari_hidiff import load_model

    assert line.words[3] == "mine.safetensors"
    path = Path(line.words[3])
    model = load_model(path, device="cpu")
    path.unlink()  # a link into what the tests share
    cases = sorted(image.stem for image in Path("mine/images").iterdir())[:2]
    model.with_card(training={"cases": {"train": cases}}).save(path)
    done = subprocess.run([sys.executable, *line.words[1:]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def on_one_image(line: Line, call: Call) -> None:
    """An evaluation of one image with one seed, and one stroke where strokes are painted.

    Only the first line of an experiment is run; the others differ from it in model and data, and
    the parser reads them."""
    if "--experiment" in line.words and str(line) not in first_of_each_experiment():
        return read(line, call)
    few = ["--limit", "1", "--seeds", "1"]
    if {"interactive", "first-images"} & set(line.words):
        few += ["--strokes", "1"]
    assert call(*line.words, *few) == 0


@functools.cache
def first_of_each_experiment() -> set[str]:
    """The first line of the pages for each experiment."""
    found: dict[str, str] = {}
    for page in PAGES:
        for line in command_lines(page):
            if line.words[0] == "napari-hidiff-evaluate" and "--experiment" in line.words:
                name = line.words[line.words.index("--experiment") + 1]
                found.setdefault(name, str(line))
    return set(found.values())


def read(line: Line, call: Call) -> None:
    """Read by the command's own parser, which checks names, choices and files."""
    name, *words = line.words
    script("make_pages").parser_of(name).make_context(name, words)


def tabulated(line: Line, call: Call) -> None:
    """A study that trains for hours: everything but the trainings, which are not there."""
    if "--first-stage" in line.words:
        run = Path(line.words[line.words.index("--first-stage") + 1])
        run.mkdir(parents=True, exist_ok=True)
        recipe = dataclasses.asdict(RECIPES[line.words[line.words.index("--dataset") + 1]])
        (run / "recipe.json").write_text(json.dumps(recipe), encoding="utf-8")
        (run / "segmentor.pt").touch()
    Path("results").mkdir(exist_ok=True)
    assert call(*line.words, "--kept") == 0


def of_several_processes(line: Line, call: Call) -> None:
    """What accelerate would start, in one process."""
    assert line.words[:4] == ("accelerate", "launch", "-m", "napari_hidiff.training")
    assert importlib.util.find_spec("napari_hidiff.training.__main__")
    check_or_dry_run(Line(line.page, ("napari-hidiff-train", *line.words[4:])), call)


def parsed(line: Line, call: Call) -> None:
    """A benchmark: its own parser reads the arguments."""
    module = importlib.import_module(line.words[2])
    arguments = list(line.words[3:])
    if "typer" in vars(module):
        import typer

        app = typer.Typer()
        app.command()(module.main)
        typer.main.get_command(app).make_context(line.words[2], arguments)
        return

    class Enough(Exception):
        pass

    read = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser, *_: Any) -> None:
        read(parser, arguments)
        raise Enough

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        with pytest.raises(Enough):
            module.main()


def shell_script(line: Line, call: Call) -> None:
    """A script of the repository: it is there, it can be run, and bash can read it."""
    file = ROOT / line.words[0]
    assert os.access(file, os.X_OK)
    assert subprocess.run(["bash", "-n", str(file)], check=False).returncode == 0


def target_of_make(line: Line, call: Call) -> None:
    """Make knows the target and what it needs."""
    done = subprocess.run(["make", "-n", *line.words[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def packages_of_ci(line: Line, call: Call) -> None:
    """The system packages are those that CI installs."""
    ci = re.search(r"packages=\((.*?)\)", (ROOT / ".ci" / "run").read_text(), re.DOTALL)
    assert ci is not None
    assert set(line.words[3:]) == set(ci[1].split()) - {"make"}


def extras_exist(line: Line, call: Call) -> None:
    """What pip is told to install is there: extras, constraints."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    for word in line.words:
        if found := re.search(r"\[(.*)\]", word):
            assert set(found[1].split(",")) <= set(setup["options.extras_require"])
        if word.endswith(".txt"):
            assert (ROOT / word).is_file()


def of_venv(line: Line, call: Call) -> None:
    """The environment is made, and the file is there that activates it."""
    *made, then, dot, script = line.words[1:]
    assert (then, dot) == ("&&", ".")
    done = subprocess.run([sys.executable, *made, "--without-pip"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert os.name == "nt" or Path(script).is_file()


def torch_of_an_index(line: Line, call: Call) -> None:
    """Not run: it would replace torch. Names and options are those of pip's own parser."""
    assert line.words[:3] == ("pip", "install", "torch")
    assert set(line.words[3:-2]) <= {"torchvision"}
    assert line.words[-2:] == ("--index-url", "https://download.pytorch.org/whl/cpu")


def on_a_screen(line: Line, call: Call) -> None:
    """What is started on a virtual screen."""
    treat(Line(line.page, line.words[2:]), call)


def of_napari(line: Line, call: Call) -> None:
    """A command of napari's own."""
    done = subprocess.run([sys.executable, "-m", *line.words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "napari" in done.stdout


TREATMENTS: list[tuple[str, Callable[[Line, Call], None]]] = [
    (r"napari-hidiff demo .*--no-window", run),
    (r"napari-hidiff demo", without_window),
    (r"napari-hidiff export ", run),
    (r"napari-hidiff models remove ", after_adding_it),
    (r"napari-hidiff models", run),
    (r"napari-hidiff replay ", after_a_session),
    (r"napari-hidiff sizes ", of_masks),
    (r"napari-hidiff compare ", of_two_raters),
    (r"napari-hidiff [\w./-]+\.(jpg|png|tif|nii\.gz)$", up_to_the_window),
    (r"napari-hidiff (study/|--queue study/case1.png study/case2.png)$", of_a_folder),
    (r"napari-hidiff-refine .*--resume", going_on),
    (r"napari-hidiff-refine .*--dask", on_a_cluster),
    (r"napari-hidiff-refine .*--box", with_a_box),
    (r"napari-hidiff-refine .*--dicom-seg", as_a_dicom_segmentation),
    (r"napari-hidiff-refine ", run),
    (r"dask (scheduler|worker)", of_dask),
    (r"napari-hidiff-train .*--split-file ", with_a_split),
    (r"napari-hidiff-train ", check_or_dry_run),
    (rf"napari-hidiff-evaluate --experiment ({'|'.join(ABLATIONS)}) ", tabulated),
    # models that are trained first
    (r"napari-hidiff-evaluate --model runs/(hippocampus|chase-8-20)/", read),
    (r"napari-hidiff-evaluate ", on_one_image),
    (r"accelerate launch -m ", of_several_processes),
    (r"python -m benchmarks\.", parsed),
    (r"benchmarks/\w+\.sh ", shell_script),
    (r"python -m napari_hidiff\.training\.publish ", publishing),
    (r"make [a-z]+$", target_of_make),
    (r"sudo apt-get install ", packages_of_ci),
    (r"python3\.11 -m venv ", of_venv),
    (r"pip install torch ", torch_of_an_index),
    (r"pip install ", extras_exist),
    (r"xvfb-run -a ", on_a_screen),
    (r"napari --info$", of_napari),
]
"""Pattern of a command, and what is done with it; the first that matches."""


def treat(line: Line, call: Call) -> None:
    for pattern, treatment in TREATMENTS:
        if re.match(pattern, str(line)):
            return treatment(line, call)
    raise AssertionError(f"{line.page}: nothing in TREATMENTS matches {str(line)!r}")
