"""A training run of a universal refiner from top to bottom: pictures, updates, scores, model."""

import math
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from napari_hidiff.diffusion import process_of
from napari_hidiff.diffusion.samplers import clamp_fixed
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.model import HiDiff, networks
from napari_hidiff.training.checkpoint import load_checkpoint, save_checkpoint
from napari_hidiff.training.datasets import Dataset
from napari_hidiff.training.device.graphs import Captured, own_stream
from napari_hidiff.training.device.updates import GradientStep, recorded
from napari_hidiff.training.learner import Learner, accelerator_for, widened
from napari_hidiff.training.progress import Watch
from napari_hidiff.training.recipes import Recipe
from napari_hidiff.training.run import (
    blank_card,
    check_folder,
    check_place,
    check_recipe,
    note_recipe,
    write_json,
)
from napari_hidiff.training.universal import crops, learn
from napari_hidiff.training.universal.pictures import SUPERPIXELS, Pictures, read_pictures
from napari_hidiff.training.universal.validation import Batched, prompted_scores

LOOK_EVERY = 25
"""Updates between two looks at the loss, each of which makes a GPU wait."""
SAY_EVERY = 30.0
"""Seconds between two lines about it."""
SAVE_AFTER = 120.0
"""Seconds between two checkpoints."""
WARMUP = 0.03
"""Share of a run in which the learning rate rises."""
STROKES = 10
WORTH = 32
"""Pictures or objects for which a process is started."""


@dataclass
class Clock:
    """How much of a run is over: by updates, or by minutes of training, those before it was
    interrupted included.

    minutes : 0 counts updates. update, before : where a resumed run goes on, in updates, seconds.
    Minutes run from :meth:`start` on, so that compiling takes nothing from the schedule.
    """

    iterations: int
    minutes: float
    update: int = 0
    before: float = 0.0

    began: float | None = None

    def start(self) -> None:
        """Let the minutes run, unless they do."""
        if self.began is None:
            self.began = time.monotonic()

    @property
    def seconds(self) -> float:
        return self.before + (0 if self.began is None else time.monotonic() - self.began)

    @property
    def part(self) -> float:
        """In [0, 1]; 1 is the end."""
        done = self.seconds / 60 / self.minutes if self.minutes else self.update / self.iterations
        return min(1.0, done)

    def rate(self, _: int = 0) -> float:
        """The factor of the learning rate now: a linear rise, then a cosine to a hundredth."""
        if self.part < WARMUP:
            return max(self.part / WARMUP, 1e-3)
        rest = (self.part - WARMUP) / (1 - WARMUP)
        return 0.01 + 0.99 * (1 + math.cos(math.pi * rest)) / 2


def train(
    recipe: Recipe,
    dataset: Dataset,
    folder: Path,
    device: str = "auto",
    resume: bool = False,
    command: str = "",
    cache: Path | None = None,
    skip_bad: bool = False,
    name: str | None = None,
    watch: Watch | None = None,
) -> Path:
    """Train on a collection of sets and return the path of the model, ``folder/model.safetensors``.

    ``folder`` also gets model-export.safetensors (signs in place of binary weights, for inference),
    recipe.json, last.pt, TensorBoard events and report.json: Dice of the validation cases after
    each stroke. ``cache`` (``cache`` beside ``folder``) keeps superpixels. Other arguments are
    those of :func:`napari_hidiff.training.trainer.train`.

    Raises
    ------
    InputError : bad data, a folder that holds another run, a recipe that does not fit, several
        processes.
    """
    if skip_bad:
        raise InputError("--skip-bad: take bad pairs out of the collection instead")
    accelerator = accelerator_for(replace(recipe, compile=False), device)
    if accelerator.num_processes > 1:
        raise InputError("a universal refiner trains in one process")
    card = blank_card(recipe, dataset, command)
    card = replace(card, name=name or "universal", summary="any object, from a stroke, box or mask")
    check_recipe(recipe, card)
    check_folder(folder, recipe, resume)
    check_place(folder)
    watch = watch or Watch(folder)
    note_recipe(folder, recipe)
    cache = cache or folder.parent / "cache"
    try:
        train_set, val = (
            _pictures(dataset, split, recipe, cache, watch) for split in ("train", "val")
        )
        assert train_set is not None
        training = Training(recipe, card, folder, accelerator, watch)
        training.run(train_set)
        return training.finish(val)
    finally:
        watch.close()


