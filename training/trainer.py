"""A training run from top to bottom: data, segmentors, alternation, report, model file."""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from napari_hidiff.errors import InputError, refused
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.model import HiDiff, networks
from napari_hidiff.inference.ood import merged
from napari_hidiff.networks.refiner import Refiner
from napari_hidiff.networks.segmentor import Segmentor
from napari_hidiff.training import case_cache
from napari_hidiff.training.case_cache import Store, Stored
from napari_hidiff.training.checkpoint import load_checkpoint, save_checkpoint
from napari_hidiff.training.crops import Crops, batches, fitted, needs_priors
from napari_hidiff.training.datasets import Dataset
from napari_hidiff.training.datasets.base import common_spacing
from napari_hidiff.training.datasets.lacking import check_foreground, never_trained
from napari_hidiff.training.device.updates import learner_for, recorded
from napari_hidiff.training.fine_tuning import (
    adapted,
    glance,
    held_out_scores,
    starting_model,
    with_origin,
)
from napari_hidiff.training.learner import accelerator_for, real_type
from napari_hidiff.training.priors import open_prior_source
from napari_hidiff.training.progress import Watch
from napari_hidiff.training.recipes import Recipe, plan
from napari_hidiff.training.run import (
    Run,
    blank_card,
    check_cases,
    check_folder,
    check_place,
    check_recipe,
    note_recipe,
    recommended,
    write_json,
)
from napari_hidiff.training.stages import Alternation, out_of_fold, predictor, pretrain, with_priors
from napari_hidiff.training.validation import (
    calibration,
    first_mask,
    refined,
    searched,
    validate,
    with_threshold,
)

MAIN_STAGE, REFINER_STAGE = 0, 100
SAVE_EVERY = 100
SCORES = (
    "Dice of unseen cases, 1 is perfect. prior: the first mask; one-step, refined: after "
    "refinement; painted: after 3 simulated strokes alone; corrected: after strokes and updates."
)
"""What the numbers of a validation are."""


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
    """Train a model and return the path of its file, ``folder/model.safetensors``.

    ``folder`` also gets recipe.json, checkpoints (last.pt, best.pt, one per segmentor), the priors
    of unseen images, TensorBoard events and report.json (validation scores, calibration). An
    existing folder is refused unless ``resume`` is set; the run then continues and ends with the
    weights of an uninterrupted one. ``cache`` (default: ``cache`` beside ``folder``) stores the
    images. ``name`` is the model's (default: the data set's). ``watch`` shows the run and may stop
    it, with a checkpoint and :class:`progress.Stopped`.

    A recipe with a ``start`` is a fine-tuning (:mod:`.fine_tuning`): segmentor and refiner continue
    from that model, and report.json holds the scores of the held-out cases before and after.

    Raises
    ------
    InputError : bad data (with ``skip_bad`` such cases are left out), a folder of another run, a
        recipe that does not fit, a full disk. Written files stay complete, and the run can be
        resumed.
    """
    start = starting_model(recipe.start) if recipe.start else None
    if start is not None:
        dataset = adapted(dataset, start.card)

    def blank() -> Card:
        card = blank_card(recipe, dataset, command)
        if start is not None:
            card = with_origin(card, start, recipe.start, name)
        return card if name is None else replace(card, name=name)

    card = blank()
    check_recipe(recipe, card)
    dataset = replace(
        dataset,
        intensity=card.intensity,
        longest_side=recipe.longest_side,
        slices=card.slices,
    )
    if start is not None and not recipe.longest_side:
        dataset = replace(dataset, at_scale_of=start.card)
    accelerator = accelerator_for(recipe, device)
    cache = cache or folder.parent / "cache"
    if accelerator.is_main_process:
        check_folder(folder, recipe, resume)
        check_place(cache)
    accelerator.wait_for_everyone()
    watch = watch or Watch(folder, shown=accelerator.is_main_process)
    try:
        with accelerator.main_process_first():  # the others use its cache
            store = read_cases(dataset, cache, skip_bad, watch)
        check_cases(folder, store.splits, writes=False)
        if accelerator.is_main_process:
            note_recipe(folder, recipe)
            check_cases(folder, store.splits, writes=True)
        recipe = fitted(recipe, store.splits["train"])
        card = with_data(blank(), store)
        if start is not None:
            start.segmentor.to(accelerator.device)
            start.refiner.to(accelerator.device)
            start.device = accelerator.device
        for line in plan(recipe, dataset, str(accelerator.device)):
            watch.say(line)
        recorded(recipe, card, accelerator, watch.say)
        run = Run(recipe, card, folder, accelerator, watch, start)
        cases, held_out = (from_elsewhere(run, store.splits[name]) for name in ("train", "val"))
        run, segmentor, cases = segmentor_stage(run, cases, held_out)
        if not held_out:
            scores = "there are none" if start else "are those of training images"
            watch.say(f"no validation case: scores {scores}")
        return refiner_stage(run, segmentor, cases, held_out if start else held_out or cases)
    except (OSError, InputError) as error:
        cause = error.__cause__ if isinstance(error, InputError) else error
        if not isinstance(cause, OSError):
            raise
        line = f"{cause.filename or folder}: {refused(cause)}" if cause is error else str(error)
        begun = (folder / "recipe.json").exists()
        again = "--resume goes on" if begun else "the same command goes on"
        raise InputError(f"{line}; {again} once that is put right") from error
    finally:
        watch.close()


