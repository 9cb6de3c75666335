"""The line that says whether the chosen model fits."""

import threading
from pathlib import Path

from napari_hidiff._qt import threads
from napari_hidiff._qt.tasks.model_fit import ModelFit
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
