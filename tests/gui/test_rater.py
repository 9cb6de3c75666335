"""The name of who annotates: kept with the strokes, in saved masks, and offered again."""

import pytest
from napari.settings import get_plugin_settings

from napari_hidiff._qt.files import read_layer
from napari_hidiff.annotation import sidecar
from napari_hidiff.annotation.entries import rater_of
from napari_hidiff.io import registry
from napari_hidiff.io.record import RATER

PLUGIN = "napari-hidiff"


@pytest.mark.parametrize("rater", ["Anna Groß", ""])
def test_the_rater_is_in_the_session_and_in_the_mask(open_hand, picture, tmp_path, rater) -> None:
    get_plugin_settings(PLUGIN).work.rater = f" {rater} "
    hand = open_hand(picture, rgb=True)
    hand.use_none()
    hand.click("new_mask")
    hand.stroke((20, 20), (24, 40))
    paths = [tmp_path / "eye_mask.png", tmp_path / "layer_mask.nii.gz"]
    hand.widget.controller.export(paths[0])
    hand.mask.save(str(paths[1]), plugin=PLUGIN)
    for path in paths:
        assert registry.read_labelled(path).rater == rater
        assert read_layer(path)[1]["metadata"].get(RATER, "") == rater
    hand.widget.shut_down()
    (kept,) = sidecar.folder().glob("*.npz")
    assert rater_of(sidecar.load(kept).log) == rater

    get_plugin_settings(PLUGIN).work.rater = "Ben"
    hand = open_hand(picture.copy(), rgb=True)
    hand.use_none()
    hand.wait(lambda: hand.control("go_on").isVisible(), "the offer to resume")
    assert ("by Anna Groß:" in hand.control("kept").text()) == bool(rater)
    hand.click("go_on")
    log = hand.widget.bench.annotation.log
    said = [entry.get("rater") for entry in log if entry["action"] in ("open", "restore")]
    assert said == [rater or None, "Ben"]
    assert rater_of(log) == "Ben"
