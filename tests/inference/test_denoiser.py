"""How much is remembered of images, and that a run needs no segmentor twice all the same."""

import numpy as np
import psutil
import pytest

from napari_hidiff.inference import denoiser, tiling


def test_what_is_remembered_is_bounded() -> None:
    assert (
        min(2**28, psutil.virtual_memory().total // 16) >= denoiser.REMEMBERED + denoiser.STANDING
    )
    assert (denoiser._tiles.limit, denoiser._standings.limit) == (
        denoiser.REMEMBERED,
        denoiser.STANDING,
    )


@pytest.fixture
def segmented(monkeypatch, tiny):
    """A model, and the tiles that its segmentor saw; nothing is remembered beyond a run."""
    monkeypatch.setattr(denoiser._tiles, "limit", 0)
    monkeypatch.setattr(denoiser._standings, "limit", 0)
    model, shapes = tiny(2, 1), []
    hook = model.segmentor.register_forward_pre_hook(lambda _, given: shapes.append(given[0].shape))
    yield model, shapes
    hook.remove()


def test_the_steps_of_a_run_need_no_segmentor_again(segmented, monkeypatch) -> None:
    model, shapes = segmented
    monkeypatch.setattr(tiling, "WHOLE", 0)
    monkeypatch.setattr(tiling, "SIDE", 64)
    image = np.random.default_rng(0).normal(size=(96, 160)).astype(np.float32)
    prior = model.prior(image)
    alone = len(shapes)
    model.refine(image, prior, sampler="ddim", steps=3, samples=2)
    assert len(shapes) == 2 * alone
    assert denoiser.remembered() == 0


def test_images_are_forgotten_when_asked(tiny) -> None:
    denoiser.trim_cache(0)
    assert denoiser.remembered() == 0
    tiny(2, 1).refine(np.zeros((40, 40), np.float32))
    assert denoiser.remembered() > 0
    denoiser.trim_cache(0)
    assert denoiser.remembered() == 0
