"""How a model is trained: one dataclass, one instance per data set.

The defaults are what the comparisons behind this package found to work with short training on a
CPU: y0 logits as the network's output, cross entropy and Dice as the loss, priors that carry the
errors of unseen images, and simulated corrections. :func:`as_in_the_paper` switches a recipe to
the mode of the paper.
"""

from dataclasses import dataclass, field, replace

LOSSES = ("ce-dice", "kl", "kl-focal")


@dataclass(frozen=True)
class Recipe:
    """Every number of a training run; the metadata is the help text of the command line."""

    dataset: str

    segmentor: str = field(default="unet", metadata={"help": "unet or flexible-unet."})
    pretrain_iterations: int = field(
        default=1200, metadata={"help": "Iterations of the segmentor before the refiner starts."}
    )
    pretrain_lr: float = field(default=2e-3, metadata={"help": "Peak learning rate, segmentor."})
    folds: int = field(
        default=2,
        metadata={
            "help": "Extra segmentors trained on parts of the training cases; their priors for "
            "the other part carry the errors of unseen images. 0 = none."
        },
    )
    fold_iterations: int = field(default=400, metadata={"help": "Iterations of each of them."})

    width: int = field(default=32, metadata={"help": "Channels of the refiner, 32 n."})
    stem: int = field(default=2, metadata={"help": "Stride of the refiner's input, 1 or 2."})
    convolution: str = field(default="binary", metadata={"help": "binary, or its real twin."})
    predicts: str = field(default="y0", metadata={"help": "What the refiner predicts: y0 or eps."})

    diffusion_steps: int = field(default=10, metadata={"help": "T."})
    schedule: str = field(default="cosine", metadata={"help": "Noise schedule."})
    schedule_s: float = field(default=0.008, metadata={"help": "Offset of the cosine schedules."})
    loss: str = field(default="ce-dice", metadata={"help": f"One of {', '.join(LOSSES)}."})
    posterior: str = field(default="mixture", metadata={"help": "Posterior in the KL."})

    iterations: int = field(default=1500, metadata={"help": "Iterations of the refiner."})
    lr: float = field(default=2e-3, metadata={"help": "Peak learning rate, refiner."})
    segmentor_every: int = field(
        default=4, metadata={"help": "A segmentor step after every n refiner steps; 0 = never."}
    )
    segmentor_lr: float = field(default=1e-4, metadata={"help": "Learning rate of these steps."})
    lambda_diff: float = field(default=1.0, metadata={"help": "Weight of L_Diff in them."})
    crop: int = field(default=256, metadata={"help": "Side of the training crops, pixels."})
    batch: int = field(default=4, metadata={"help": "Crops per forward pass."})
    accumulate: int = field(default=1, metadata={"help": "Forward passes per update, averaged."})
    weight_decay: float = field(default=1e-4, metadata={"help": "Of real weight matrices."})
    ema: float = field(default=0.99, metadata={"help": "Decay of the averaged weights."})

    own_prior: float = field(
        default=0.25, metadata={"help": "Share of crops with the current segmentor's prior."}
    )
    mask_prior: float = field(
        default=0.25, metadata={"help": "Share of crops whose prior is a softened hard mask."}
    )
    corrupt: float = field(default=0.5, metadata={"help": "Share of priors with added errors."})
    corrections: float = field(default=0.5, metadata={"help": "Share of crops with fixed pixels."})
    one_step: float = field(
        default=0.4, metadata={"help": "Share of crops at t = T from y_T = (f >= .5)."}
    )

    seed: int = field(default=0, metadata={"help": "Of weights, crops and noise."})
    workers: int = field(default=1, metadata={"help": "Processes that prepare crops."})
    validate_every: int = field(default=500, metadata={"help": "Iterations between validations."})
    sampler: str = field(
        default="ddim", metadata={"help": "Default sampler, unless one-step validates as well."}
    )
    steps: int = field(default=3, metadata={"help": "Its steps."})
    samples: int = field(default=5, metadata={"help": "Its samples, averaged."})


RECIPES: dict[str, Recipe] = {name: Recipe(dataset=name) for name in ("chase", "drive", "folder")}


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
        one_step=0.0,
        stem=1,
        sampler="ancestral",
        steps=recipe.diffusion_steps,
        samples=1,
    )
