"""Three sets of polyps in colonoscopy: CVC-ClinicDB, Kvasir-SEG and the PraNet benchmark.

CVC-ClinicDB: 612 frames, 384 x 288, of 29 sequences. Bernal et al. 2015,
https://doi.org/10.1016/j.compmedimag.2015.02.007. Neighbouring frames are near duplicates, so whole
sequences are dealt 80 / 10 / 10 (rule "sequences"). The paper deals single frames (rule "paper"),
which puts such duplicates into training and test.

Kvasir-SEG: 1000 pictures, jpg of 333 sizes. Jha et al. 2020,
https://doi.org/10.1007/978-3-030-37734-2_37. Where the authors' lists ``splits/train.txt`` and
``splits/val.txt`` are beside the images, the second one is the test set here, and the last tenth of
the first one validates (val). Without them 120 of 1000 images are dealt to the test set and 88 to
val, as in the paper, always the same ones.

PraNet's benchmark: one training set of two sources, five test sets. Fan et al. 2020,
https://doi.org/10.1007/978-3-030-59725-2_26. A tenth of the training set validates (val), always
the same one. Case ids start with the set's name (``CVC-300/150``), so that a report can group by
it; the rule named after a test set reports that set alone.
"""

from bisect import bisect_left
from dataclasses import replace
from pathlib import Path

from napari_hidiff.errors import InputError, first_line

from .base import RGB, Case, Dataset, DatasetFormat
from .splits import Splits, fixed_split, holds, paired, random_split

# fmt: off
LAST_FRAMES = (
    25, 50, 67, 78, 103, 126, 151, 177, 199, 205, 227, 252, 277, 297, 317, 342, 363, 383, 408, 428,
    447, 466, 478, 503, 528, 546, 571, 591, 612,
)
# fmt: on
"""The number of the last frame of each sequence."""


def sequence(frame: int) -> str:
    """The sequence of a frame, 1 to 612: ``sequence01`` to ``sequence29``."""
    return f"sequence{bisect_left(LAST_FRAMES, frame) + 1:02}"


def is_frame(name: str) -> bool:
    """Whether a file stem is the number of a frame of CVC-ClinicDB."""
    return name.isdecimal() and 1 <= int(name) <= LAST_FRAMES[-1]


def open_cvc(root: Path, seed: int = 0, rule: str = "sequences") -> Dataset:
    """Read ``Original`` and ``Ground Truth``; files without a frame number are ignored."""
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
        colors=("#000000", "#40a0ff"),
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


VAL_SHARE, TEST_SHARE = 0.088, 0.12


def open_kvasir(root: Path, seed: int = 0, rule: str = "official") -> Dataset:
    """Read ``images`` and ``masks``; ``rule`` "random" ignores the authors' lists."""
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
        colors=("#000000", "#40a0ff"),
        licence="CC BY 4.0 as part of HyperKvasir; the page of Kvasir-SEG says research and "
        "education only",
        attribution="Kvasir-SEG, Jha et al. 2020, doi 10.1007/978-3-030-37734-2_37; the same 1,000 "
        "pairs in HyperKvasir, Borgli et al. 2020, doi 10.1038/s41597-020-00622-y",
        splits=splits,
        notes=notes,
        cut=True,
    )


def _ids(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").split()
    except (OSError, UnicodeDecodeError) as error:
        reason = first_line(error)
        raise InputError(f"{path}: cannot be read as a list of image names ({reason})") from error


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


TRAIN_SET = "TrainDataset"
TEST_SETS = ("CVC-300", "CVC-ClinicDB", "CVC-ColonDB", "ETIS-LaribPolypDB", "Kvasir")
OFFICIAL = "official"


def open_polyp(root: Path, seed: int = 0, rule: str = OFFICIAL) -> Dataset:
    """Read the training set and the existing test sets; ``rule`` may name one test set."""
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
        colors=("#000000", "#40a0ff"),
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
    """The pairs of one set; none if it is missing."""
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
