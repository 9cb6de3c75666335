"""CHASE_DB1: 28 fundus images of both eyes of 14 children, with two observers' vessels.

Fraz et al. 2012, https://doi.org/10.1109/TBME.2012.2205687.  The first 20 images by name train, of
which 17 to 20 are for choosing (val); the last 8 are the test set.  That divides no child.
"""

from pathlib import Path

from .base import RGB, Dataset, DatasetFormat
from .sample import Case
from .splits import fixed_split

EYES = tuple(f"Image_{child:02}{eye}" for child in range(1, 15) for eye in "LR")
VAL, TEST = EYES[16:20], EYES[20:]


def open_chase(root: Path, seed: int = 0, rule: str = "official") -> Dataset:
    """Read the flat folder."""
    del seed, rule  # the split is fixed
    found = [eye for eye in EYES if (root / f"{eye}.jpg").is_file()]
    missing = [eye for eye in EYES if eye not in found]
    splits, notes = fixed_split([_case(root, eye) for eye in found], VAL, TEST)
    if missing:
        notes += (f"{len(missing)} of 28 images are missing, {missing[0]} first",)
    return Dataset(
        name="chase",
        classes=("background", "vessel"),
        channels=RGB,
        colors=("#000000", "#00d0ff"),
        licence="CC BY 4.0",
        attribution="CHASE_DB1, Kingston University, Fraz et al. 2012, "
        "doi 10.1109/TBME.2012.2205687",
        splits=splits,
        notes=notes,
    )


def _case(root: Path, eye: str) -> Case:
    mask, second = root / f"{eye}_1stHO.png", root / f"{eye}_2ndHO.png"
    return Case(
        id=eye,
        group=eye[:-1],
        images=(root / f"{eye}.jpg",),
        mask=mask,
        second=second if second.is_file() else None,
    )


CHASE = DatasetFormat(
    name="chase",
    title="CHASE_DB1 retinal vessels",
    folders=("CHASEDB1", "CHASE_DB1"),
    layout="Image_01L.jpg, Image_01L_1stHO.png, Image_01L_2ndHO.png ... Image_14R_2ndHO.png "
    "in one folder (CHASEDB1)",
    offered="CHASE_DB1 is offered at "
    "https://researchinnovation.kingston.ac.uk/en/datasets/chasedb1-retinal-vessel-reference-dataset-4/",
    recognise=lambda root: any((root / f"{eye}.jpg").is_file() for eye in EYES),
    open=open_chase,
)