def read_cases(dataset: Dataset, cache: Path, skip_bad: bool, watch: Watch) -> Store:
    """The training and validation cases in the cache; at least one trains."""
    dataset.split("train")  # an InputError if there is none
    folder = cache / dataset.name
    with watch.progress(f"reading into {folder}", 0, None) as advance:
        store = case_cache.build(
            dataset,
            ("train", "val"),
            folder,
            skip_bad,
            lambda done, total: advance(total=total),
        )
    for line in store.skipped:
        watch.say(f"skipped: {line}")
    train, val = ({case.id: case.labels for case in store.splits[s]} for s in ("train", "val"))
    check_foreground(train)
    for line in never_trained(dataset.classes, train, val):
        watch.say(line)
    return store


def with_data(card: Card, store: Store) -> Card:
    """The card with the facts of the cases in the cache."""
    seen = {split: [case.id for case in cases] for split, cases in store.splits.items()}
    skipped = {"skipped": store.skipped} if store.skipped else {}
    looks = merged([card.looks, *(case.looks for case in store.splits["train"])])
    if card.spacing is None:
        found = common_spacing(case.spacing for case in store.splits["train"])
        card = replace(card, spacing=found)
    return replace(card, training=card.training | {"cases": seen} | skipped, looks=looks)


def from_elsewhere(run: Run, cases: list[Stored]) -> list[Stored]:
    """The cases with priors of the recipe's source, if it names one."""
    if not run.recipe.prior_from:
        return cases
    device = str(run.accelerator.device)
    source = open_prior_source(Path(run.recipe.prior_from), run.card, device)

    def prior_of(case: Stored) -> np.ndarray:
        return source.prior(case.id, case.image.astype(np.float32))

    return with_priors(cases, prior_of, f"priors from {run.recipe.prior_from}", run)


