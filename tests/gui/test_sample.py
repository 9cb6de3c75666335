"""The bundled model on the bundled sample, a real fundus image, in the real window."""

import numpy as np


def test_a_correction_on_the_real_sample(open_hand, sample_pair) -> None:
    image, truth = sample_pair
    hand = open_hand(image, rgb=True, model="chase-vessels")
    hand.widget.settings.sampler.value = "one-step"
    hand.click("segment")
    prior = hand.mask.data.copy()
    assert 2 * np.sum(prior * truth) / (prior.sum() + truth.sum()) > 0.7
    wrong = np.argwhere((prior == 0) & (truth == 1))
    row, column = wrong[np.abs(wrong - (480, 500)).sum(1).argmin()]
    painted = hand.stroke((row, column), (row + 4, column + 4))
    assert painted.any()
    strokes = hand.fixed
    hand.click("rerefine")
    run = hand.widget.session.run
    assert (run.total, run.written) == (1, 1)
    fixed = strokes >= 0
    np.testing.assert_array_equal(hand.mask.data[fixed], strokes[fixed])
    hand.mask.undo()
    hand.mask.undo()
    np.testing.assert_array_equal(hand.mask.data, prior)
    assert hand.widget.session.timeline.fixed_count == 0
