"""Files as layers and layers as files: napari's readers and writers of this package.

What *File > Open Sample > HiDiff* opens: real images, each with its truth as a hidden layer.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Labels, Layer
from napari.utils import DirectLabelColormap

from napari_hidiff.errors import InputError
from napari_hidiff.io import dicom, images, npz, record, registry
from napari_hidiff.io.images import read_image
from napari_hidiff.io.nifti import read_volume, stem
from napari_hidiff.io.volume import KEY, Source, Volume, fitting
from napari_hidiff.io.write import write_labels
from napari_hidiff.masks import Label

LayerData = tuple[np.ndarray, dict[str, Any], str]
Reader = Callable[[str | list[str]], list[LayerData]]

PLACE = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
"""What a layer lies by; a mask brings all of it back when it is opened again."""
PATH = "napari-hidiff-path"
"""The key in a layer's metadata of the file of a picture, which has no other facts."""


def get_reader(path: str | list[str]) -> Reader | None:
    """napari's reader for a path: NIfTI, DICOM, NRRD, NPZ with an image, masks; None for others.

    A list (*Open files as stack*) is read if all its files are DICOM: as one series.
    """
    if isinstance(path, list):
        whole = all(registry.kind_of(Path(one)) == "dicom" for one in path)
        return _read_files if whole else None
    file = Path(path)
    kind = registry.kind_of(file)
    wanted = {
        "nifti": file.is_file(),
        "dicom": True,
        "nrrd": file.is_file(),
        "metaimage": file.is_file(),
        "npz": npz.main_array(file) is not None if file.is_file() else False,
        "tiff": registry.is_named_mask(file),
        "png": registry.is_named_mask(file),
    }
    return _read_files if kind is not None and wanted[kind] else None


def _read_files(path: str | list[str]) -> list[LayerData]:
    if isinstance(path, list):
        return [_layer(dicom.read_dicom([Path(one) for one in path]), Path(path[0]).parent.name)]
    return [read_layer(Path(path))]


def read_layer(path: Path, mask: bool = False) -> LayerData:
    """A file as an image or a mask in napari; raises InputError as the readers do.

    mask : it is a mask, whatever its name; InputError if it cannot be one.
    """
    if mask:
        registry.read_labelled(path)
    if registry.kind_of(path) == "png" and (mask or registry.is_named_mask(path)):
        labels, found = registry.read_png_mask(path)
        return _mask(labels, found, {"name": stem(path)})
    if path.suffix.lower() in images.JPEG | {".png"}:
        picture = read_image(path)
        facts = {"name": stem(path), "rgb": picture.ndim == 3, "metadata": {PATH: str(path)}}
        return picture, facts, "image"
    volume = registry.read(path)
    name = stem(path)
    single = volume.source.header.get("label")  # a segmentation is a file, an image a folder
    if volume.source.format == "dicom" and path.is_file() and not single:
        name = path.resolve().parent.name
    return _layer(volume, name, mask)


def _layer(volume: Volume, name: str, mask: bool = False) -> LayerData:
    source = volume.source
    size = "pixel" if source.header.get("unit") == "pixel" else "mm"
    facts: dict[str, Any] = {
        "name": name,
        "scale": volume.spacing,
        "translate": _corner(volume),
        "units": (size,) * 3,
        "axis_labels": ("z", "y", "x"),
        "metadata": {KEY: source.to_dict()},
    }
    if mask or registry.is_mask(volume):
        return _mask(registry.labels(volume), source.header.get("record"), facts)
    array, rgb = registry.as_layer(volume)
    if array.ndim == 4 and not rgb:
        facts = _with_axis(facts, "c")
    elif array.ndim - rgb == 2:
        facts = _without_axes(facts, 2)
    return array, facts | {"rgb": rgb}, "image"


def _mask(labels: np.ndarray, found: Mapping[str, Any] | None, facts: dict[str, Any]) -> LayerData:
    """A mask with its classes, and where it lay in napari when it was written."""
    placed = dict((found or {}).get("placement") or {})
    if len(placed.get("scale", ())) == labels.ndim:
        facts = facts | {key: placed[key] for key in PLACE if key in placed}
    elif "scale" in facts and labels.ndim > 3:
        facts = _with_axis(facts, "t")
    elif "scale" in facts:
        facts = _without_axes(facts, labels.ndim)
    if rater := record.rater_of(found):
        facts = facts | {"metadata": facts.get("metadata", {}) | {record.RATER: rater}}
    classes = record.labels_of((found or {}).get("classes"))
    if classes is not None:
        kept = [{"name": kind.name, "color": kind.color} for kind in classes]
        facts = facts | {
            "metadata": facts.get("metadata", {}) | {record.CLASSES: kept},
            "features": {"index": range(len(classes)), "class": [kind.name for kind in classes]},
            "colormap": {None: record.OTHER[0], 0: "transparent"}
            | {value: kind.color for value, kind in enumerate(classes) if value},
        }
    return labels, facts, "labels"


def _corner(volume: Volume) -> list[float]:
    """Where the first voxel lies, along the volume's own axes: images of one space match."""
    if volume.source.format not in ("nifti", "dicom", "nrrd"):
        return [0.0, 0.0, 0.0]
    matrix = volume.affine[:3, :3]
    directions = matrix / np.linalg.norm(matrix, axis=0)
    return [float(value) for value in np.linalg.solve(directions, volume.affine[:3, 3])[::-1]]


def _with_axis(facts: dict[str, Any], name: str) -> dict[str, Any]:
    """One more axis in front, that is no place in space."""
    return facts | {
        "scale": (1.0, *facts["scale"]),
        "translate": (0.0, *facts["translate"]),
        "units": ("pixel", *facts["units"]),
        "axis_labels": (name, *facts["axis_labels"]),
    }


