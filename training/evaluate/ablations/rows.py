"""The rows of the studies: what each changes in the recipe, and how its model is used.

All rows of a table share their size, crops, segmentor and number of iterations, and differ in what
is named. No row plays strokes on the model's own answers (``rounds``), which doubles the time of a
training and matters to corrections, which these tables are not about.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from napari_hidiff.training.recipes import Recipe, as_in_the_paper

SHARED: Mapping[str, Any] = {"rounds": 0, "segmentor_every": 0}

ONE, FEW, MANY, FULL = "one-step", "ddim-3x1", "ddim-3x5", "ancestral-10x1"


@dataclass(frozen=True)
class Row:
    """A model of a table.

    changes : fields of the recipe.  paper : they change the paper's mode in place of ours.
    longer : so many times the study's iterations.  ways : how its model refines, first the one
    that the row is judged by.
    """

    name: str
    title: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    paper: bool = False
    longer: int = 1
    ways: tuple[str, ...] = (MANY, FEW, ONE)

    def recipe(self, base: Recipe, seed: int) -> Recipe:
        """The base recipe of a study with what this row changes."""
        mine = replace(base, **SHARED)
        if self.paper:
            mine = replace(as_in_the_paper(mine), stem=base.stem, steps=3, samples=5)
        end = base.iterations * self.longer
        mine = replace(mine, **dict(self.changes))
        return replace(mine, iterations=end, validate_every=end, seed=seed)


@dataclass(frozen=True)
class Study:
    """A table: one line about it, the part of the paper, the rows; every cell is compared with
    the first way of the row ``against``."""

    title: str
    section: str
    rows: tuple[Row, ...]
    against: str

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)


OURS = Row("ours", "y0 output, CE + Dice, our priors")
CONTROL = Row(
    "control", "the same network, trained for the one pass alone", {"one_step": 1.0}, ways=(ONE,)
)
UNLINKED_TOO = (MANY, f"{MANY}-unlinked", FEW, f"{FEW}-unlinked", ONE)
EPS: dict[str, Any] = {"predicts": "eps"}
KL: dict[str, Any] = {"loss": "kl", "posterior": "plugin"}
FOCAL: dict[str, Any] = {"loss": "kl-focal", "posterior": "plugin"}
PAPER_WAYS = (FULL, f"{FULL}-unlinked", *UNLINKED_TOO)
PAPER = Row("paper", "V5, the paper's mode: V4 + binarization", paper=True, ways=PAPER_WAYS)


def _step(name: str, title: str, **changes: Any) -> Row:
    """A row on the way to the paper's mode."""
    focal = changes.get("loss", "kl-focal") == "kl-focal"
    return Row(name, title, changes, paper=True, ways=PAPER_WAYS if focal else (FULL, MANY, FEW))


PLAIN: Mapping[str, Any] = {"convolution": "real", "xformer": False, "loss": "kl"}

STUDIES: Mapping[str, Study] = {
    "refiner-control": Study(
        "the diffusion against a one-step discriminative refiner of the same network",
        "none: the paper has no such control",
        (OURS, CONTROL),
        "control",
    ),
    "output": Study(
        "what the network predicts, and the loss it learns by, with the focal link and without",
        "equations (8) to (13)",
        (
            OURS,
            Row("y0-focal", "y0 output, KL + focal", FOCAL, ways=UNLINKED_TOO),
            Row("eps", "eps output, CE + Dice", EPS),
            Row("eps-focal", "eps output, KL + focal", EPS | FOCAL, ways=UNLINKED_TOO),
            PAPER,
            Row("paper-longer", "the paper's mode, 4 times as long", {}, True, 4, PAPER_WAYS),
        ),
        "ours",
    ),
    "ablation": Study(
        "what each part is worth: the paper's V1 to V5 in its own mode, single changes in ours",
        "its ablation study",
        (
            _step(
                "v1",
                "V1: real convolutions, no X-Former, KL, segmentor frozen",
                **PLAIN,
                segmentor_every=0,
            ),
            _step("v2", "V2: V1 + alternate training", **PLAIN),
            _step("v3", "V3: V2 + focal loss", convolution="real", xformer=False),
            _step("v4", "V4: V3 + X-Former", convolution="real"),
            PAPER,
            OURS,
            Row("alternate", "ours, trained in turns with the segmentor", {"segmentor_every": 1}),
            Row("y0-focal", "ours with KL + focal loss", FOCAL, ways=UNLINKED_TOO),
            Row("no-xformer", "ours without the X-Former", {"xformer": False}),
            Row("real", "ours with real convolutions", {"convolution": "real"}),
            Row("kl-mixture", "ours with the KL of the mixture", KL | {"posterior": "mixture"}),
            Row("kl-plugin", "ours with the KL of the plugin", KL),
            Row("berdiff", "ours with noise around 1/2 (BerDiff)", {"centre": "even"}),
            Row("gaussian", "ours with a Gaussian kernel", {"kernel": "gaussian"}),
        ),
        "ours",
    ),
    "segmentors": Study(
        "refinement on top of each segmentor",
        "its comparison of segmentors",
        tuple(
            Row(name.replace("/", "-"), name, {"segmentor": name})
            for name in ("unet", "attention-unet", "segresnet", "swin-unetr", "flexible-unet")
        ),
        "unet",
    ),
}
"""Every study that trains, by the name of its experiment."""
