"""Updates of the two stages as a GPU records them: nothing waits, replays train as the parts do."""

from dataclasses import replace

import layouts
import pytest
import torch
from recordings import NothingWaits, Tape, Watched, needs_gpu
from trainings import tiny

from napari_hidiff.inference.model import networks
from napari_hidiff.masks import Label
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.device import graphs
from napari_hidiff.training.device.rounds import Rounds
from napari_hidiff.training.device.updates import GradientStep, learner_for
from napari_hidiff.training.learner import Learner, accelerator_for
from napari_hidiff.training.recipes import as_in_the_paper
from napari_hidiff.training.run import blank_card
from napari_hidiff.training.stages import Alternation, segmentor_loss

SIDE, BATCH = 32, 2
RECIPES = {
    "ours": tiny(),
    "paper": as_in_the_paper(tiny()),
    "walk": tiny(trajectory=0.5, kernel="gaussian", convolution="real"),
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return open_dataset("folder", layouts.write_folder(tmp_path_factory.mktemp("data"), 4))


def card_of(recipe, dataset, outputs=1):
    card = blank_card(recipe, dataset, "")
    names = ("background", "disc", "vessel")
    return (
        card if outputs == 1 else replace(card, classes=tuple(Label(n, "#00ff00") for n in names))
    )


def pair_of(recipe, dataset, outputs=1, device="cpu", captured=None):
    """Two networks in training that paint as on a GPU."""
    card, accelerator = card_of(recipe, dataset, outputs), accelerator_for(recipe, device)
    torch.manual_seed(0)
    segmentor, refiner = networks(card)
    torch.nn.init.normal_(refiner.head.weight, std=0.05)  # a new head is zero and hides the rest
    nets, shared = (segmentor, refiner), (card, recipe, accelerator)
    if captured is None:
        learners = [learner_for(net, 1e-3, 9, recipe, card, accelerator) for net in nets]
    else:  # at a rate that is the same as a float32 of a device
        given = (2**-10, 9, 1e-4, 0.9, accelerator)
        how = {"factor": lambda number: 0.5**number, "captured": captured}
        learners = [Learner(net, *given, **how) for net in nets]
    pair = Alternation(*learners, *shared)
    pair.rounds = Rounds(accelerator.device, recipe.seed, pair.refiner.captured)
    return pair


def batch_of(number, outputs=1, channels=3):
    generator = torch.Generator().manual_seed(number)
    truth = torch.zeros(BATCH, SIDE, SIDE, dtype=torch.int64)
    truth[:, 6 : 10 + number, 8:24] = max(1, outputs - 1)
    prior = torch.rand(BATCH, outputs, SIDE, SIDE, generator=generator)
    fixed = torch.full_like(truth, -1)
    fixed[0, 20:24, 4:9] = 0
    return {
        "number": torch.arange(BATCH) + BATCH * number,
        "image": truth[:, None] + torch.randn(BATCH, channels, SIDE, SIDE, generator=generator),
        "truth": truth,
        "prior": prior / prior.sum(1, keepdim=True) if outputs > 1 else prior,
        "fixed": fixed,
        "own": torch.tensor([True, False]),
    }


def told(pair, batch):
    """The arguments of both losses, after all else that a GPU records of an update."""
    image, truth, numbers = (batch[name] for name in ("image", "truth", "number"))
    prior, *features = pair._see(image, batch["own"], batch["prior"])
    probability = pair._answer(prior, batch["fixed"], image, prior, *features)
    slender = pair.rounds._slender(truth)
    stream = torch.full((), 7, dtype=torch.int64, device=truth.device)
    fixed = pair.rounds._stroke(probability, truth, slender, numbers, stream)
    return (image, truth, fixed, numbers, prior, *features), (image, truth, numbers)


@pytest.mark.parametrize(("name", "outputs"), [("ours", 1), ("paper", 3)])
def test_no_part_of_an_update_waits_for_the_device(dataset, name, outputs):
    pair, batch = pair_of(RECIPES[name], dataset, outputs), batch_of(0, outputs)
    pretraining = GradientStep(pair.segmentor, segmentor_loss(pair.segmentor, outputs))
    pair.process._table(torch.device("cpu"))
    with NothingWaits():
        of_refiner, of_segmentor = told(pair, batch)
        losses = [pair.refine.launch(*of_refiner), pair.segment.launch(*of_segmentor)]
        losses.append(pretraining.launch(batch["image"], batch["truth"]))
    assert all(loss.isfinite() for loss in losses)


@pytest.mark.parametrize("name", ["paper", "walk"])
def test_no_part_of_an_update_copies_between_devices(dataset, name):
    """The meta device holds no values, so that asking for one is an error too."""
    pair = pair_of(RECIPES[name], dataset, 3)
    pretraining = segmentor_loss(pair.segmentor, 3)
    for learner in (pair.segmentor, pair.refiner):
        learner.plain.to("meta")
        learner.averaged.to("meta")
    pair.process._table(torch.device("meta"))  # copied once, before any update
    batch = {name: value.to("meta") for name, value in batch_of(0, 3).items()}
    with NothingWaits():
        of_refiner, of_segmentor = told(pair, batch)
        pair.refine.loss(*of_refiner).backward()
        pair.segment.loss(*of_segmentor).backward()
        pretraining(batch["image"], batch["truth"]).backward()


def parts_of(pair):
    asked = (pair.see, pair.answer, pair.rounds.slender, pair.rounds.stroke)
    return (*asked, pair.refine.recorded, pair.segment.recorded)


def trained(pair, count=7):
    """Losses of some updates, with strokes and turns of the segmentor, and all weights."""
    losses = [pair.iterate([batch_of(n % 3)], n) for n in range(1, count + 1)]
    return losses, pair.segmentor.average.state_dict() | pair.refiner.plain.state_dict()


def test_what_is_recorded_trains_as_the_parts_do(dataset, monkeypatch):
    monkeypatch.setattr(graphs, "_Graph", Tape)
    recipe = tiny(rounds=3)
    eager, taped = (pair_of(recipe, dataset, captured=captured) for captured in (False, True))
    for part in parts_of(taped):
        part.replays = True
    with Watched():
        (one, weights), (other, others) = trained(eager), trained(taped)
    assert one == other
    assert all(torch.equal(weights[name], value) for name, value in others.items())
    assert all(part._graphs for part in parts_of(taped)), "every part was recorded"
    assert not taped.notes


@needs_gpu
def test_replays_train_as_the_parts_themselves(dataset):
    recipe = tiny(rounds=3)
    eager, replayed = (pair_of(recipe, dataset, device="cuda", captured=c) for c in (False, True))
    (one, _), (other, weights) = trained(eager), trained(replayed)
    assert not replayed.notes
    # Rounding may turn a sign sooner or later: the first updates are the same.
    for mine, others in zip(one[:5], other[:5], strict=True):
        assert mine == pytest.approx(others, abs=1e-3)
    assert all(value.isfinite().all() for value in weights.values())
