"""The line that says whether the chosen model fits."""

import json
import threading
from pathlib import Path

import numpy as np
from commands import call
from PIL import Image

from napari_hidiff import load_model
from napari_hidiff._qt import threads
from napari_hidiff._qt.tasks.model_fit import ModelFit
from napari_hidiff.cli import app
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import Label


def test_no_verdict_about_a_model_that_is_chosen_no_longer(
    open_hand, picture, tiny_file: Path, tmp_path: Path, monkeypatch
) -> None:
    labels = (Label("background", "#000000"), Label("spot", "#ff0000"))
    HiDiff.create(Card("stranger", labels, ("grey",))).save(tmp_path / "stranger.safetensors")
    asked, go, told = threading.Event(), threading.Event(), []
    describe, judge = threads.describe, ModelFit._judge

    def slow(model, image, settings):
        if model.card.name == "stranger":
            asked.set()
            assert go.wait(300)
        return describe(model, image, settings)

    def listen(self, about, problem, line, **kind):
        told.append(line)
        judge(self, about, problem, line, **kind)

    monkeypatch.setattr(threads, "describe", slow)
    monkeypatch.setattr(ModelFit, "_judge", listen)
    hand = open_hand(picture, rgb=True)
    hand.widget.use_model(tmp_path / "stranger.safetensors")
    hand.wait(asked.is_set, "the question about the first model")
    hand.widget.use_model(tiny_file)
    hand.wait(lambda: hand.widget.models.model is not None, "the second model")
    go.set()
    hand.wait(lambda: hand.widget.fit.problem is None, "the verdict")
    hand.quiet()
    assert "Fits this image. Finds vessel." in told[-1]
    assert not [line for line in told if "does not fit" in line]


def test_an_image_of_another_scale_is_resampled_as_in_the_command(
    open_hand, picture, tiny_model: HiDiff, tmp_path: Path
) -> None:
    file = tmp_path / "small.safetensors"
    tiny_model.with_card(longest_side=48).save(file)
    Image.fromarray(picture).save(tmp_path / "picture.png")
    hand = open_hand(picture, file, rgb=True, stepwise=False)
    hand.widget.panel.annotate.after_stroke.setChecked(False)
    hand.widget.fit.keep_choice(False)
    hand.says("Fits this image, resampled to 50% for the model. Finds vessel.")
    hand.click("segment")
    painted = hand.stroke((20, 30), (20, 60))
    assert painted.any()
    hand.click("rerefine")
    kept = hand.fixed >= 0
    np.testing.assert_array_equal(hand.mask.data[kept], hand.fixed[kept])
    hand.mask.undo()
    hand.mask.undo()
    for scale in ((), ("--scale", "1")):
        if scale:
            hand.click("resample")
            hand.says("Fits this image. Finds vessel.")
            hand.click("segment")
        folder = tmp_path / f"out{len(scale)}"
        path = tmp_path / "picture.png"
        made = call(app.refine_main, path, "--model", file, "--output", folder, *scale)
        assert made.returncode == 0, made.stderr
        written = np.asarray(Image.open(folder / "picture_mask.png"))
        np.testing.assert_array_equal(hand.mask.data > 0, written > 0)
        record = json.loads((folder / "picture_steps.json").read_text())
        assert record["scale"] == (1 if scale else 0.5)
    assert hand.widget.session is not None
    runs = [one for one in hand.widget.bench.annotation.log if one["action"] == "run"]
    assert [one.get("scale") for one in runs] == [0.5, 0.5, None]
    alone = load_model(file, device="cpu").refine(picture, scale=1)
    np.testing.assert_array_equal(hand.mask.data > 0, alone.mask > 0)
