"""Parts of an update that a GPU replays: none of them waits for it, and replays change nothing."""

import pytest
import torch
from recordings import NothingWaits, Tape, Watched, needs_gpu
from universal_runs import SIDE, training_of

from napari_hidiff.training.checkpoint import load_checkpoint
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.device import graphs
from napari_hidiff.training.universal import crops, learn, run
from napari_hidiff.training.universal.pictures import read_pictures
from napari_hidiff.training.universal.run import Update


def update_of(root, folder, device="cpu"):
    training = training_of(root, folder, device)
    folder.mkdir(exist_ok=True)
    pictures = read_pictures(open_dataset("collection", root).splits["train"], SIDE, folder)
    return training, Update(training, pictures.to(training.device))


def test_no_part_of_an_update_waits_for_the_device(root, tmp_path):
    training, update = update_of(root, tmp_path / "run")
    batch = update._cut()
    with NothingWaits():
        batch = update._cut()
        annotator, target = update.annotator, batch.target
        seen = annotator._see(batch.image, target)
        along = seen.slender
        fixed = annotator._first(target, batch.others, seen.prior, seen.known, along)
        fixed = annotator._outside(target, fixed)
        answer = annotator._answer(seen.prior, fixed, *seen.image)
        fixed = annotator._stroke(answer, target, fixed, along)
        training.learner.prepare()
        loss = update.learn._learn(batch.image, target, seen.prior, fixed)
    assert loss.isfinite()
    with pytest.raises(AssertionError, match="waits"), NothingWaits():
        float(loss)


class Drawn(crops.Draws):
    """Numbers of a device without a generator."""

    def uniform(self, *size, low=0.0, high=1.0):
        return torch.rand(*size, device="meta") * (high - low) + low

    def normal(self, *size):
        return torch.randn(*size, device="meta")

    def pick(self, weights):
        return (weights / torch.empty_like(weights).exponential_()).argmax(1)


def test_no_part_of_an_update_copies_between_devices(root, tmp_path):
    training, update = update_of(root, tmp_path / "run")
    pictures, chances = update.pictures.to("meta"), update.chances.to("meta")
    drawn, size = Drawn(training.draws.generator), training.recipe.crop
    annotator = update.annotator
    annotator.model, annotator.draws = annotator.model.to("meta"), drawn
    network, process = training.module.to("meta"), training.process
    process._table(torch.device("meta"))  # copied once, before any update
    with NothingWaits():
        batch = crops.draw(pictures, chances, 2, size, drawn)
        seen = annotator._see(batch.image, batch.target)
        fixed = annotator._first(batch.target, batch.others, seen.prior, seen.known, seen.slender)
        fixed = annotator._outside(batch.target, fixed)
        answer = annotator._answer(seen.prior, fixed, *seen.image)
        fixed = annotator._stroke(answer, batch.target, fixed, seen.slender)
        y_t, t = learn.noisy(process, batch.target, seen.prior, 0.5, drawn)
        logits = network(batch.image, seen.prior, fixed, y_t, t)
        loss = learn.prompted_loss(logits, batch.target, t == process.steps)
        loss.backward()
    with pytest.raises(AssertionError, match="copies"), NothingWaits():
        y_t.copy_(torch.zeros(y_t.shape))


def parts_of(update):
    return (update.cut, *update.annotator.parts, update.learn.recorded)


def test_what_is_recorded_trains_as_the_parts_do(root, tmp_path, monkeypatch):
    monkeypatch.setattr(graphs, "_Graph", Tape)
    monkeypatch.setattr(run, "recorded", lambda *_: True)
    losses = []
    for replays in (False, True):
        _, update = update_of(root, tmp_path / f"run{replays}")
        for part in parts_of(update):
            part.replays = replays
        with Watched():
            losses.append([float(update()) for _ in range(8)])
        assert all(part._graphs for part in parts_of(update)) == replays
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 8


@needs_gpu
def test_replays_train_as_the_parts_themselves(root, tmp_path):
    losses = []
    for name in ("eager", "replayed"):
        training, update = update_of(root, tmp_path / name, "cuda")
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            if name == "eager":
                for part in parts_of(update):
                    part.replays = False
            losses.append(torch.stack([update() for _ in range(40)]).cpu())
            assert name == "eager" or not update.notes
        weights = training.learner.average.state_dict()
        assert all(value.isfinite().all() for value in weights.values())
    # Rounding may turn a sign sooner or later: the first updates are the same.
    torch.testing.assert_close(losses[0][:8], losses[1][:8], atol=1e-3, rtol=1e-3)


@needs_gpu
def test_a_checkpoint_of_replayed_updates_goes_on(root, tmp_path):
    training, update = update_of(root, tmp_path / "run", "cuda")
    with torch.cuda.stream(torch.cuda.Stream()):
        for _ in range(20):
            update()
    torch.save(training._state(), tmp_path / "run" / "last.pt")
    state = load_checkpoint(tmp_path / "run" / "last.pt")
    training.learner.load_state_dict(state["learner"])
    assert training.learner.optimizer.param_groups[0]["lr"].device.type == "cuda"
