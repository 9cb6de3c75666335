"""What *File > Open Sample > HiDiff* opens: real images, each with its truth as a hidden layer."""

from importlib.resources import as_file, files
from typing import Any

from napari.utils import DirectLabelColormap

from napari_hidiff.io import images
from napari_hidiff.io.nifti import read_volume

LayerTuple = tuple[Any, dict[str, Any], str]

CASE = "hippocampus_243"
"""A test case of the bundled model ``hippocampus``; see ``samples/ATTRIBUTION.txt``."""

COLOURS: dict[int | None, str] = {1: "#ff4040", 2: "#40a0ff"}
"""Of the truth, as on the cards of the bundled models."""


def fundus() -> list[LayerTuple]:
    """A fundus photograph [960, 999, 3] and its vessels, for the model ``chase-vessels``."""
    image, truth = images.sample()
    return [(image, {"name": "fundus", "rgb": True}, "image"), _truth(truth, "fundus", {})]


def hippocampus() -> list[LayerTuple]:
    """A T1 MRI [24, 53, 34] (Z, Y, X) and its two classes, for the model ``hippocampus``."""
    with as_file(files("napari_hidiff") / "samples") as folder:
        image = read_volume(folder / f"{CASE}.nii.gz")
        truth = read_volume(folder / f"{CASE}_label.nii.gz").array.astype("uint8")
    place = {"scale": image.spacing, "units": "mm", "axis_labels": ("z", "y", "x")}
    named = {"name": "hippocampus", **place}
    return [
        (image.array, named, "image"),
        _truth(truth, "hippocampus", place),
    ]


def _truth(mask: Any, name: str, place: dict[str, Any]) -> LayerTuple:
    colours = {None: "transparent", 0: "transparent"} | COLOURS
    kwargs = {
        "name": f"{name} truth",
        "visible": False,
        "colormap": DirectLabelColormap(color_dict=colours),
        **place,
    }
    return mask, kwargs, "labels"