def segmentor_stage(
    run: Run, cases: list[Stored], held_out: list[Stored]
) -> tuple[Run, Segmentor, list[Stored]]:
    """The segmentor with its threshold on the run's card, and the cases with the priors for the
    refiner."""
    recipe = run.recipe
    wanted = needs_priors(recipe)
    if wanted and run.start is not None:  # it never saw these cases: no folds are needed
        cases = with_priors(cases, predictor(cast(Segmentor, run.start.segmentor)), "priors", run)
    elif wanted and recipe.folds > 1 and not recipe.prior_from:
        cases = out_of_fold(cases, run)
    segmentor = pretrain("segmentor", MAIN_STAGE, recipe.pretrain_iterations, cases, run)
    if run.start is None and not recipe.prior_from and held_out:
        found = searched(
            first_mask(segmentor), held_out, recipe.validate_cases, len(run.card.classes)
        )
        segmentor.threshold = found.threshold
        run = replace(run, card=with_threshold(run.card, "segmentor", found))
    missing = [case for case in cases if case.prior_file is None]
    if wanted and missing:
        done = with_priors(missing, predictor(segmentor), "priors", run)
        by_id = {case.id: case for case in (*cases, *done)}
        cases = [by_id[case.id] for case in cases]
    return run, segmentor, cases


def refiner_stage(
    run: Run, segmentor: Segmentor, cases: list[Stored], held_out: list[Stored]
) -> Path:
    """Alternate, validate, keep the best; then report and export it."""
    recipe, card, accelerator, watch = run.recipe, run.card, run.accelerator, run.watch
    torch.manual_seed(recipe.seed * 1000 + REFINER_STAGE)
    start, refiner = networks(card)
    start.load_state_dict(segmentor.state_dict())
    if run.start is not None:
        refiner.load_state_dict(run.start.refiner.state_dict())
    turns = recipe.iterations // recipe.segmentor_every if recipe.segmentor_every else 1
    shared = (recipe, card, accelerator)
    pair = Alternation(
        learner_for(start, recipe.segmentor_lr, turns, *shared),
        learner_for(refiner, recipe.lr, recipe.iterations, *shared),
        card,
        recipe,
        accelerator,
    )
    last, best = run.folder / "last.pt", run.folder / "best.pt"
    done, history = 0, []
    if last.exists():
        state = load_checkpoint(last)
        pair.segmentor.load_state_dict(state["segmentor"])
        pair.refiner.load_state_dict(state["refiner"])
        done, history = state["iteration"], state["history"]
    crops = Crops(cases, recipe, card, REFINER_STAGE, refining=True)
    with watch.progress("refiner", done, recipe.iterations) as advance:
        groups = batches(crops, done, recipe.iterations, **run.place)
        for iteration, group in enumerate(groups, done + 1):
            values = pair.iterate(group, iteration)
            advance(loss=values["refiner"])
            for name, value in values.items():
                watch.scalar(f"loss/{name}", value, iteration)
            finished = iteration == recipe.iterations
            due = iteration % recipe.validate_every == 0 or finished
            if run.main and due and held_out:
                model, most = _model(run, pair), recipe.validate_cases
                if run.start is not None:
                    scores = glance(model, held_out, most)
                else:
                    seen = partial(_say_scored, advance)
                    scores, pictures = validate(model, held_out, most, seen)
                    watch.picture("truth, prior, refined", pictures, iteration)
                if not history:
                    watch.say(SCORES)
                watch.say(f"iteration {iteration}: validation Dice {_line(scores)}")
                for name, value in scores.items():
                    watch.scalar(f"validation/{name}", value, iteration)
                watch.note(stage="validation", iteration=iteration, **scores)
                history.append({"iteration": iteration, **scores})
                if run.start is None and all(
                    _merit(card, row) < _merit(card, history[-1]) for row in history[:-1]
                ):
                    save_checkpoint(best, _weights(pair) | {"iteration": iteration})
            if run.main and finished and run.start is not None:
                # Held-out cases choose nothing, so that their scores stay unbiased.
                save_checkpoint(best, _weights(pair) | {"iteration": iteration})
            stop = watch.stopping and not finished
            if run.main and (iteration % SAVE_EVERY == 0 or finished or stop):
                state = {"segmentor": pair.segmentor.state_dict()}
                state |= {"refiner": pair.refiner.state_dict()}
                save_checkpoint(last, state | {"iteration": iteration, "history": history})
            if stop:
                watch.stopped("refiner", iteration)
    for note in pair.notes:
        watch.say(note)
    if run.main:
        export(run, held_out, history)
    accelerator.wait_for_everyone()
    return run.folder / "model.safetensors"


