"""Rounds of strokes on the device: the truth, on what is left, decided by sample numbers."""

import pytest
import torch

from napari_hidiff.training.device.rounds import Rounds

CPU = torch.device("cpu")


def squares(classes):
    """Truths with a square each, of classes 1, 2 ...; priors that see nothing."""
    truth = torch.zeros(3, 48, 48, dtype=torch.int64)
    for i in range(3):
        truth[i, 8:32, 10:34] = 1 + i % max(1, classes - 1)
    prior = torch.full((3, classes, 48, 48), 0.1)
    if classes > 1:
        prior[:, 0] = 1 - 0.1 * (classes - 1)
    return truth, prior


def stubborn(y, fixed):
    """A network that returns what it is given."""
    return y.clamp(0.1, 0.9)


@pytest.mark.parametrize("classes", [1, 3])
def test_strokes_tell_the_truth_and_lie_on_errors_that_are_left(classes):
    truth, prior = squares(classes)
    free = torch.full_like(truth, -1)
    numbers = torch.tensor([5, 9, 11])
    before = free
    for count in range(1, 5):
        fixed = Rounds(CPU, 0).play(count, stubborn, prior, truth, free, numbers)
        known, new = fixed >= 0, (fixed >= 0) & ~(before >= 0)
        assert (fixed[known] == truth[known]).all()
        assert (known | ~(before >= 0)).all()  # earlier strokes stay
        assert (new & (truth > 0)).flatten(1).any(1).all()  # and the new one is on the object
        before = fixed


def test_a_stroke_does_not_depend_on_its_batch():
    truth, prior = squares(1)
    free, numbers = torch.full_like(truth, -1), torch.tensor([3, 4, 5])
    together = Rounds(CPU, 2).play(3, stubborn, prior, truth, free, numbers)
    for i in range(3):
        one = slice(i, i + 1)
        alone = Rounds(CPU, 2).play(3, stubborn, prior[one], truth[one], free[one], numbers[one])
        assert torch.equal(alone, together[one])
    other = Rounds(CPU, 3).play(3, stubborn, prior, truth, free, numbers)
    assert not torch.equal(other, together)


def test_a_mask_without_errors_gets_no_stroke():
    truth, _ = squares(1)
    prior = truth[:, None].float().clamp(0.1, 0.9)
    free = torch.full_like(truth, -1)
    fixed = Rounds(CPU, 0).play(2, stubborn, prior, truth, free, torch.tensor([1, 2, 3]))
    assert torch.equal(fixed, free)
