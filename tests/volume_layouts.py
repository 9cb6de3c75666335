"""Write small volume data sets in exactly the layouts in which their owners distribute them.

The volumes are drawn: a ball per class, as bright as its number.  They are stored in the
orientations that the owners use, so that a reader has to turn them back.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import h5py
import nibabel
import numpy as np

from napari_hidiff.training.datasets.brats import CHANNELS, NAMES_2023

DEPTH, HEIGHT, WIDTH = 6, 40, 48
SPACING = (3.0, 0.75, 0.5)
"""mm along Z, Y, X."""
ORIGIN = (-90.0, -120.0, 30.0)
"""Place of the first voxel of the canonical orientation, mm along X, Y, Z."""


def volume(seed: int, labels: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """int16 ``[D, H, W]``, 0 outside the body, and a uint8 mask of it with every label."""
    rng = np.random.default_rng(seed)
    z, y, x = np.mgrid[:DEPTH, :HEIGHT, :WIDTH]
    mask = np.zeros((DEPTH, HEIGHT, WIDTH), np.uint8)
    body = np.hypot((y - HEIGHT / 2) / HEIGHT, (x - WIDTH / 2) / WIDTH) < 0.48
    for label in range(1, labels):
        angle = 2 * np.pi * label / labels + rng.uniform(-0.1, 0.1)
        row, column = HEIGHT / 2 + 11 * np.sin(angle), WIDTH / 2 + 14 * np.cos(angle)
        ball = ((z - DEPTH / 2) / 3) ** 2 + ((y - row) / 4) ** 2 + ((x - column) / 4) ** 2 <= 1
        mask[ball] = label
    image = np.where(body, 20 + 25 * mask + rng.normal(0, 5, mask.shape), 0)
    return image.astype(np.int16), mask


def write_nifti(
    path: Path,
    array: np.ndarray,
    orientation: str = "LPS",
    spacing: Sequence[float] = SPACING,
    dtype: type = np.int16,
) -> Path:
    """``[Z, Y, X]`` or ``[Z, Y, X, C]`` as NIfTI, stored in an orientation such as ``LPS``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    axes = (2, 1, 0, 3)[: array.ndim]
    affine = np.diag([*spacing[::-1], 1.0])
    affine[:3, 3] = ORIGIN
    image = nibabel.Nifti1Image(array.transpose(axes).astype(dtype), affine)
    turned = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(orientation)
    )
    nibabel.save(image.as_reoriented(turned), path)
    return path


