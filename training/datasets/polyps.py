"""CVC-ClinicDB: 612 frames, 384 x 288, of 29 colonoscopy sequences with polyps.

Bernal et al. 2015, https://doi.org/10.1016/j.compmedimag.2015.02.007.  Neighbouring frames are
near duplicates, so whole sequences are dealt 80 / 10 / 10 (rule "sequences").  The paper deals
single frames (rule "paper"), which puts such duplicates into training and test.
"""

from bisect import bisect_left
from dataclasses import replace
from pathlib import Path

from .base import RGB, Dataset, DatasetFormat
from .pairs import holds, paired
from .splits import random_split

# fmt: off
LAST_FRAMES = (
    25, 50, 67, 78, 103, 126, 151, 177, 199, 205, 227, 252, 277, 297, 317, 342, 363, 383, 408, 428,
    447, 466, 478, 503, 528, 546, 571, 591, 612,
)
# fmt: on
"""The number of the last frame of each sequence."""


def sequence(frame: int) -> str:
    """The sequence that a frame, 1 to 612, belongs to: ``sequence01`` to ``sequence29``."""
    return f"sequence{bisect_left(LAST_FRAMES, frame) + 1:02}"


def is_frame(name: str) -> bool:
    """Whether a file stem is the number of a frame of CVC-ClinicDB."""
    return name.isdecimal() and 1 <= int(name) <= LAST_FRAMES[-1]


def open_cvc(root: Path, seed: int = 0, rule: str = "sequences") -> Dataset:
    """Read ``Original`` and ``Ground Truth``; files that are no numbered frame are left out."""
    found = paired(root / "Original", root / "Ground Truth")
    cases = sorted((c for c in found if is_frame(c.id)), key=lambda case: int(case.id))
    notes: tuple[str, ...] = ()
    if rule == "sequences":
        cases = [replace(case, group=sequence(int(case.id))) for case in cases]
    else:
        notes += ("the paper's split puts frames of one sequence into training and test",)
    if len(cases) < len(found):
        notes += (f"{len(found) - len(cases)} files are not named 1 to 612 and are left out",)
    if len(cases) < LAST_FRAMES[-1]:
        notes += (f"{LAST_FRAMES[-1] - len(cases)} of 612 frames are missing",)
    return Dataset(
        name="cvc",
        classes=("background", "polyp"),
        channels=RGB,
        colors=("#000000", "#40d060"),
        licence="research use, as the owner states it",
        attribution="CVC-ClinicDB, Bernal et al. 2015, doi 10.1016/j.compmedimag.2015.02.007",
        splits=random_split(cases, seed, val=0.1, test=0.1),
        notes=notes,
        cut=True,
    )


CVC = DatasetFormat(
    name="cvc",
    title="CVC-ClinicDB polyps",
    folders=("CVC-ClinicDB", "TIF", "PNG", "CVC-ClinicDB/TIF", "CVC-ClinicDB/PNG"),
    layout="Original/1.tif ... 612.tif and 'Ground Truth/1.tif' ... (CVC-ClinicDB), tif or png, "
    "also under TIF/ or PNG/",
    offered="CVC-ClinicDB is offered at https://polyp.grand-challenge.org/CVCClinicDB/",
    recognise=lambda root: holds(root / "Original") and (root / "Ground Truth").is_dir(),
    open=open_cvc,
    rules=("sequences", "paper"),
)
