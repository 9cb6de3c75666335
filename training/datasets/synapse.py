"""Synapse: abdominal CT of 30 patients with eight organs, in TransUNet's copy or as raw BTCV.

Landman et al. 2015, https://doi.org/10.7303/syn3193805; Chen et al. 2021,
https://arxiv.org/abs/2102.04306. TransUNet's 18 training patients train, of which the last two
validate (val), and its 12 others are the test set, in both copies. Patients on neither list train
if the copy has them in ``train_npz`` and are tested if it has them in ``test_vol_h5``.
"""

import re
from pathlib import Path

import numpy as np

from napari_hidiff.errors import InputError, first_line

from .base import Case, Dataset, DatasetFormat, Sample, palette, read_nifti, whole
from .splits import fixed_split

ORGANS = {
    "aorta": 8,
    "gallbladder": 4,
    "left kidney": 3,
    "right kidney": 2,
    "liver": 6,
    "pancreas": 11,
    "spleen": 1,
    "stomach": 7,
}
"""The classes in TransUNet's order, each with its label in BTCV."""
BTCV_CODES = dict.fromkeys(range(14), 0) | {code: i for i, code in enumerate(ORGANS.values(), 1)}

TRAIN = tuple(
    f"case{number:04}"
    for number in (5, 6, 7, 9, 10, 21, 23, 24, 26, 27, 28, 30, 31, 33, 34, 37, 39, 40)
)
TEST = tuple(f"case{number:04}" for number in (8, 22, 38, 36, 32, 2, 29, 3, 1, 4, 25, 35))
VAL = TRAIN[-2:]

LOW, HIGH = -125.0, 275.0
"""Window of the CT in HU; TransUNet's copy is clipped to it and scaled to [0, 1]."""

SLICE = re.compile(r"(case\d+)_slice(\d+)")
VOLUME = re.compile(r"(case\d+)\.npy\.h5")
NIFTI = re.compile(r"img(\d+)\.nii(?:\.gz)?")
LABEL = re.compile(r"label(\d+)\.nii(?:\.gz)?")
OWNERS_TEST = range(61, 81)
"""Patients of BTCV's own test set, whose truth is not published."""


def open_synapse(root: Path, seed: int = 0, rule: str = "official") -> Dataset:
    """Read either copy; a patient is one case, a volume."""
    del seed, rule  # the split is fixed
    copied = _is_transunet(root)
    cases, tested, notes = _transunet(root) if copied else _btcv(root)
    splits, more = fixed_split(cases, VAL, {*TEST, *tested})
    official = {*TRAIN, *TEST}
    missing = sorted(official - {case.id for case in cases})
    if missing:
        notes += (f"{len(missing)} of 30 patients are missing, {missing[0]} first",)
    classes = ("background", *ORGANS)
    return Dataset(
        name="synapse",
        classes=classes,
        channels=("CT",),
        colors=palette(len(classes)),
        licence="as the owner states on registration",
        attribution="Synapse (BTCV), Landman et al. 2015, doi 10.7303/syn3193805"
        + ("; preprocessed as by Chen et al. 2021, arXiv 2102.04306" if copied else ""),
        splits=splits,
        notes=(*notes, *more),
        intensity={"rule": "window", "low": LOW, "high": HIGH},
        codes={} if copied else BTCV_CODES,
        reader=read_transunet if copied else read_nifti,
    )


def read_transunet(dataset: Dataset, case: Case) -> Sample:
    """One h5 volume or the npz slices of a patient, in HU, without spacing."""
    read = _read_h5 if case.images[0].suffix == ".h5" else _read_npz
    images: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for path in case.images:
        image, label = read(path)
        if image.shape[-2:] != (images or [image])[0].shape[-2:] or image.shape != label.shape:
            raise InputError(
                f"{path}: image {image.shape} and label {label.shape} differ in size, "
                f"or from {case.images[0].name}"
            )
        # NaN fails both comparisons.
        if not (image.min() >= -0.01 and image.max() <= 1.01):
            raise InputError(
                f"{path}: values {image.min():g} to {image.max():g}; this copy holds CT scaled to "
                "[0, 1], without NaN"
            )
        images.append(image.astype(np.float32) * np.float32(HIGH - LOW) + np.float32(LOW))
        labels.append(dataset.decode(whole(label, path), path))
    # Slices are 2-D and become one volume, an h5 file is one already.
    join = np.concatenate if images[0].ndim == 3 else np.stack
    return Sample(case, join(images)[..., None], join(labels))


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(path) as file:
            image, label = np.asarray(file["image"]), np.asarray(file["label"])
    except Exception as error:  # zip and zlib raise many kinds for damaged bytes
        raise InputError(
            f"{path}: cannot be read as a slice of Synapse: {first_line(error)}"
        ) from error
    return _of_dimensions(path, image, 2), _of_dimensions(path, label, 2)


