"""One update of a network: where a GPU records it, and where it says why not."""

from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from recordings import Tape
from trainings import tiny

from napari_hidiff.errors import InputError
from napari_hidiff.training.device import graphs
from napari_hidiff.training.device.updates import GradientStep, recorded
from napari_hidiff.training.learner import Learner

GPU = SimpleNamespace(device=torch.device("cuda"), num_processes=1, scaler=None)
CARD = SimpleNamespace(segmentor={"name": "unet"})


def learner(captured):
    torch.manual_seed(0)
    network, rate = torch.nn.Linear(5, 1), 2**-4  # the same as a float32 of a device
    shared = (rate, 10, 0.0, 0.9, Accelerator(cpu=True))
    return Learner(network, *shared, factor=lambda number: 0.5**number, captured=captured)


def step_of(own):
    return GradientStep(own, lambda x, y: (own.module(x) - y).square().mean())


@pytest.mark.parametrize(
    ("accelerator", "changes", "segmentor", "reason"),
    [
        ({}, {}, "unet", None),
        ({"num_processes": 2}, {}, "unet", "several processes"),
        ({"scaler": object()}, {}, "unet", "fp16 scales"),
        ({}, {"accumulate": 2}, "unet", "several batches"),
        ({}, {"compile": True}, "unet", "torch.compile"),
        ({}, {}, "mine:network", "segmentor of your own"),
    ],
)
def test_what_a_gpu_cannot_record_is_said_in_one_line(accelerator, changes, segmentor, reason):
    said = []
    gpu = SimpleNamespace(**(vars(GPU) | accelerator))
    card = SimpleNamespace(segmentor={"name": segmentor})
    assert recorded(tiny(**changes), card, gpu, said.append) == (reason is None)
    assert len(said) == (reason is not None)
    assert not reason or reason in said[0]


def test_the_environment_turns_recording_off(monkeypatch):
    said = []
    monkeypatch.setenv("NAPARI_HIDIFF_GRAPHS", "0")
    assert not recorded(tiny(), CARD, GPU, said.append)
    assert said == ["updates run kernel by kernel: NAPARI_HIDIFF_GRAPHS is 0"]


def test_nothing_is_recorded_or_said_without_a_gpu():
    said = []
    cpu = SimpleNamespace(**(vars(GPU) | {"device": torch.device("cpu")}))
    assert not recorded(tiny(accumulate=2), CARD, cpu, said.append)
    assert not said


def test_a_recorded_update_is_the_ordinary_one(monkeypatch):
    monkeypatch.setattr(graphs, "_Graph", Tape)
    x, y = torch.randn(12, 8, 5), torch.randn(12, 8, 1)
    ends = []
    for captured in (False, True):
        step = step_of(learner(captured))
        step.recorded.replays = captured
        losses = [step([pair], 1) for pair in zip(x, y, strict=True)]
        weights = (step.learner.plain.weight, step.learner.averaged.weight)
        ends.append((losses, *(weight.detach().clone() for weight in weights)))
        assert bool(step.recorded._graphs) == captured
    (one, *weights), (other, *others) = ends
    assert one == other
    assert all(torch.equal(*both) for both in zip(weights, others, strict=True))


def test_a_loss_that_is_no_number_names_its_update():
    x, nothing = torch.ones(8, 5), torch.full((8, 1), float("nan"))
    for captured in (False, True):
        step = step_of(learner(captured))
        step([(x, x[:, :1])], 1)
        with pytest.raises(InputError, match="nan in update 2:"):
            step([(x, nothing)], 1)


def test_the_gradients_of_a_recording_that_failed_are_forgotten():
    step, fresh = step_of(learner(True)), step_of(learner(True))
    x = torch.randn(8, 5)
    step.learner.plain.weight.grad = torch.full_like(step.learner.plain.weight, 1e6)
    assert step([(x, x[:, :1])], 1) == fresh([(x, x[:, :1])], 1)
    assert torch.equal(step.learner.plain.weight, fresh.learner.plain.weight)


@pytest.mark.parametrize("captured", [False, True])
def test_a_checkpoint_of_the_other_kind_goes_on(captured):
    x = torch.randn(8, 5)
    before, after, other = (step_of(learner(kind)) for kind in (not captured, captured, captured))
    for step in (before, other):
        step([(x, x[:, :1])], 1)
    after.learner.load_state_dict(before.learner.state_dict())
    (group,) = after.learner.optimizer.param_groups[:1]
    assert isinstance(group["lr"], torch.Tensor) == group["capturable"] == captured
    assert after([(x, x[:, :1])], 1) == other([(x, x[:, :1])], 1)
    assert torch.equal(after.learner.plain.weight, other.learner.plain.weight)