def _without_axes(facts: dict[str, Any], kept: int) -> dict[str, Any]:
    """The last ``kept`` axes alone."""
    cut = {key: facts[key][-kept:] for key in ("scale", "translate", "units", "axis_labels")}
    return facts | cut


def write_layer(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """napari's writer of one Labels layer; raises InputError for what a file cannot hold."""
    if not isinstance(data, np.ndarray):
        raise InputError(f"{path}: a lazy or multiscale mask cannot be written")
    metadata = meta.get("metadata", {})
    classes = record.labels_of(metadata.get(record.CLASSES)) or _coloured(data, meta)
    place = {key: meta[key] for key in PLACE if key in meta}
    layer = Labels(np.zeros((1,) * data.ndim, np.uint8), **place)
    source = fitting(source_of(metadata), data)
    rater = metadata.get(record.RATER, "")
    written = write_labels(path, data, classes, source, placement=placement(layer), rater=rater)
    return [str(file) for file in written]


def _coloured(data: np.ndarray, meta: Mapping[str, Any]) -> tuple[Label, ...] | None:
    """Classes without names, in the colours that the layer shows."""
    colours, top = meta.get("colormap"), int(data.max(initial=0))
    if colours is None or top > 255:
        return None
    shown = [colours.map(value) for value in range(top + 1)]
    bright = ["#" + "".join(f"{round(float(part) * 255):02x}" for part in c[:3]) for c in shown]
    names = ["background", *(f"label {value}" for value in range(1, top + 1))]
    return tuple(map(Label, names, ["#000000", *bright[1:]]))


def source_of(metadata: Mapping[str, Any]) -> Source | None:
    """The source in a layer's metadata; None without one."""
    return Source.from_dict(metadata[KEY]) if KEY in metadata else None


def placement(layer: Layer) -> dict[str, Any]:
    """How a layer lies in napari, as JSON knows it, and ``world``, the matrix of all of it."""
    origin = np.array(layer.data_to_world((0,) * layer.ndim))
    world = np.eye(layer.ndim + 1)
    world[:-1, -1] = origin
    for axis, unit in enumerate(np.eye(layer.ndim)):
        world[:-1, axis] = np.array(layer.data_to_world(tuple(unit))) - origin
    return {
        "scale": [float(size) for size in layer.scale],
        "translate": [float(size) for size in layer.translate],
        "rotate": np.asarray(layer.rotate).tolist(),
        "shear": np.asarray(layer.shear).tolist(),
        "affine": layer.affine.affine_matrix.tolist(),
        "units": [str(unit) for unit in layer.units],
        "axis_labels": list(layer.axis_labels),
        "world": world.tolist(),
    }


def export(
    path: Path, mask: Labels, image: Layer, classes: Sequence[Label] | None, rater: str = ""
) -> list[Path]:
    """Write the mask of an image with all that is known of the image's file, and who annotated it.

    InputError names what cannot be written; nothing is there then.
    """
    return writer(np.asarray(mask.data), mask, image, classes, rater)(path)


def writer(
    data: np.ndarray,
    mask: Labels,
    image: Layer,
    classes: Sequence[Label] | None,
    rater: str = "",
) -> Callable[[Path], list[Path]]:
    """What writes ``data``, the mask of an image, into a file as :func:`export` does; it touches no
    layer, so that a thread may call it."""
    known, opened, place = source_of(image.metadata), opened_from(image), placement(mask)

    def write(path: Path) -> list[Path]:
        source = known
        if source is None and opened is not None and data.ndim in (2, 3):
            source = registry.source_of(opened)
        fits = fitting(source, data)
        return write_labels(path, data, classes, fits, placement=place, rater=rater)

    return write


def opened_from(image: Layer) -> Path | None:
    """The file that a layer was opened from; None = none that is known."""
    path = image.metadata.get(PATH) or image.source.path
    return None if path is None else Path(str(path))


def suggestion(image: Layer, mask: Labels) -> Path:
    """Where a mask is best written: beside its image, in a format that its image's users open."""
    source = source_of(image.metadata)
    path = Path(source.path) if source is not None else opened_from(image)
    if path is None:
        base, kind = Path(image.name), None
    elif path.is_dir():
        base, kind = path.parent / path.name, "dicom"
    else:
        base, kind = path.with_name(stem(path)), registry.kind_of(path)
        if kind == "dicom":  # a file of a series stands for its folder
            base = path.parent.parent / path.parent.name
    packed = dict.fromkeys(("nifti", "dicom", "nrrd"), ".nii.gz")
    suffix = (packed | {"npz": ".npz", "tiff": ".tif"}).get(kind or "")
    if suffix is None:
        suffix = ".png" if mask.ndim == 2 else ".tif"
    return base.with_name(f"{base.name}_mask{suffix}")


FILTERS = {
    ".nii.gz": "NIfTI (*.nii.gz *.nii)",
    ".tif": "TIFF (*.tif *.tiff)",
    ".png": "PNG (*.png)",
    ".npz": "NumPy (*.npz)",
    ".dcm": "DICOM segmentation (*.dcm)",
}
"""Formats of masks, by the suffix that a name without one gets."""


def offered(image: Layer) -> dict[str, str]:
    """What the file dialog offers for the mask of an image: DICOM only for a DICOM series."""
    source = source_of(image.metadata)
    series = source is not None and source.format == "dicom"
    return {suffix: text for suffix, text in FILTERS.items() if series or suffix != ".dcm"}


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
