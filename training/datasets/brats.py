"""BraTS gliomas: four MRI contrasts of a brain and its tumour, with the names of 2020, 2021, 2023.

Baid et al. 2021, https://arxiv.org/abs/2107.02314. The channels run flair, t1, t1ce, t2 whatever
the year calls them. Only the owner's training cases have a truth. Whole patients are dealt
80 / 10 / 10; the 1251 cases of 2021 as in the paper: 125 test cases, the others train, but a tenth
of them validates (val). The split is always the same.
"""

import re
from pathlib import Path

from .base import Case, Dataset, DatasetFormat, palette, read_nifti
from .splits import random_split

CHANNELS = ("flair", "t1", "t1ce", "t2")
NAMES_2023 = ("t2f", "t1n", "t1c", "t2w")
"""Names of the same channels in 2023, in the same order."""

YEARS = {
    "2020": re.compile(r"BraTS20_Training_\d+|BraTS20_Validation_\d+"),
    "2021": re.compile(r"BraTS2021_\d+"),
    "2023": re.compile(r"(BraTS-[A-Za-z]+-\d+)-\d+"),
}
ENHANCING = {"2020": 4, "2021": 4, "2023": 3}
"""The label of enhancing tumour in the files."""

PAPER_CASES, PAPER_VAL, PAPER_TEST = 1251, 113, 125


def open_brats(root: Path, seed: int = 0, rule: str = "patients") -> Dataset:
    """Read a folder per case; a case without segmentation is left out and noted."""
    del rule  # there is one
    found = {path: _year(path) for path in sorted(root.iterdir()) if path.is_dir() and _year(path)}
    years = set(found.values())
    truths = {folder: truth for folder in found if (truth := _truth(folder)) is not None}
    cases = [_case(folder, found[folder], truth) for folder, truth in truths.items()]
    notes: tuple[str, ...] = ()
    without = [folder.name for folder in found if folder not in truths]
    if without:
        notes += (
            f"{len(without)} cases have no segmentation and are left out, {without[0]} first",
        )
    paper = years == {"2021"} and len(cases) == PAPER_CASES
    shares = (PAPER_VAL / PAPER_CASES, PAPER_TEST / PAPER_CASES) if paper else (0.1, 0.1)
    classes = ("background", "necrotic core", "edema", "enhancing tumor")
    return Dataset(
        name="brats",
        classes=classes,
        channels=CHANNELS,
        colors=palette(len(classes)),
        licence="CC BY 4.0" if years == {"2021"} else "as the owner states on registration",
        attribution=f"BraTS {', '.join(sorted(years))}, Baid et al. 2021, arXiv 2107.02314, "
        "doi 10.7937/jc8x-9874; Menze et al. 2015, doi 10.1109/TMI.2014.2377694; "
        "Bakas et al. 2017, doi 10.1038/sdata.2017.117",
        splits=random_split(cases, seed, *shares),
        notes=notes,
        intensity={"rule": "zscore"},
        codes={0: 0, 1: 1, 2: 2} | {ENHANCING[year]: 3 for year in years},
        regions={"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)},
        reader=read_nifti,
    )


def _year(folder: Path) -> str:
    """The year whose names a case's folder follows, or nothing."""
    return next((year for year, name in YEARS.items() if name.fullmatch(folder.name)), "")


def _file(folder: Path, part: str, separator: str) -> Path:
    """A file of a case, compressed or not; its expected name if it is missing."""
    names = [folder / f"{folder.name}{separator}{part}{end}" for end in (".nii.gz", ".nii")]
    plain = next(folder.glob("*.nii"), None) is not None
    return next((path for path in names if path.is_file()), names[plain])


def _truth(folder: Path) -> Path | None:
    usual = _file(folder, "seg", "-" if _year(folder) == "2023" else "_")
    if usual.is_file():
        return usual
    # BraTS20_Training_355 comes with W39_1998.09.19_Segm.nii.
    return next(iter(sorted(folder.glob("*_Segm.nii*"))), None)


def _case(folder: Path, year: str, truth: Path) -> Case:
    parts, separator = (NAMES_2023, "-") if year == "2023" else (CHANNELS, "_")
    images = tuple(_file(folder, part, separator) for part in parts)
    match = YEARS[year].fullmatch(folder.name)
    patient = match.group(1) if match is not None and year == "2023" else folder.name
    return Case(folder.name, patient, images, truth)


BRATS = DatasetFormat(
    name="brats",
    title="BraTS gliomas",
    folders=(
        "BraTS2021",
        "BraTS2020",
        "BraTS2023",
        "BraTS2021_Training_Data",
        "RSNA_ASNR_MICCAI_BraTS2021_TrainingSet",
        "MICCAI_BraTS2020_TrainingData",
        "BraTS2020_TrainingData/MICCAI_BraTS2020_TrainingData",
        "ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData",
    ),
    layout="a folder per case, BraTS2021_00000/BraTS2021_00000_{flair,t1,t1ce,t2,seg}.nii.gz, "
    "BraTS20_Training_001/BraTS20_Training_001_{flair,...}.nii or "
    "BraTS-GLI-00000-000/BraTS-GLI-00000-000-{t2f,t1n,t1c,t2w,seg}.nii.gz",
    offered="BraTS 2021 is offered at https://doi.org/10.7937/jc8x-9874 and the other years at "
    "https://www.synapse.org/brats",
    recognise=lambda root: any(path.is_dir() and _year(path) for path in root.iterdir()),
    open=open_brats,
    rules=("patients",),
)
