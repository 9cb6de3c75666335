"""Prompts drawn for a whole batch on the device, against the annotator that draws one at a time."""

import numpy as np
import pytest
import torch

from napari_hidiff.inference.preprocessing import soften
from napari_hidiff.training import simulated_annotator as annotator
from napari_hidiff.training.device import strokes
from napari_hidiff.training.universal import priors
from napari_hidiff.training.universal.crops import Draws

SIDE, REACH = 96, 24


@pytest.fixture
def draws() -> Draws:
    return Draws(torch.Generator().manual_seed(0))


def discs() -> torch.Tensor:
    """Objects of several discs each, some at the border, bool [6, SIDE, SIDE]."""
    rng = np.random.default_rng(3)
    rows, columns = np.ogrid[:SIDE, :SIDE]
    masks = np.zeros((6, SIDE, SIDE), bool)
    for mask in masks:
        for _ in range(3):
            y, x = rng.integers(0, SIDE, 2)
            mask |= (rows - y) ** 2 + (columns - x) ** 2 < rng.uniform(4, 20) ** 2
    return torch.from_numpy(masks)


def branches() -> torch.Tensor:
    """Trees three pixels wide, bool [4, SIDE, SIDE]."""
    masks = torch.zeros(4, SIDE, SIDE, dtype=torch.bool)
    for i, mask in enumerate(masks):
        mask[10 + 5 * i : 13 + 5 * i, 4:92] = True
        mask[:, 20 + 8 * i : 23 + 8 * i] = True
        mask[60:63, 30:90] = True
    return masks


@pytest.mark.parametrize("region", [discs(), branches(), torch.ones(1, 20, 30).bool()])
def test_depths_are_those_of_scipy(region):
    found = strokes.inside_depth(region, REACH).numpy()
    wanted = [np.minimum(annotator.inside_depth(mask), REACH) for mask in region.numpy()]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_the_disc_is_that_of_the_annotator(draws):
    """Same radius, and a place as deep, where no depth passes the reach; no error, no stroke."""
    errors = torch.cat([discs(), torch.zeros(1, SIDE, SIDE, dtype=torch.bool)])
    found = strokes.next_strokes(errors, errors, draws, elsewhere=0)
    assert not found[-1].any()
    for mask, stroke in zip(errors[:-1].numpy(), found.numpy(), strict=False):
        own = annotator.next_stroke(np.zeros_like(mask, int), mask.astype(int))
        assert stroke.sum() == pytest.approx(own.where.sum(), rel=0.35)
        deepest = annotator.inside_depth(mask)
        # Places within a pixel of the deepest count as deepest, by chance.
        assert deepest[stroke].max() > deepest.max() - 1
        assert not (stroke & ~mask).any()


def test_thin_is_what_the_annotator_calls_thin():
    masks = torch.cat([discs(), branches()])
    found = strokes.thin(masks, strokes.inside_depth(masks)).tolist()
    assert found == [annotator.thin(mask) for mask in masks.numpy()]
    assert len(set(found)) == 2


def test_scribbles_follow_thin_structures_as_the_annotator_does(draws):
    """Inside the errors, as long as allowed and as wide as they are; a disc paints far less."""
    errors = branches()
    along = torch.ones(len(errors), dtype=torch.bool)
    found = strokes.next_strokes(errors, errors, draws, along, elsewhere=0)
    for mask, stroke in zip(errors.numpy(), found.numpy(), strict=True):
        own = annotator.next_stroke(np.zeros_like(mask, int), mask.astype(int), "scribble")
        assert not (stroke & ~mask).any()
        assert 0.5 < stroke.sum() / own.where.sum() < 2
        rows, columns = np.nonzero(stroke)
        length = max(np.ptp(rows), np.ptp(columns)) + 1
        assert SIDE / 16 < length <= SIDE / 8 + 4
    plain = strokes.next_strokes(errors, errors, draws, elsewhere=0)
    assert plain.sum() < found.sum() / 2


def test_lines_keep_to_what_the_truth_is_at_their_middle(draws):
    where = discs()
    at = strokes.inside_depth(where).flatten(1).argmax(1)
    found = strokes.lines(where, at, 24, draws)
    assert not (found & ~where).any()
    assert found.flatten(1).gather(1, at[:, None]).all()
    assert (found.flatten(1).sum(1) <= 25 * 7).all()


def test_a_box_holds_its_object_and_little_more(draws):
    target = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    target[0, 20:40, 30:70], target[1, 0:8, 90:96] = True, True
    found = strokes.box(target, draws)
    assert (found | ~target).all()
    rows, columns = found.any(2).sum(1), found.any(1).sum(1)
    assert rows[0] in range(20, 20 + 2 * 4)
    assert columns[0] in range(40, 40 + 2 * 7)
    assert (found == (found.any(2)[:, :, None] & found.any(1)[:, None])).all()


def test_painted_strokes_hold_the_truth():
    fixed = torch.full((1, 2, 3), -1)
    stroke = torch.tensor([[[True, True, False], [False, False, True]]])
    truth = torch.tensor([[[True, False, True], [True, True, True]]])
    assert strokes.painted(fixed, stroke, truth).tolist() == [[[1, 0, -1], [-1, -1, 1]]]


def test_masks_are_softened_by_the_rule_of_the_card():
    mask = discs()
    found = priors.softened(mask.float()[:, None])[:, 0].numpy()
    wanted = [soften(m.astype(int), 1, sigma=1.0, confidence=0.9)[0] for m in mask.numpy()]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_priors_come_in_every_kind_and_are_probabilities(draws):
    target = discs().repeat(100, 1, 1)
    prior, known, own = priors.draw(target, draws)
    assert prior.shape == (600, 1, SIDE, SIDE)
    assert prior.min() >= 0
    assert prior.max() <= 1
    even = (prior == 0.5).flatten(1).all(1)
    assert torch.equal(even, ~known)
    assert not (known & own).any()
    share = priors.KINDS["even"] + priors.KINDS["own"]
    assert float(even.float().mean()) == pytest.approx(share, abs=0.08)
    assert float(own.float().mean()) == pytest.approx(priors.KINDS["own"], abs=0.05)
    # What says where the object is says it better than chance, but not always rightly.
    overlap = ((prior[:, 0] >= 0.5) == target)[known].float().mean((1, 2))
    assert overlap.mean() > 0.8
    assert (overlap < 1).float().mean() > 0.5


def test_a_moved_mask_is_near_and_of_a_similar_size(draws):
    mask = torch.zeros(50, 1, SIDE, SIDE)
    mask[:, :, 30:66, 30:66] = 1
    found = priors.moved(mask, draws)
    assert set(found.unique().tolist()) <= {0.0, 1.0}
    area = found.sum((1, 2, 3)) / 36**2
    assert area.min() > 0.4
    assert area.max() < 2
    dice = 2 * (found * mask).sum((1, 2, 3)) / (found + mask).sum((1, 2, 3))
    assert 0.6 < dice.mean() < 0.98
