"""What prior and edits make of an image: only what an edit touched is computed again, the same."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from napari_hidiff import load_model
from napari_hidiff.inference import denoiser
from napari_hidiff.networks.refiner import SIDE, Refiner, blocks, read, touched
from napari_hidiff.networks.segmentor import pad_to_multiple


def refiner_of(classes, stem):
    torch.manual_seed(0)
    return Refiner(2, classes, (), width=32, stem=stem).eval().requires_grad_(False)


def scene(classes, height, width, seed=0):
    """Image, prior and fixed map [1, ...] of an image of any size."""
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, max(2, classes), height, width, generator=rng)
    prior = logits.softmax(1)[:, :classes]
    fixed = torch.full((1, height, width), -1)
    return torch.randn(1, 2, height, width, generator=rng), prior, fixed


@pytest.mark.parametrize("size", [(32, 32), (256, 288), (320, 992), (2048, 2048), (64, 1056)])
def test_areas_have_one_shape_and_cover_the_image_once(size):
    areas = blocks(*size)
    times = np.zeros(size, int)
    for rows, columns in areas:
        times[rows, columns] += 1
    assert (times == 1).all()
    shapes = {(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in areas}
    ((height, width),) = shapes
    assert height <= SIDE
    assert width <= SIDE
    assert height % 32 == width % 32 == 0
    assert height * width * len(areas) < 1.6 * times.size


@settings(max_examples=40, deadline=None)
@given(st.tuples(st.integers(0, 6), st.integers(0, 6)), st.integers(0, 2))
def test_reading_an_area_is_reading_the_image_in_a_frame(at, rim):
    x = torch.arange(2 * 96 * 96.0).reshape(1, 2, 96, 96)
    area = slice(at[0] * 16, at[0] * 16 + 32), slice(at[1] * 16, at[1] * 16 + 32)
    framed = F.pad(x, (40,) * 4, value=-7)
    rows, columns = (slice(p.start + 40 - rim, p.stop + 40 + rim) for p in area)
    assert torch.equal(read(x, area, rim, -7), framed[..., rows, columns])


@pytest.mark.parametrize("stem", [1, 2])
@pytest.mark.parametrize("classes", [1, 3])
def test_blocks_are_the_convolution_of_the_whole(classes, stem):
    """Against the input convolution written out, edits at the image's border among them."""
    refiner = refiner_of(classes, stem)
    image, prior, fixed = scene(classes, 300, 530)
    fixed[:, :9, 200:300] = 0
    fixed[:, 250:270, 240:280] = 1
    known = refiner.encode_image(image, [])
    labels = torch.arange(max(2, classes))[:, None, None]
    edits = (fixed[:, None] == labels).float()
    everything = pad_to_multiple(torch.cat([image, prior, edits], 1))
    weight = refiner.entry.weight[:, : -refiner.moving]
    pixels = F.pixel_unshuffle(everything, stem)
    expected = F.conv2d(pixels, weight, refiner.entry.bias, padding=1)
    with torch.no_grad():
        found = refiner.encode_prior(known, prior, fixed)
    assert torch.allclose(found.static, expected, atol=2e-5)
    with torch.enable_grad():  # in one piece
        piece = refiner.encode_prior(known, prior, fixed)
    assert torch.allclose(piece.static, expected, atol=2e-5)


@pytest.mark.parametrize("stem", [1, 2])
def test_an_edit_computes_its_own_blocks_and_gives_what_all_of_them_give(stem, monkeypatch):
    refiner = refiner_of(1, stem)
    image, prior, fixed = scene(1, 512, 768)
    computed = []
    touch = Refiner._touch

    def counted(self, given, area):
        computed.append((area[0].start, area[1].start))
        return touch(self, given, area)

    monkeypatch.setattr(Refiner, "_touch", counted)
    known = refiner.encode_image(image, [])
    with torch.inference_mode():
        last = refiner.encode_prior(known, prior, fixed)
        assert len(computed) == 6
        edits = [
            ((slice(20, 40), slice(30, 60)), {(0, 0)}),
            ((slice(400, 401), slice(300, 302)), {(256, 256)}),
            ((slice(100, 101), slice(254, 256)), {(0, 0), (0, 256)}),  # the next block sees it
            ((slice(256 - stem, 256 + stem), slice(700, 701)), {(0, 512), (256, 512)}),
            ((slice(0, 0), slice(0, 0)), set()),
        ]
        for number, (where, wanted) in enumerate(edits):
            fixed, prior = fixed.clone(), prior.clone()
            fixed[0][where] = number % 2
            prior[0, 0][where] = number % 2
            kept = last.static.clone()
            computed.clear()
            mended = refiner.encode_prior(known, prior, fixed, last)
            assert set(computed) == wanted
            assert torch.equal(last.static, kept), "a run that goes on reads it"
            fresh = refiner.encode_prior(known, prior, fixed)
            assert torch.equal(mended.static, fresh.static)
            assert torch.equal(mended.residual, fresh.residual)
            last = mended


def test_what_differs_beyond_the_rim_does_not_count():
    x = torch.zeros(1, 1, 64, 64)
    area = slice(0, 32), slice(0, 32)
    for place, expected in (((31, 31), True), ((33, 5), True), ((34, 5), False), ((5, 40), False)):
        y = x.clone()
        y[0, 0][place] = 1
        assert touched(y, x, area, 2) == expected


@pytest.mark.usefixtures("own_scale")
@pytest.mark.parametrize("engine", ["packed", "torch"])
def test_a_second_refinement_of_an_image_is_that_of_a_model_that_never_saw_it(engine, sample_pair):
    """Strokes one after the other, on both engines; another image in between changes nothing."""
    image = sample_pair[0][300:700, 200:760]
    model = load_model("chase-vessels", "cpu", engine)
    fixed = np.full(image.shape[:2], -1, np.int8)
    settings = {"sampler": "ddim", "steps": 2, "samples": 1}
    for number, place in enumerate([(100, 300), (250, 252), (0, 551)]):
        fixed[place[0] : place[0] + 9, place[1] : place[1] + 9] = number % 2
        found = model.refine(image, fixed=fixed, **settings)
        assert found.engine == engine
        model.refine(image[::-1, :300], **settings)
    denoiser.trim_cache(0)
    fresh = load_model("chase-vessels", "cpu", engine)
    again = fresh.refine(image, fixed=fixed, **settings)
    np.testing.assert_array_equal(found.probability, again.probability)
