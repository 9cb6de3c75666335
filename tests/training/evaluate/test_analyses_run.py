"""Steps, small objects and other data sets by the command, with bundled models on real images."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from napari_hidiff.training.evaluate import cli, study
from napari_hidiff.training.evaluate.study import Records

DRIVE_SIZE = 565, 584


@pytest.fixture
def evaluate(capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The object that the command prints; it is called again and computes nothing then."""
    monkeypatch.setenv("COLUMNS", "160")  # no cell of a table is broken

    def call(*arguments: Any) -> dict[str, Any]:
        words = [*map(str, arguments), "--seeds", "2", "--state", str(tmp_path / "state")]
        monkeypatch.setattr(sys, "argv", ["napari-hidiff-evaluate", *words])
        made: list[Records] = []

        class TiledDenoiser(Records):
            def __init__(self, folder: Path) -> None:
                super().__init__(folder)
                made.append(self)

        monkeypatch.setattr(study, "Records", TiledDenoiser)
        said = []
        for more in (["--json", "--output", str(tmp_path / "x.json")], ["--json"], []):
            monkeypatch.setattr(sys, "argv", ["napari-hidiff-evaluate", *words, *more])
            with pytest.raises(SystemExit) as left:
                cli.main()
            streams = capsys.readouterr()
            assert not left.value.code, streams.err
            said.append(streams.out)
        assert made[0].computed > 0
        assert made[1].computed == made[2].computed == 0
        content = json.loads(said[0])
        assert content | {"command": ""} == json.loads(said[1]) | {"command": ""}
        assert json.loads((tmp_path / "x.json").read_text()) == content
        for picture in content["pictures"]:
            assert (tmp_path / f"x-{picture}").stat().st_size < 300_000
        content["printed"] = said[2]
        return content

    return call


@pytest.mark.slow
def test_steps_of_the_hippocampus(evaluate, real_data):
    data = ["--dataset", "msd", "--data", real_data("Task04_Hippocampus"), "--limit", 2]
    ways = ["--arms", "one-step,ddim-3x1,ddim-3x5"]
    content = evaluate("--experiment", "steps", "--model", "hippocampus", *data, *ways)
    assert content["recommended"] == "one-step"
    assert content["surface"]["unit"] == "mm"
    for arm in content["arms"].values():
        assert 0.8 < arm["mean"]["dice"] < 0.95
        assert 0.5 < arm["mean"]["hd95"] < 3
    seconds = [content["arms"][name]["seconds"] for name in ("one-step", "ddim-3x5")]
    assert 0 < seconds[0] < seconds[1]
    assert "card recommends one-step" in content["printed"]


@pytest.mark.slow
def test_small_parts_of_the_hippocampus(evaluate, real_data):
    data = ["--dataset", "msd", "--data", real_data("Task04_Hippocampus"), "--limit", 5]
    content = evaluate("--experiment", "small-objects", "--model", "hippocampus", *data)
    assert content["unit"] == "mm3"
    assert list(content["classes"]) == ["anterior", "posterior"]
    for part in content["classes"].values():
        quarters = list(part["quarters"].values())
        assert [quarter["n"] for quarter in quarters] == [2, 1, 1, 1]
        sizes = [quarter[end] for quarter in quarters for end in ("from", "to")]
        assert sizes == sorted(sizes)
        assert 500 < sizes[0] < sizes[-1] < 4000
        assert all(0.6 < quarter["dice"]["refined"] < 0.97 for quarter in quarters)
    assert "posterior" in content["printed"]


def write_as_drive(chase: Path, root: Path) -> Path:
    """Two images of CHASE_DB1 as DRIVE has its own: tif, gif masks, a field of view, its size."""
    for number, name in enumerate(("Image_11L", "Image_12R"), 1):
        image = Image.open(chase / f"{name}.jpg").resize(DRIVE_SIZE)
        truth = Image.open(chase / f"{name}_1stHO.png").convert("L").resize(DRIVE_SIZE)
        inside = np.asarray(image).max(2) > 20
        for part in ("images", "1st_manual", "mask"):
            (root / "test" / part).mkdir(parents=True, exist_ok=True)
        image.save(root / "test" / "images" / f"{number:02}_test.tif", compression="tiff_lzw")
        gifs = {
            f"1st_manual/{number:02}_manual1.gif": np.asarray(truth) > 127,
            f"mask/{number:02}_test_mask.gif": inside,
        }
        for path, values in gifs.items():
            grey = Image.fromarray((values * 255).astype(np.uint8))
            grey.save(root / "test" / path, optimize=False)
    return root


@pytest.mark.slow
def test_vessels_of_another_data_set(evaluate, chase_data, tmp_path):
    drive = write_as_drive(chase_data, tmp_path / "DRIVE")
    data = ["--dataset", "drive", "--data", drive]
    content = evaluate("--experiment", "cross-dataset", "--model", "chase-vessels", *data)
    assert content["n"] == 2
    assert content["trained_on"] == "chase"
    assert content["classes"] == {"vessel": "vessel"}
    assert content["own"]["n"] == 8
    assert content["own"]["mean"]["refined"]["dice"] == pytest.approx(0.797, abs=5e-4)
    for scores in content["mean"].values():
        assert 0.55 < scores["dice"] < 0.85
    assert "its own: chase (test, n = 8)" in content["printed"]