def ct(seed: int, labels: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """The same in HU: air at -1000 around the body."""
    image, mask = volume(seed, labels)
    return np.where(image == 0, -1000, image).astype(np.int16), mask


BTCV_OF = np.array([0, 8, 4, 3, 2, 6, 11, 1, 7], np.uint8)
"""BTCV's label of each class of Synapse."""
ESOPHAGUS = 5


def write_btcv(root: Path, numbers: Sequence[int] = (1, 5, 6, 7, 39, 40)) -> Path:
    """Raw BTCV: img/ and label/, labels 1 to 13 of which eight are classes."""
    for number in numbers:
        image, mask = ct(number)
        labels = BTCV_OF[mask]
        labels[0, 0, 0] = ESOPHAGUS
        write_nifti(root / "img" / f"img{number:04}.nii.gz", image, "LAS")
        write_nifti(root / "label" / f"label{number:04}.nii.gz", labels, "LAS", dtype=np.uint8)
    return root


def write_transunet(
    root: Path,
    train: Sequence[int] = (5, 6, 7, 39, 40),
    test: Sequence[int] = (1, 2),
    lists: bool = True,
) -> Path:
    """TransUNet's copy: npz slices to train, h5 volumes to test, CT scaled to [0, 1]."""
    names = []
    (root / "train_npz").mkdir(parents=True)
    (root / "test_vol_h5").mkdir()
    for number in (*train, *test):
        image, mask = ct(number)
        image = ((image.clip(-125, 275) + 125) / 400).astype(np.float32)
        label = mask.astype(np.float32)
        if number in test:
            with h5py.File(root / "test_vol_h5" / f"case{number:04}.npy.h5", "w") as file:
                file["image"], file["label"] = image, label
            continue
        for index in range(DEPTH):
            names.append(f"case{number:04}_slice{index:03}")
            np.savez(root / "train_npz" / names[-1], image=image[index], label=label[index])
    if lists:
        folder = root / "lists" / "lists_Synapse"
        folder.mkdir(parents=True)
        (folder / "train.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
        tests = "".join(f"case{number:04}\n" for number in test)
        (folder / "test_vol.txt").write_text(tests, encoding="utf-8")
    return root


BRATS_NAMES = {"2020": "BraTS20_Training_{:03}", "2021": "BraTS2021_{:05}"}


def brats_names(year: str, count: int) -> list[str]:
    """Names of cases; in 2023 every patient has two time points."""
    if year == "2023":
        return [f"BraTS-GLI-{i // 2:05}-{i % 2:03}" for i in range(count)]
    return [BRATS_NAMES[year].format(number + 1) for number in range(count)]


def write_brats(root: Path, year: str = "2021", count: int = 4, truths: bool = True) -> Path:
    """BraTS: a folder per case; 2020 is not compressed, 2023 has other names and ET = 3.

    Without ``truths`` no case has a segmentation, as in the owner's validation data.
    """
    separator, parts = ("-", NAMES_2023) if year == "2023" else ("_", CHANNELS)
    suffix = ".nii" if year == "2020" else ".nii.gz"
    for number, name in enumerate(brats_names(year, count)):
        image, mask = volume(number, labels=4)
        for channel, part in enumerate(parts):
            path = root / name / f"{name}{separator}{part}{suffix}"
            write_nifti(path, image * (channel + 1), spacing=(1, 1, 1))
        if truths:
            labels = mask if year == "2023" else np.where(mask == 3, 4, mask)
            path = root / name / f"{name}{separator}seg{suffix}"
            write_nifti(path, labels, spacing=(1, 1, 1), dtype=np.uint8)
    return root


def write_msd(root: Path, modalities: Sequence[str] = ("CT",), count: int = 7) -> Path:
    """A task of the Decathlon, 4-D with several modalities, with macOS's hidden twins."""
    rows = []
    for number in range(count):
        name = f"case_{number:03}.nii.gz"
        image, mask = ct(number, 3) if modalities == ("CT",) else volume(number, 3)
        if len(modalities) > 1:
            image = np.stack([image * (c + 1) for c in range(len(modalities))], -1)
        write_nifti(root / "imagesTr" / name, image, "RAS", dtype=np.float32)
        write_nifti(root / "labelsTr" / name, mask, "RAS", dtype=np.uint8)
        (root / "imagesTr" / f"._{name}").write_bytes(b"\0")
        rows.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    write_nifti(root / "imagesTs" / "case_900.nii.gz", volume(0)[0])
    task = {
        "name": root.name,
        "reference": "somebody",
        "licence": "CC-BY-SA 4.0",
        "modality": {str(i): name for i, name in enumerate(modalities)},
        "labels": {"0": "background", "1": "Organ", "2": "Tumour"},
        "training": [*rows, {"image": "./imagesTr/._x.nii.gz", "label": "./labelsTr/._x.nii.gz"}],
        "test": ["./imagesTs/case_900.nii.gz"],
    }
    (root / "dataset.json").write_text(json.dumps(task), encoding="utf-8")
    return root


def write_nifti_folder(root: Path, count: int = 7, labels: int = 2, foreground: int = 1) -> Path:
    """A user's own volumes; with two labels the foreground may be stored as 255."""
    for number in range(count):
        image, mask = volume(number, labels)
        write_nifti(root / "images" / f"scan{number}.nii.gz", image, "PIR", dtype=np.float32)
        write_nifti(root / "masks" / f"scan{number}.nii.gz", mask * foreground, "PIR")
    return root
