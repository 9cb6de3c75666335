"""Two sets of fundus images with vessels, drawn by two observers: CHASE_DB1 and DRIVE.

CHASE_DB1: 28 images of both eyes of 14 children. Fraz et al. 2012,
https://doi.org/10.1109/TBME.2012.2205687. The first 20 images by name train, of which 17 to 20
validate (val); the last 8 are the test set. No child is in two splits.

DRIVE: 40 images with a field of view, 20 train, 20 test. Staal et al. 2004,
https://doi.org/10.1109/TMI.2004.825627. The last 4 of the training images validate (val). The
current download has no ``test/1st_manual``: its test split is then empty.
"""

from pathlib import Path

from .base import RGB, Case, Dataset, DatasetFormat
from .splits import fixed_split

EYES = tuple(f"Image_{child:02}{eye}" for child in range(1, 15) for eye in "LR")
CHASE_VAL, CHASE_TEST = EYES[16:20], EYES[20:]


def open_chase(root: Path, seed: int = 0, rule: str = "official") -> Dataset:
    """Read the flat folder."""
    del seed, rule  # the split is fixed
    eyes = [eye for eye in EYES if (root / f"{eye}.jpg").is_file()]
    missing = [eye for eye in EYES if eye not in eyes]
    splits, notes = fixed_split([_chase_case(root, eye) for eye in eyes], CHASE_VAL, CHASE_TEST)
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


def _chase_case(root: Path, eye: str) -> Case:
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


DRIVE_TRAIN = tuple(f"{number:02}" for number in range(21, 41))
DRIVE_TEST = tuple(f"{number:02}" for number in range(1, 21))
DRIVE_VAL = DRIVE_TRAIN[-4:]


def open_drive(root: Path, seed: int = 0, rule: str = "official") -> Dataset:
    """Read ``training`` and ``test``; a test image without its truth is left out and noted."""
    del seed, rule  # the split is fixed
    found = {
        id_: image
        for id_ in DRIVE_TRAIN + DRIVE_TEST
        if (image := _drive_image(root, id_)).is_file()
    }
    without = [
        id_ for id_ in found if id_ in DRIVE_TEST and not _drive_manual(root, id_, 1).is_file()
    ]
    cases = [_drive_case(root, id_) for id_ in found if id_ not in without]
    splits, notes = fixed_split(cases, DRIVE_VAL, DRIVE_TEST)
    if without:
        notes += (f"{len(without)} test images have no truth in test/1st_manual",)
    missing = [id_ for id_ in DRIVE_TRAIN + DRIVE_TEST if id_ not in found]
    if missing:
        notes += (f"{len(missing)} of 40 images are missing, {missing[0]} first",)
    return Dataset(
        name="drive",
        classes=("background", "vessel"),
        channels=RGB,
        colors=("#000000", "#00d0ff"),
        licence="research use, as the owner states it on registration",
        attribution="DRIVE, Staal et al. 2004, doi 10.1109/TMI.2004.825627",
        splits=splits,
        notes=notes,
    )


def _drive_part(id_: str) -> str:
    return "training" if id_ in DRIVE_TRAIN else "test"


def _drive_image(root: Path, id_: str) -> Path:
    return root / _drive_part(id_) / "images" / f"{id_}_{_drive_part(id_)}.tif"


def _drive_manual(root: Path, id_: str, observer: int) -> Path:
    folder = "1st_manual" if observer == 1 else "2nd_manual"
    return root / _drive_part(id_) / folder / f"{id_}_manual{observer}.gif"


def _drive_case(root: Path, id_: str) -> Case:
    inside = root / _drive_part(id_) / "mask" / f"{id_}_{_drive_part(id_)}_mask.gif"
    second = _drive_manual(root, id_, 2)
    return Case(
        id=id_,
        group=id_,
        images=(_drive_image(root, id_),),
        mask=_drive_manual(root, id_, 1),
        field_of_view=inside,
        second=second if second.is_file() else None,
    )


DRIVE = DatasetFormat(
    name="drive",
    title="DRIVE retinal vessels",
    folders=("DRIVE",),
    layout="training/images/21_training.tif, training/1st_manual/21_manual1.gif, "
    "training/mask/21_training_mask.gif and the same under test/",
    offered="DRIVE is offered at https://drive.grand-challenge.org/",
    recognise=lambda root: any(
        _drive_image(root, id_).is_file() for id_ in DRIVE_TRAIN + DRIVE_TEST
    ),
    open=open_drive,
)
