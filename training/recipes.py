"""Training recipes: one dataclass, one instance per data set.

Sizes (pixels, width, batch, learning rate, iterations) are the paper's; :data:`SIZES` has smaller
ones for a CPU. The mode is the best of our comparisons: y0 logits as the network's output, cross
entropy and Dice as the loss, priors that carry the errors of unseen images, and simulated
corrections. :func:`as_in_the_paper` switches a recipe to the paper's mode.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_hidiff.training.datasets import Dataset

LOSSES = ("ce-dice", "kl", "kl-focal")
PRECISIONS = ("auto", "fp32", "bf16", "fp16", "fp64")


@dataclass(frozen=True)
class Recipe:
    """Every number of a training run; the metadata is the help text of the command line."""

    dataset: str
    start: str = field(
        default="", metadata={"help": "The model to start from (--from); empty = from scratch."}
    )

    intensity: str = field(
        default="",
        metadata={
            "help": "How grey values are normalised: standardize, zscore or window:LOW:HIGH; "
            "empty = the data set's own rule."
        },
    )
    segmentor: str = field(
        default="unet",
        metadata={
            "help": "unet, lite-unet, flexible-unet/BACKBONE, swin-unetr, attention-unet, "
            "segresnet, smp:ARCHITECTURE/ENCODER, or MODULE:FACTORY of your own."
        },
    )
    segmentor_layers: str = field(
        default="",
        metadata={"help": "Four layers of MODULE:FACTORY with strides 4,8,16,32, by name."},
    )
    prior_from: str = field(
        default="",
        metadata={
            "help": "Priors from elsewhere: a folder of masks named by case, or a TorchScript file."
        },
    )
    pretrain_iterations: int = field(
        default=20_000, metadata={"help": "Iterations of the segmentor before the refiner starts."}
    )
    pretrain_lr: float = field(default=1e-4, metadata={"help": "Peak learning rate, segmentor."})
    folds: int = field(
        default=2,
        metadata={
            "help": "Extra segmentors trained on parts of the training cases; their priors for "
            "the other part carry the errors of unseen images. 0 = none."
        },
    )
    fold_iterations: int = field(default=10_000, metadata={"help": "Iterations of each of them."})

    width: int = field(default=128, metadata={"help": "Channels of the refiner, 32 n."})
    stem: int = field(default=1, metadata={"help": "Stride of the refiner's input, 1 or 2."})
    convolution: str = field(default="binary", metadata={"help": "binary, or its real twin."})
    xformer: bool = field(
        default=True, metadata={"help": "Join both networks' features by the X-Former."}
    )
    predicts: str = field(default="y0", metadata={"help": "What the refiner predicts: y0 or eps."})

    diffusion_steps: int = field(default=10, metadata={"help": "T."})
    schedule: str = field(default="cosine", metadata={"help": "Noise schedule."})
    schedule_s: float = field(default=0.008, metadata={"help": "Offset of the cosine schedules."})
    kernel: str = field(
        default="bernoulli",
        metadata={
            "help": "What the noise is: flips of pixels (bernoulli), or normal (gaussian), which "
            "goes with ce-dice and y0 alone."
        },
    )
    centre: str = field(
        default="prior",
        metadata={"help": "What the noise ends in: the prior, or even chances (BerDiff)."},
    )
    loss: str = field(default="ce-dice", metadata={"help": f"One of {', '.join(LOSSES)}."})
    posterior: str = field(default="mixture", metadata={"help": "Posterior in the KL."})

    iterations: int = field(default=40_000, metadata={"help": "Iterations of the refiner."})
    lr: float = field(default=1e-4, metadata={"help": "Peak learning rate, refiner."})
    segmentor_every: int = field(
        default=4, metadata={"help": "A segmentor step after every n refiner steps; 0 = never."}
    )
    segmentor_lr: float = field(default=1e-4, metadata={"help": "Learning rate of these steps."})
    lambda_diff: float = field(default=1.0, metadata={"help": "Weight of L_Diff in them."})
    crop: int = field(
        default=256,
        metadata={"help": "Side of the training crops, pixels; at most what the images fill."},
    )
    longest_side: int = field(
        default=0,
        metadata={
            "help": "Shrink pictures and slices to at most so many pixels first; the model then "
            "expects images of that size. 0 leaves them as they are."
        },
    )
    slices: int = field(
        default=1,
        metadata={
            "help": "Neighbouring slices of a volume that the networks see together to find the "
            "middle one, an odd number."
        },
    )
    flips: bool = field(
        default=True,
        metadata={
            "help": "Flip and turn crops at will; off where left and right, front and back are "
            "told apart."
        },
    )
    batch: int = field(
        default=32, metadata={"help": "Crops per forward pass, divided among the processes."}
    )
    accumulate: int = field(default=1, metadata={"help": "Forward passes per update, averaged."})
    weight_decay: float = field(default=1e-4, metadata={"help": "Of real weight matrices."})
    ema: float = field(default=0.999, metadata={"help": "Decay of the averaged weights."})

    own_prior: float = field(
        default=0.25, metadata={"help": "Share of crops with the current segmentor's prior."}
    )
    mask_prior: float = field(
        default=0.25, metadata={"help": "Share of crops whose prior is a softened hard mask."}
    )
    corrupt: float = field(default=0.5, metadata={"help": "Share of priors with added errors."})
    corrections: float = field(default=0.5, metadata={"help": "Share of crops with fixed pixels."})
    rounds: int = field(
        default=4,
        metadata={
            "help": "In half of the iterations 1 to so many strokes are painted first, each on the "
            "largest error that the refiner left after the one before. 0 = never."
        },
    )
    one_step: float = field(
        default=0.4, metadata={"help": "Share of crops at t = T from y_T = (f >= .5)."}
    )
    trajectory: float = field(
        default=0.0,
        metadata={
            "help": "Share of crops at t < T whose y_t the refiner's own DDIM step leads to."
        },
    )

    hypotheses: int = field(
        default=0, metadata={"help": "Masks that a prompted refiner offers beside its answer."}
    )
    hold_out: str = field(
        default="",
        metadata={"help": "Sets of a collection to leave out of training, separated by commas."},
    )
    minutes: float = field(
        default=0.0,
        metadata={
            "help": "Train a prompted refiner for so long, whatever the device does meanwhile, in "
            "place of --iterations; 0 = count iterations."
        },
    )

    seed: int = field(default=0, metadata={"help": "Of weights, crops and noise."})
    workers: int = field(default=4, metadata={"help": "Processes that prepare crops."})
    precision: str = field(
        default="auto",
        metadata={
            "help": "fp32, bf16, fp16, fp64 (to compare runs); auto takes bf16 where the "
            "device computes in it."
        },
    )
    compile: bool = field(
        default=False, metadata={"help": "torch.compile the networks: slow start, faster steps."}
    )
    validate_every: int = field(default=2000, metadata={"help": "Iterations between validations."})
    validate_cases: int = field(default=32, metadata={"help": "Cases per validation, at most."})
    sampler: str = field(
        default="ddim", metadata={"help": "Default sampler, unless one-step validates as well."}
    )
    steps: int = field(default=3, metadata={"help": "Its steps."})
    samples: int = field(default=5, metadata={"help": "Its samples, averaged."})


SIZES: dict[str, dict[str, Any]] = {
    "paper": {},
    "small": {
        "crop": 128,
        "width": 32,
        "stem": 2,
        "batch": 8,
        "lr": 2e-3,
        "pretrain_lr": 2e-3,
        "ema": 0.99,
        "pretrain_iterations": 4000,
        "fold_iterations": 1500,
        "segmentor_every": 0,
        "iterations": 12_000,
        "validate_every": 2000,
        "workers": 1,
    },
    "quick": {
        "width": 32,
        "stem": 2,
        "batch": 4,
        "lr": 2e-3,
        "pretrain_lr": 2e-3,
        "ema": 0.99,
        "pretrain_iterations": 1200,
        "fold_iterations": 400,
        "segmentor_every": 0,
        "iterations": 1500,
        "validate_every": 500,
        "workers": 1,
    },
}
"""Changes to a recipe: the paper's size for a GPU, an evening (about 3 hours) and an hour on a
laptop's CPU. Shares, diffusion and loss stay."""

