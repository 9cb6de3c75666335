"""The ablations and their variants: what each changes in the recipe, and how its model refines.

All variants of an ablation share their size, crops, segmentor and number of iterations, and differ
in what they name. None is trained on strokes on the model's own answers (``rounds``): that doubles
the time of a training and matters to corrections alone, which these tables do not measure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from napari_hidiff.training.recipes import Recipe, as_in_the_paper

SHARED: Mapping[str, Any] = {"rounds": 0, "segmentor_every": 0}

ONE, FEW, MANY, FULL = "one-step", "ddim-3x1", "ddim-3x5", "ancestral-10x1"


@dataclass(frozen=True)
class Variant:
    """A model of an ablation.

    changes : fields of the recipe.  paper : they change the paper's mode in place of ours.
    longer : so many times the ablation's iterations.  settings : of the sampler, by name; the
    variant is judged by the first.
    """

    name: str
    title: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    paper: bool = False
    longer: int = 1
    settings: tuple[str, ...] = (MANY, FEW, ONE)

    def recipe(self, base: Recipe, seed: int) -> Recipe:
        """The base recipe with what this variant changes."""
        mine = replace(base, **SHARED)
        if self.paper:
            mine = replace(as_in_the_paper(mine), stem=base.stem, steps=3, samples=5)
        end = base.iterations * self.longer
        mine = replace(mine, **dict(self.changes))
        return replace(mine, iterations=end, validate_every=end, seed=seed)


@dataclass(frozen=True)
class Ablation:
    """title : one line.  section : of the paper.  against : the variant whose first setting every
    other one is compared with."""

    title: str
    section: str
    variants: tuple[Variant, ...]
    against: str

    def variant(self, name: str) -> Variant:
        """The variant of a name; StopIteration for others."""
        return next(variant for variant in self.variants if variant.name == name)


OURS = Variant("ours", "y0 output, CE + Dice, our priors")
CONTROL = Variant(
    "control",
    "the same network, trained for the one pass alone",
    {"one_step": 1.0},
    settings=(ONE,),
)
UNLINKED_TOO = (MANY, f"{MANY}-unlinked", FEW, f"{FEW}-unlinked", ONE)
EPS: dict[str, Any] = {"predicts": "eps"}
KL: dict[str, Any] = {"loss": "kl", "posterior": "plugin"}
FOCAL: dict[str, Any] = {"loss": "kl-focal", "posterior": "plugin"}
PAPER_SETTINGS = (FULL, f"{FULL}-unlinked", *UNLINKED_TOO)
PAPER = Variant(
    "paper", "V5, the paper's mode: V4 + binarization", paper=True, settings=PAPER_SETTINGS
)


def _step(name: str, title: str, **changes: Any) -> Variant:
    """A variant on the way to the paper's mode."""
    focal = changes.get("loss", "kl-focal") == "kl-focal"
    return Variant(
        name, title, changes, paper=True, settings=PAPER_SETTINGS if focal else (FULL, MANY, FEW)
    )


PLAIN: Mapping[str, Any] = {"convolution": "real", "xformer": False, "loss": "kl"}

ABLATIONS: Mapping[str, Ablation] = {
    "refiner-control": Ablation(
        "the diffusion against a one-step discriminative refiner of the same network",
        "none: the paper has no such control",
        (OURS, CONTROL),
        "control",
    ),
    "output": Ablation(
        "what the network predicts, and the loss it learns by, with the focal link and without",
        "equations (8) to (13)",
        (
            OURS,
            Variant("y0-focal", "y0 output, KL + focal", FOCAL, settings=UNLINKED_TOO),
            Variant("eps", "eps output, CE + Dice", EPS),
            Variant("eps-focal", "eps output, KL + focal", EPS | FOCAL, settings=UNLINKED_TOO),
            PAPER,
            Variant(
                "paper-longer", "the paper's mode, 4 times as long", {}, True, 4, PAPER_SETTINGS
            ),
        ),
        "ours",
    ),
    "ablation": Ablation(
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
            Variant(
                "alternate", "ours, trained in turns with the segmentor", {"segmentor_every": 1}
            ),
            Variant("y0-focal", "ours with KL + focal loss", FOCAL, settings=UNLINKED_TOO),
            Variant("no-xformer", "ours without the X-Former", {"xformer": False}),
            Variant("real", "ours with real convolutions", {"convolution": "real"}),
            Variant("kl-mixture", "ours with the KL of the mixture", KL | {"posterior": "mixture"}),
            Variant("kl-plugin", "ours with the KL of the plugin", KL),
            Variant("berdiff", "ours with noise around 1/2 (BerDiff)", {"centre": "even"}),
            Variant("gaussian", "ours with a Gaussian kernel", {"kernel": "gaussian"}),
        ),
        "ours",
    ),
    "segmentors": Ablation(
        "refinement on top of each segmentor",
        "its comparison of segmentors",
        tuple(
            Variant(name.replace("/", "-"), name, {"segmentor": name})
            for name in ("unet", "attention-unet", "segresnet", "swin-unetr", "flexible-unet")
        ),
        "unet",
    ),
}
"""Every ablation by the name of its experiment."""