class Training:
    """The networks in training, and what a checkpoint holds of them."""

    def __init__(
        self, recipe: Recipe, card: Card, folder: Path, accelerator: Any, watch: Watch
    ) -> None:
        self.recipe, self.card, self.folder, self.watch = recipe, card, folder, watch
        self.accelerator, self.device = accelerator, accelerator.device
        torch.manual_seed(recipe.seed)
        torch.backends.cudnn.benchmark = True  # all crops have one size
        self.clock = Clock(recipe.iterations, recipe.minutes)
        module = learn.Prompted(*networks(card))
        # torch.compile makes kernels of the forward pass alone; a batch is an update.
        whole = replace(recipe, compile=False, accumulate=1)
        self.learner = Learner(
            module,
            recipe.lr,
            recipe.iterations,
            recipe.weight_decay,
            recipe.ema,
            accelerator,
            factor=lambda update: self.clock.rate(update),
            captured=recorded(whole, card, accelerator, watch.say),
        )
        forward = learn.Prompted.forward
        self.forward = torch.compile(forward) if recipe.compile else forward
        self.process = process_of(card.diffusion)
        self.draws = crops.Draws(torch.Generator(self.device).manual_seed(recipe.seed))
        self.coins = torch.Generator().manual_seed(recipe.seed)
        self.last = folder / "last.pt"
        if self.last.exists():
            self._restore(load_checkpoint(self.last))

    @property
    def module(self) -> learn.Prompted:
        return cast(learn.Prompted, self.learner.plain)

    @property
    def averaged(self) -> learn.Prompted:
        return cast(learn.Prompted, self.learner.averaged)

    def run(self, pictures: Pictures) -> None:
        """Update until the clock is over."""
        recipe, clock = self.recipe, self.clock
        pictures = pictures.to(self.device)
        update = Update(self, pictures)
        saved = told = clock.seconds
        total = 1000 if recipe.minutes else recipe.iterations
        shown, over, losses = round(clock.part * total), clock.part >= 1, []
        progress = self.watch.progress("universal refiner", shown, total)
        with own_stream(self.device), progress as advance:
            while not over:
                losses.append(update())
                clock.update += 1
                clock.start()
                over, stop = clock.part >= 1, self.watch.stopping
                if len(losses) == LOOK_EVERY or over or stop:
                    value = self.learner.finite(torch.stack(losses).mean(), clock.update)
                    losses.clear()
                    self.watch.scalar("loss/universal", value, clock.update)
                    if clock.seconds - told > SAY_EVERY or over:
                        told = clock.seconds
                        self.watch.say(f"{told:.0f} s, {clock.update} updates: loss {value:.4f}")
                    now = round(clock.part * total)
                    for _ in range(now - shown):
                        advance(loss=value)
                    shown = now
                    if over or stop or clock.seconds - saved > SAVE_AFTER:
                        save_checkpoint(self.last, self._state())
                        saved = clock.seconds
                if stop and not over:
                    self.watch.stopped("universal refiner", clock.update)
        for note in update.notes:
            self.watch.say(note)
        self.watch.say(f"{clock.update} updates in {clock.seconds:.0f} s")

    def model(self) -> HiDiff:
        """The averaged networks."""
        return HiDiff(self.card, self.averaged.segmentor, self.averaged.refiner, self.device)

    def finish(self, val: Pictures | None) -> Path:
        """Write the model in both forms and the report; what takes longest, the scores, last."""
        facts: dict[str, Any] = {
            "updates": self.clock.update,
            "seconds": round(self.clock.seconds, 1),
            "device": _device_name(self.device),
        }
        self._write(facts)
        if val is not None:
            self.watch.note(stage="scoring")
            asked, most = Batched(self.model()), self.recipe.validate_cases
            scores = prompted_scores(asked, val, STROKES, most, _workers(len(val.names) * most))
            self._write(facts | {"validation": scores})
            for row in scores:
                self.watch.say(f"{row['set']} ({row['strokes']}, n {row['n']}): {row['dice']}")
        path = self.folder / "model.safetensors"
        self.watch.note(stage="finished", model=str(path))
        return path

    def _write(self, facts: dict[str, Any]) -> None:
        """The model under a card with what is known of it, and the same as a report."""
        model = self.model().with_card(training=self.card.training | facts)
        model.save(self.folder / "model.safetensors")
        if self.recipe.convolution == "binary":
            model.save(self.folder / "model-export.safetensors", export=True)
        write_json(self.folder / "report.json", facts)

    def _state(self) -> dict[str, Any]:
        return {
            "learner": self.learner.state_dict(),
            "update": self.clock.update,
            "seconds": self.clock.seconds,
            "draws": self.draws.generator.get_state(),
            "coins": self.coins.get_state(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.clock = Clock(
            self.recipe.iterations, self.recipe.minutes, state["update"], state["seconds"]
        )
        self.learner.load_state_dict(state["learner"])
        self.draws.generator.set_state(state["draws"])
        self.coins.set_state(state["coins"])


class Update:
    """One update: a batch is drawn, the annotator prompts, the network learns. On a GPU each part
    is replayed (:class:`Captured`).
    """

    def __init__(self, training: Training, pictures: Pictures) -> None:
        self.training, self.pictures, self.chances = training, pictures, pictures.chances()
        self.recipe, self.draws = training.recipe, training.draws
        generator = training.draws.generator
        self.annotator = learn.Annotator(
            training.averaged,
            training.process,
            self.recipe.rounds,
            training.accelerator.autocast,
            training.draws,
            training.coins,
        )
        self.cut = Captured(self._cut, training.device, generator)
        self.learn = GradientStep(training.learner, self._loss, generator)

    @property
    def notes(self) -> list[str]:
        """Why parts are not replayed on a GPU."""
        parts = (self.cut, *self.annotator.parts, self.learn.recorded)
        return [part.note for part in parts if part.note]

    def __call__(self) -> torch.Tensor:
        """The loss, a scalar on the device."""
        self.training.module.train()
        batch: crops.Crops = self.cut()
        prior, fixed = self.annotator.prompts(batch)
        return self.learn.launch(batch.image, batch.target, prior, fixed)

    @torch.no_grad()
    def _cut(self) -> crops.Crops:
        recipe = self.recipe
        return crops.draw(self.pictures, self.chances, recipe.batch, recipe.crop, self.draws)

    def _loss(
        self,
        image: torch.Tensor,
        target: torch.Tensor,
        prior: torch.Tensor,
        fixed: torch.Tensor,
    ) -> torch.Tensor:
        training, process = self.training, self.training.process
        prior = clamp_fixed(prior, fixed)
        y_t, t = learn.noisy(process, target, prior, self.recipe.one_step, self.draws)
        y_t = clamp_fixed(y_t, fixed)
        with training.accelerator.autocast():
            logits = training.forward(training.module, image, prior, fixed, y_t, t)
        return learn.prompted_loss(widened(logits), target, t == process.steps)


def _pictures(
    dataset: Dataset, split: str, recipe: Recipe, cache: Path, watch: Watch
) -> Pictures | None:
    """The pictures of a split; None for a val split without any."""
    cases = dataset.split(split) if split == "train" else dataset.splits[split]
    if not cases:
        return None
    kept = cache / SUPERPIXELS if split == "train" else None
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
    with watch.progress(f"reading {split}", 0, len(cases)) as advance:
        return read_pictures(cases, recipe.longest_side, kept, _workers(len(cases)), advance)


def _workers(count: int) -> int:
    """Processes for so many pictures or objects, where starting them pays."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    return min(16, cores, count // WORTH)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
