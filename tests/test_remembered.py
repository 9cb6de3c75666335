"""How much is remembered of images, and that a run needs no segmentor twice all the same."""

import numpy as np
import psutil
import pytest

from napari_hidiff import seen, tiles


def test_what_is_remembered_is_bounded() -> None:
    assert min(2**28, psutil.virtual_memory().total // 16) >= seen.REMEMBERED + seen.STANDING
    assert (seen._sights.limit, seen._standings.limit) == (seen.REMEMBERED, seen.STANDING)


@pytest.fixture
def segmented(monkeypatch, tiny):
    """A model, and the tiles that its segmentor saw; nothing is remembered beyond a run."""
    monkeypatch.setattr(seen._sights, "limit", 0)
    monkeypatch.setattr(seen._standings, "limit", 0)
    model, shapes = tiny(2, 1), []
    hook = model.segmentor.register_forward_pre_hook(lambda _, given: shapes.append(given[0].shape))
    yield model, shapes
    hook.remove()


def test_the_steps_of_a_run_need_no_segmentor_again(segmented, monkeypatch) -> None:
    model, shapes = segmented
    monkeypatch.setattr(tiles, "WHOLE", 0)
    monkeypatch.setattr(tiles, "SIDE", 64)
    image = np.random.default_rng(0).normal(size=(96, 160)).astype(np.float32)
    prior = model.prior(image)
    alone = len(shapes)
    model.refine(image, prior, sampler="ddim", steps=3, samples=2)
    assert len(shapes) == 2 * alone
    assert seen.remembered() == 0


def test_images_are_forgotten_when_asked(tiny) -> None:
    seen.forget(0)
    assert seen.remembered() == 0
    tiny(2, 1).refine(np.zeros((40, 40), np.float32))
    assert seen.remembered() > 0
    seen.forget(0)
    assert seen.remembered() == 0