UNIVERSAL: dict[str, dict[str, Any]] = {
    "paper": {
        "segmentor": "encoder",
        "hypotheses": 3,
        "width": 64,
        "stem": 2,
        "crop": 192,
        "longest_side": 256,
        "batch": 64,
        "lr": 2e-3,
        "ema": 0.995,
        "one_step": 0.9,
        "iterations": 8000,
        "validate_cases": 120,
        "sampler": "one-step",
    },
}
UNIVERSAL["small"] = UNIVERSAL["paper"] | {
    "width": 32,
    "crop": 160,
    "batch": 16,
    "validate_cases": 36,
}
UNIVERSAL["quick"] = UNIVERSAL["small"] | {"crop": 128, "batch": 8, "iterations": 1500}
"""The universal refiner by size: any object in any image, from a prompt (``--dataset collection``).
"""

PROMPTED = ("collection",)
"""Data sets that train a prompted refiner."""

NAMES = ("synapse", "brats", "kvasir", "cvc", "drive", "chase", "msd", "polyp", "folder", *PROMPTED)

RECIPES: dict[str, Recipe] = {name: Recipe(dataset=name) for name in NAMES}
for _name in ("synapse", "msd"):  # a left kidney is no right one
    RECIPES[_name] = replace(RECIPES[_name], flips=False)
RECIPES["brats"] = replace(RECIPES["brats"], crop=224)  # the paper's slices of BraTS


def as_in_the_paper(recipe: Recipe) -> Recipe:
    """The paper's mode: eps output, KL (plugin) + focal, alternate steps, the segmentor's priors.

    Sizes and the number of iterations stay those of the recipe; set them on the command line.
    """
    return replace(
        recipe,
        predicts="eps",
        loss="kl-focal",
        posterior="plugin",
        folds=0,
        segmentor_every=1,
        own_prior=1.0,
        mask_prior=0.0,
        corrupt=0.0,
        corrections=0.0,
        rounds=0,
        trajectory=0.0,
        one_step=0.0,
        stem=1,
        sampler="ancestral",
        steps=recipe.diffusion_steps,
        samples=1,
    )


def plan(recipe: Recipe, dataset: "Dataset", device: str = "") -> list[str]:
    """What a run will do, in five lines for people; device : what it runs on, if that is known."""
    cases = ", ".join(f"{len(cases)} {name}" for name, cases in dataset.splits.items())
    notes = "".join(f"; {note}" for note in dataset.notes)
    folds = f", and {recipe.folds} on parts of them for honest first masks" if recipe.folds else ""
    where = f" on {device}" if device else ""
    return [
        f"data:      {dataset.name}: {cases}{notes}",
        f"finds:     {', '.join(dataset.classes[1:])}; reads {', '.join(dataset.channels)}",
        f"size:      crops of {recipe.crop} px, width {recipe.width}, "
        f"batches of {recipe.batch}{where}",
        f"segmentor: {recipe.pretrain_iterations} iterations on all cases{folds}",
        f"refiner:   {recipe.iterations} iterations, scored every {recipe.validate_every}"
        if recipe.iterations
        else "refiner:   stays as it is",
    ]