def export(run: Run, held_out: list[Stored], history: list[dict[str, Any]]) -> None:
    """The best checkpoint as a model file, with its report."""
    state, device = load_checkpoint(run.folder / "best.pt"), run.accelerator.device
    training = run.card.training | {"best_iteration": state["iteration"]}
    report: dict[str, Any] = {"best_iteration": state["iteration"], "validation": history}
    path = run.folder / "model.safetensors"
    if run.start is None:
        scores = next(row for row in history if row["iteration"] == state["iteration"])
        training = training | {"validation": scores}
        chosen = recommended(run.card, scores)
        model = loaded(replace(run.card, training=training, defaults=chosen), state, device)
        if run.card.training["cases"].get("val"):
            model = with_refiner_threshold(run, model, state, held_out)
        report["thresholds"] = model.card.training.get("thresholds", {})
        report["calibration"] = calibration(model, held_out, run.recipe.validate_cases)
    else:
        run.watch.note(stage="scoring")
        model = loaded(run.card, state, device)
        report["held_out"] = held_out_scores(run.start, model, held_out)
        model = model.with_card(training=training | {"held_out": report["held_out"]})
    write_json(run.folder / "report.json", report)
    model.save(path)
    run.watch.note(stage="finished", model=str(path))


def loaded(card: Card, state: dict[str, Any], device: torch.device) -> HiDiff:
    """The networks of a card with the weights of a checkpoint."""
    segmentor, refiner = networks(card)
    segmentor.load_state_dict(state["segmentor"])
    refiner.load_state_dict(state["refiner"])
    return HiDiff(card, segmentor, refiner, device)


def with_refiner_threshold(
    run: Run, model: HiDiff, state: dict[str, Any], held_out: list[Stored]
) -> HiDiff:
    """The model with the best threshold of its refiner, if refinements and answers to strokes of
    the validation cases are better with it; else the model as it is."""
    if run.recipe.predicts != "y0":
        return model
    most, before = run.recipe.validate_cases, model.card.training["validation"]
    found = searched(refined(model), held_out, most, model.labels)
    if found.threshold == 0.5:
        return model
    other = loaded(with_threshold(model.card, "refiner", found), state, run.accelerator.device)
    scores = before | validate(other, held_out, most)[0]
    if _merit(other.card, scores) <= _merit(model.card, before):
        return model
    return other.with_card(training=other.card.training | {"validation": scores})


def _weights(pair: Alternation) -> dict[str, Any]:
    parts = {"segmentor": pair.segmentor, "refiner": pair.refiner}
    return {name: learner.averaged.state_dict() for name, learner in parts.items()}


def _model(run: Run, pair: Alternation) -> HiDiff:
    """The averaged networks as a model, to validate."""
    segmentor, refiner = pair.segmentor.averaged, pair.refiner.averaged
    if real_type(run.recipe) != torch.float32:
        segmentor, refiner = (copy.deepcopy(part).float() for part in (segmentor, refiner))
    return HiDiff(run.card, segmentor, cast(Refiner, refiner), run.accelerator.device)


def _merit(card: Card, scores: dict[str, float]) -> float:
    """The score that selects a checkpoint: mean Dice of the sampler that its card will recommend
    and, for a refiner trained on strokes, of its answers to them."""
    chosen = recommended(card, scores)["sampler"] == "one-step"
    refined = scores["one-step" if chosen else "refined"]
    recipe = card.training["recipe"]
    answers = recipe["corrections"] > 0 or recipe["rounds"] > 0
    return (refined + scores["corrected"]) / 2 if answers else refined


def _say_scored(advance: Callable[..., None], done: int, total: int) -> None:
    """Say on the bar how far the scoring of unseen cases is."""
    advance(shown=f"scoring case {done + 1} of {total}")


def _line(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
