"""Kvasir-SEG: 1000 endoscopic images of polyps, jpg of 333 sizes.

Jha et al. 2020, https://doi.org/10.1007/978-3-030-37734-2_37.  The authors' lists, where
``splits/train.txt`` and ``splits/val.txt`` lie beside the images, say what trains and what is
reported: the second list is the test set here, and the last tenth of the first one chooses (val).
Without the lists 120 of 1000 images are dealt to the test set and 88 to val, as in the paper,
always the same ones.
"""

from pathlib import Path

from napari_hidiff.errors import InputError

from .base import RGB, Dataset, DatasetFormat
from .pairs import holds, paired
from .sample import Case
from .splits import Splits, fixed_split, random_split

VAL_SHARE, TEST_SHARE = 0.088, 0.12


def open_kvasir(root: Path, seed: int = 0, rule: str = "official") -> Dataset:
    """Read ``images`` and ``masks``; ``rule`` "random" leaves the authors' lists aside."""
    cases = paired(root / "images", root / "masks")
    lists = [root / "splits" / f"{name}.txt" for name in ("train", "val")]
    if rule == "official" and all(path.is_file() for path in lists):
        splits, notes = _listed(cases, *(_ids(path) for path in lists))
    else:
        splits, notes = random_split(cases, seed, VAL_SHARE, TEST_SHARE), ()
    return Dataset(
        name="kvasir",
        classes=("background", "polyp"),
        channels=RGB,
        colors=("#000000", "#40d060"),
        licence="research and education only",
        attribution="Kvasir-SEG, Jha et al. 2020, doi 10.1007/978-3-030-37734-2_37",
        splits=splits,
        notes=notes,
        cut=True,
    )


def _ids(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a list of image names ({error})") from error


def _listed(cases: list[Case], train: list[str], test: list[str]) -> tuple[Splits, tuple[str, ...]]:
    listed = {*train, *test}
    val = train[len(train) - round(len(train) / 10) :]
    splits, notes = fixed_split([case for case in cases if case.id in listed], val, test)
    unlisted = [case.id for case in cases if case.id not in listed]
    if unlisted:
        notes += (
            f"{len(unlisted)} images are in neither list and are left out, {unlisted[0]} first",
        )
    missing = sorted(listed - {case.id for case in cases})
    if missing:
        notes += (f"{len(missing)} of {len(listed)} listed images are missing, {missing[0]} first",)
    return splits, notes


KVASIR = DatasetFormat(
    name="kvasir",
    title="Kvasir-SEG polyps",
    folders=("Kvasir-SEG", "kvasir-seg"),
    layout="images/NAME.jpg and masks/NAME.jpg (Kvasir-SEG), and optionally splits/train.txt and "
    "splits/val.txt",
    offered="Kvasir-SEG is offered at https://datasets.simula.no/kvasir-seg/",
    recognise=lambda root: holds(root / "images") and (root / "masks").is_dir(),
    open=open_kvasir,
    rules=("official", "random"),
)
