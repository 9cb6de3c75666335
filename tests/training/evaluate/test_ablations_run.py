"""Every study from end to end on real slices, with a handful of iterations."""

import json
import shutil
from pathlib import Path

import nibabel
import pytest
from commands import evaluate as run_command

from napari_hidiff.training import trainer, validation
from napari_hidiff.training.evaluate.ablations import run as scored
from napari_hidiff.training.evaluate.ablations import trainings
from napari_hidiff.training.evaluate.ablations.report import report
from napari_hidiff.training.evaluate.ablations.variants import ABLATIONS
from napari_hidiff.training.evaluate.output import page

TINY = (
    *("iterations=1", "batch=2", "crop=32", "workers=0", "validate_cases=1", "precision=fp32"),
    *("pretrain_iterations=1", "fold_iterations=1", "width=32", "stem=2"),
)


ROWS = {
    "refiner-control": ("ours", "control"),
    "output": ("ours", "eps-focal", "paper-longer"),
    "ablation": ("v1", "ours", "kl-mixture", "berdiff", "gaussian"),
    "segmentors": ("unet", "segresnet"),
}
"""The rows that are run: of each kind of change one; a row takes two seconds."""


IDS = [f"hippocampus_{number:03}" for number in (1, 3, 4, 6, 7)]
SLICES = slice(16, 18)


@pytest.fixture(scope="module")
def hippocampus(real_data, tmp_path_factory):
    """Arguments that name two slices of a few real cases, and a folder that studies share."""
    source, folder = real_data("Task04_Hippocampus"), tmp_path_factory.mktemp("experiments")
    root = folder / "Task04_Hippocampus"
    known = json.loads((source / "dataset.json").read_text())
    known["training"] = [case for case in known["training"] if Path(case["image"]).stem[:15] in IDS]
    for part in ("imagesTr", "labelsTr"):
        (root / part).mkdir(parents=True)
        for name in IDS:
            volume = nibabel.load(source / part / f"{name}.nii.gz")
            nibabel.save(volume.slicer[..., SLICES], root / part / f"{name}.nii.gz")
    (root / "dataset.json").write_text(json.dumps(known))
    split = {"train": IDS[:2], "val": IDS[2:3], "test": IDS[3:]}
    (folder / "split.json").write_text(json.dumps(split))
    data = ["--dataset", "msd", "--data", root, "--split-file", folder / "split.json"]
    settings = [part for setting in TINY for part in ("--set", setting)]
    yield [*data, *settings, "--seeds", 1, "--state", folder / "state"]
    shutil.rmtree(folder)  # a gigabyte of checkpoints


@pytest.mark.slow
@pytest.mark.parametrize("name", ABLATIONS)
def test_a_study_runs_whole_and_then_does_no_work(name, hippocampus, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(validation, "PLANES", 1)
    monkeypatch.setattr(trainings, "TRIES", 1)
    output = tmp_path / "table.json"
    arguments = ["--experiment", name, *hippocampus, "--output", output]
    arguments += ["--rows", ",".join(ROWS[name])]
    status, out, err = run_command(capsys, monkeypatch, *arguments)
    assert status == 0, err
    content = json.loads(output.read_text())
    variants = ABLATIONS[name].variants
    assert [row["name"] for row in content["rows"]] == [variant.name for variant in variants]
    for row, variant in zip(content["rows"], variants, strict=True):
        if variant.name not in ROWS[name]:
            assert not row["cells"]
            continue
        assert set(row["cells"]) == {"prior", *variant.settings}
        assert row["seeds"] == [0]
        for way, cell in row["cells"].items():
            assert 0 <= cell["dice"] <= 1
            given = [case[way][0] for case in content["images"][row["name"]].values()]
            assert cell["dice"] == pytest.approx(sum(given) / 2, abs=2e-6)
        assert row["name"] in out
    assert content["n"] == 2
    skipped = len(variants) - len(ROWS[name])
    assert page(content, report(content)).count("not run") == skipped
    assert "to do: about" in err or name == "refiner-control"
    for picture in content["pictures"]:
        assert output.with_name(f"table-{picture}").stat().st_size > 1000

    def never(*args, **kwargs):
        raise AssertionError("everything was done before")

    monkeypatch.setattr(trainer, "train", never)
    monkeypatch.setattr(scored, "score_case", never)
    status, again, err = run_command(capsys, monkeypatch, *arguments, "--json")
    assert status == 0, err
    assert "nothing was left to do" in err
    content.pop("command"), (repeated := json.loads(again)).pop("command")
    assert repeated == content
