"""The window that the commands open: files or the demo, with the widget docked and preset."""

import numpy as np
import pytest
from napari.layers import Image, Labels
from PIL import Image as Picture

from napari_hidiff._qt import commands
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card
from napari_hidiff.io.images import SAMPLE
from napari_hidiff.masks import Label
from napari_hidiff.plot import Demo, Stage


@pytest.fixture
def demo(sample_pair):
    image, truth = sample_pair
    stages = [Stage("prior", truth, 1.0), Stage("result", np.roll(truth, 3, 0), 0.5)]
    return Demo(image, truth, stages, {"image": SAMPLE})


CARD = Card(
    name="tiny",
    classes=(Label("background", "#000000"), Label("vessel", "#ff4040")),
    channels=("red", "green", "blue"),
)


def test_demo_shows_image_truth_and_result_in_the_colours_of_the_card(make_napari_viewer, demo):
    viewer = make_napari_viewer()
    commands.add_demo(viewer, demo, CARD)
    image, truth, result = (viewer.layers[at] for at in (0, 1, 2))
    assert isinstance(image, Image)
    assert image.rgb
    assert isinstance(truth, Labels)
    assert not truth.visible
    assert result.visible
    np.testing.assert_array_equal(result.data, demo.stages[-1].mask)
    assert viewer.layers.selection.active == result, "the brush is on it"
    widget = next(iter(viewer.window.dock_widgets.values()))
    assert widget.session.timeline.fixed_count == 0
    assert widget.session.begun, "it can be updated at once"
    np.testing.assert_allclose(result.get_color(1), [1, 0x40 / 255, 0x40 / 255, 1], atol=1e-6)


def test_widget_is_docked_and_preset_files_are_opened_and_unreadable_ones_named(
    make_napari_viewer, tmp_path, sample_pair
):
    Picture.fromarray(sample_pair[0][:64, :64]).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("not a picture")
    viewer = make_napari_viewer()
    widget = commands.dock(viewer)
    commands.preset(widget, "cpu", 7)
    assert (widget.settings.device.value, widget.settings.seed.value) == ("cpu", 7)
    commands.preset(widget, None, None)
    assert (widget.settings.device.value, widget.settings.seed.value) == ("cpu", 7)

    commands.add_files(viewer, [tmp_path / "a.png"])
    assert [layer.name for layer in viewer.layers] == ["a"]
    with pytest.raises(InputError, match=r"b\.png: napari cannot open it"):
        commands.add_files(viewer, [tmp_path / "b.png"])


def test_a_window_can_be_opened_here():
    assert commands.window_problem() is None
