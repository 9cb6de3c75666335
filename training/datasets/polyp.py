"""The polyp benchmark of PraNet: one training set of two sources, five test sets.

Fan et al. 2020, https://doi.org/10.1007/978-3-030-59725-2_26.  A tenth of the training set is held
out to choose (val), always the same one.  Case ids keep the set's name (``CVC-300/150``), so that
a report can group by it; the rule named after a test set reports that one alone.
"""

from dataclasses import replace
from pathlib import Path

from .base import RGB, Dataset, DatasetFormat
from .pairs import holds, paired
from .polyps import is_frame, sequence
from .sample import Case
from .splits import random_split

TRAIN_SET = "TrainDataset"
TEST_SETS = ("CVC-300", "CVC-ClinicDB", "CVC-ColonDB", "ETIS-LaribPolypDB", "Kvasir")
OFFICIAL = "official"


def open_polyp(root: Path, seed: int = 0, rule: str = OFFICIAL) -> Dataset:
    """Read the training set and the test sets that are there; ``rule`` may name one test set."""
    wanted = TEST_SETS if rule == OFFICIAL else (rule,)
    train = [_of_sequence(case) for case in _cases(root, TRAIN_SET)]
    tests = {name: _cases(root / "TestDataset", name) for name in wanted}
    parts = {TRAIN_SET: train} | {f"TestDataset/{name}": tests[name] for name in wanted}
    notes = tuple(f"{name} is missing" for name, cases in parts.items() if not cases)
    if train and tests.get("CVC-ClinicDB"):
        notes += ("PraNet's split has frames of the same CVC-ClinicDB sequences in train and test",)
    return Dataset(
        name="polyp",
        classes=("background", "polyp"),
        channels=RGB,
        colors=("#000000", "#40d060"),
        licence="research and education only (Kvasir); the other sources' terms for research use",
        attribution="PraNet's polyp benchmark, Fan et al. 2020, doi 10.1007/978-3-030-59725-2_26, "
        "of Kvasir-SEG, CVC-ClinicDB, CVC-300, CVC-ColonDB and ETIS-LaribPolypDB",
        splits=random_split(train, seed, val=0.1, test=0.0)
        | {"test": tuple(case for name in wanted for case in tests[name])},
        notes=notes,
        cut=True,
    )


def _folder(parent: Path, kind: str) -> Path | None:
    """``image`` or ``images``, ``mask`` or ``masks``: both spellings are in circulation."""
    return next((f for f in (parent / kind, parent / f"{kind}s") if holds(f)), None)


def _cases(parent: Path, name: str) -> list[Case]:
    """The pairs of one set, none if it is not there."""
    images = _folder(parent / name, "image")
    if images is None:
        return []
    masks = _folder(parent / name, "mask") or parent / name / "masks"
    return paired(images, masks, prefix=f"{name}/")


def _of_sequence(case: Case) -> Case:
    """A training frame with a number comes from CVC-ClinicDB, whose sequences stay together."""
    number = case.id.removeprefix(f"{TRAIN_SET}/")
    return replace(case, group=sequence(int(number))) if is_frame(number) else case


def _recognise(root: Path) -> bool:
    tests = (root / "TestDataset" / name for name in TEST_SETS)
    return any(_folder(parent, "image") is not None for parent in (root / TRAIN_SET, *tests))


POLYP = DatasetFormat(
    name="polyp",
    title="PraNet's polyp benchmark",
    folders=("polyp", "PraNet", "dataset"),
    layout="TrainDataset/images/NAME.png and TrainDataset/masks/NAME.png (or image, mask), and the "
    f"same under TestDataset/ in {', '.join(TEST_SETS)}",
    offered="the benchmark is offered at https://github.com/DengPingFan/PraNet",
    recognise=_recognise,
    open=open_polyp,
    rules=(OFFICIAL, *TEST_SETS),
)
