"""Rounds of simulated strokes in training: on what the network left, decided by sample numbers."""

import numpy as np
import torch

from napari_hidiff.training import simulated_annotator
from napari_hidiff.training.simulated_annotator import play, rounds_of, stroke_on


def squares(count=2):
    """Truths with one square each; priors that see nothing."""
    truth = torch.zeros(count, 48, 48, dtype=torch.int64)
    truth[:, 8:32, 10:34] = 1
    return truth, torch.full((count, 1, 48, 48), 0.1)


def stubborn(y, fixed):
    """A network that returns what it is given."""
    return y.clamp(0.1, 0.9)


def test_half_of_the_iterations_have_rounds_and_all_counts_come_up():
    counts = [rounds_of(4, 0, iteration) for iteration in range(2000)]
    assert counts == [rounds_of(4, 0, iteration) for iteration in range(2000)]
    assert 0.45 < np.mean(np.array(counts) == 0) < 0.55
    assert set(counts) == {0, 1, 2, 3, 4}
    assert not any(rounds_of(0, 0, iteration) for iteration in range(100))


def test_strokes_tell_the_truth_and_lie_on_errors_that_are_left():
    truth, prior = squares()
    free = torch.full_like(truth, -1)
    numbers = torch.tensor([5, 9])
    before = free
    for count in range(1, 5):
        fixed = play(count, stubborn, prior, truth, free, numbers, seed=0)
        known = fixed >= 0
        assert (fixed[known] == truth[known]).all()
        assert (known | ~(before >= 0)).all()  # earlier strokes stay
        assert ((known & ~(before >= 0)).sum((1, 2)) > 0).all()
        before = fixed


def test_the_network_is_asked_with_the_strokes_so_far():
    truth, prior = squares(1)
    seen = []

    def answer(y, fixed):
        seen.append((y, fixed))
        return y.clamp(0.1, 0.9)

    free = torch.full_like(truth, -1)
    play(3, answer, prior, truth, free, torch.tensor([1]), seed=0)
    painted = [int((fixed >= 0).sum()) for _, fixed in seen]
    assert painted[0] == 0
    assert painted == sorted(set(painted))
    y, fixed = seen[-1]
    where = fixed >= 0
    assert (y[:, 0][where] == fixed[where]).all()


def test_a_network_without_errors_gets_no_stroke():
    truth, prior = squares()
    fixed = play(
        2,
        lambda y, fixed: truth[:, None].float(),
        prior,
        truth,
        -torch.ones_like(truth),
        torch.tensor([0, 1]),
        seed=0,
    )
    assert (fixed == -1).all()


def test_a_sample_s_strokes_do_not_depend_on_its_batch():
    truth, prior = squares(3)
    free, numbers = torch.full_like(truth, -1), torch.tensor([3, 4, 5])
    together = play(3, stubborn, prior, truth, free, numbers, seed=2)
    for i in range(3):
        one = slice(i, i + 1)
        alone = play(3, stubborn, prior[one], truth[one], free[one], numbers[one], seed=2)
        assert torch.equal(alone, together[one])
    other = play(3, stubborn, prior, truth, free, numbers, seed=3)
    assert not torch.equal(other, together)


def test_some_strokes_lie_elsewhere_than_on_the_largest_error():
    truth = np.zeros((64, 64), np.int64)
    truth[4:40, 4:40] = 1
    truth[44:62, 44:62] = 1
    small = [
        (stroke_on(np.zeros_like(truth), truth, np.random.default_rng(seed))[44:, 44:] >= 0).any()
        for seed in range(300)
    ]
    assert 0 < np.mean(small) < simulated_annotator.ELSEWHERE