def _read_h5(path: Path) -> tuple[np.ndarray, np.ndarray]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            image, label = np.asarray(file["image"]), np.asarray(file["label"])
    except Exception as error:
        raise InputError(
            f"{path}: cannot be read as a volume of Synapse: {first_line(error)}"
        ) from error
    return _of_dimensions(path, image, 3), _of_dimensions(path, label, 3)


def _of_dimensions(path: Path, array: np.ndarray, dimensions: int) -> np.ndarray:
    if array.ndim != dimensions or array.size == 0 or array.dtype.kind not in "buif":
        raise InputError(
            f"{path}: holds {array.dtype} {array.shape}; wanted {dimensions}-D numbers"
        )
    return array


def _transunet(root: Path) -> tuple[list[Case], set[str], tuple[str, ...]]:
    """Cases of TransUNet's copy, the ids of its test volumes, and notes."""
    slices = _slices(root)
    files = {match.group(1): path for path, match in _matches(root / "test_vol_h5", VOLUME)}
    cases, tested = [], set()
    for patient in sorted(slices.keys() | files.keys()):
        if patient in files and not (patient in slices and patient in TRAIN):
            cases.append(Case(patient, patient, (files[patient],), files[patient]))
            if patient not in TRAIN:
                tested.add(patient)
        else:
            numbered = slices[patient]
            images = tuple(numbered[number] for number in sorted(numbered))
            cases.append(Case(patient, patient, images, images[0]))
    return cases, tested, ()


def _slices(root: Path) -> dict[str, dict[int, Path]]:
    """Files by patient and slice number: the existing ones, and those in the list.

    A patient without any slice is left out: copies of some patients come with all lists.
    """
    folder, listed = root / "train_npz", root / "lists" / "lists_Synapse" / "train.txt"
    slices: dict[str, dict[int, Path]] = {}
    for path, match in _matches(folder, re.compile(SLICE.pattern + r"\.npz")):
        slices.setdefault(match.group(1), {})[int(match.group(2))] = path
    lines = listed.read_text(encoding="utf-8").split() if listed.is_file() else []
    for match in filter(None, map(SLICE.fullmatch, lines)):
        if match.group(1) in slices:
            missing = folder / f"{match.group()}.npz"
            slices[match.group(1)].setdefault(int(match.group(2)), missing)
    return slices


def _btcv(root: Path) -> tuple[list[Case], set[str], tuple[str, ...]]:
    """Cases of the raw data, no test ids of their own, and notes."""
    images = {int(match.group(1)): path for path, match in _matches(root / "img", NIFTI)}
    labels = {int(match.group(1)): path for path, match in _matches(root / "label", LABEL)}
    without = [n for n in images if n in OWNERS_TEST and n not in labels]
    cases = []
    for number in sorted((images.keys() | labels.keys()) - set(without)):
        patient = f"case{number:04}"
        image = images.get(number, root / "img" / f"img{number:04}.nii.gz")
        label = labels.get(number, root / "label" / f"label{number:04}.nii.gz")
        cases.append(Case(patient, patient, (image,), label))
    notes = (f"{len(without)} cases of the owner's test set have no truth",) if without else ()
    return cases, set(), notes


def _matches(folder: Path, name: re.Pattern[str]) -> list[tuple[Path, re.Match[str]]]:
    if not folder.is_dir():
        return []
    paths = sorted(folder.iterdir())
    return [(path, match) for path in paths if (match := name.fullmatch(path.name)) is not None]


def _is_transunet(root: Path) -> bool:
    slices = _matches(root / "train_npz", re.compile(SLICE.pattern + r"\.npz"))
    return bool(slices or _matches(root / "test_vol_h5", VOLUME))


def _recognise(root: Path) -> bool:
    return _is_transunet(root) or bool(_matches(root / "img", NIFTI) and (root / "label").is_dir())


SYNAPSE = DatasetFormat(
    name="synapse",
    title="Synapse abdominal organs (BTCV)",
    folders=("Synapse", "Training", "RawData/Training", "Abdomen/RawData/Training"),
    layout="train_npz/case0005_slice000.npz ... and test_vol_h5/case0001.npy.h5 ... (TransUNet's "
    "copy), or img/img0001.nii.gz ... and label/label0001.nii.gz ... (raw BTCV)",
    offered="BTCV is offered at https://doi.org/10.7303/syn3193805 and TransUNet's copy at "
    "https://github.com/Beckschen/TransUNet",
    recognise=_recognise,
    open=open_synapse,
)
