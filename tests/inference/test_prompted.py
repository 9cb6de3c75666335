"""A prompted model: what it needs, the window it looks through, what comes back at full size."""

from collections.abc import Iterator

import numpy as np
import pytest
from blobs import disc, picture, stroke

from napari_hidiff import load_model
from napari_hidiff.diffusion.samplers import Step
from napari_hidiff.errors import InputError
from napari_hidiff.inference import prompted
from napari_hidiff.inference.box import prior_in_box
from napari_hidiff.inference.preprocessing import any_channels
from napari_hidiff.masks import Box, dice

SIZE, ONE = (180, 240), (90, 110, 32)


@pytest.fixture(scope="module")
def model():
    return load_model("universal", device="cpu", engine="packed")


def window(marked, times=2):
    box = [np.ptp(at) + 1 for at in np.nonzero(marked)]
    return prompted.around(marked, marked.shape, max(256, times * max(box)))


def test_it_finds_what_a_stroke_a_box_or_a_mask_points_at(model):
    image, truth = picture(SIZE, [ONE, (40, 200, 20)]), disc(SIZE, ONE)
    box = prior_in_box(model, image, Box(56, 76, 125, 145)).prior
    rough = disc(SIZE, (94, 106, 27)).astype(np.uint8)
    for told in ({"fixed": stroke(SIZE, ONE)}, {"prior": box}, {"prior": rough}):
        assert dice(model.refine(image, **told).mask, truth) > 0.8, told.keys()
    for box in (Box(0, 0, *SIZE), Box(90, 100, 92, 102), Box(90, 100, 91, 101)):
        assert prior_in_box(model, image, box).prior.any()


def test_nothing_is_found_before_it_is_pointed_at(model):
    image = picture(SIZE, [ONE])
    assert not model.prior(image).any()
    background = np.where(disc(SIZE, (20, 20, 9)), 0, -1)
    even = np.full((1, *SIZE), 0.5, np.float32)
    for told in ({}, {"fixed": background}, {"prior": np.zeros(SIZE, int)}, {"prior": even}):
        with pytest.raises(InputError, match="Paint a stroke inside the object first"):
            model.steps(image, **told)


@pytest.mark.parametrize("sampler", ["one-step", "ddim", "ancestral"])
def test_every_painted_pixel_stays_in_every_step(model, sampler):
    size, at = (900, 1300), (400, 700, 60)
    fixed = stroke(size, at)
    fixed[350:450, 690] = 0  # lines of one pixel, which a smaller picture has no room for
    fixed[351:449:2, 691] = 1
    fixed[::7, 3] = 0
    run = list(model.steps(picture(size, [at]), fixed=fixed, sampler=sampler, samples=2))
    kept = fixed >= 0
    for step in run:
        for masks in (step.mask, *step.sample[:, 0], *(step.each[:, 0] >= 0.5)):
            assert np.array_equal(masks[kept], fixed[kept])
    assert run[-1].probability.shape == (1, *size)


@pytest.mark.parametrize("shape", [(20, 25), (31, 300, 1), (300, 31, 2), (70, 90, 3), (64, 64, 5)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64, bool])
def test_any_size_type_and_number_of_channels(model, shape, dtype):
    pixels = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    fixed = np.full(shape[:2], -1)
    fixed[8:12, 8:12] = 1
    result = model.refine(pixels, fixed=fixed)
    assert result.mask.shape == shape[:2]
    assert np.isfinite(result.probability).all()
    assert result.mask[8:12, 8:12].all()


def test_bit_depth_gain_and_grey_as_colour_do_not_matter(model):
    image, fixed = picture(SIZE, [ONE]), stroke(SIZE, ONE)
    first = model.refine(image, fixed=fixed).probability
    colours, deep = np.dstack([image] * 3), image.astype(np.uint16) * 16 + 7
    assert np.array_equal(model.refine(colours, fixed=fixed).probability, first)
    np.testing.assert_allclose(model.refine(deep, fixed=fixed).probability, first, atol=1e-3)


def test_channels_are_repeated_filled_up_or_left_out():
    image = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert np.array_equal(any_channels(image, 3), image[..., :3])
    assert np.array_equal(any_channels(image[..., 0], 3), np.dstack([image[..., 0]] * 3))
    two = any_channels(image[..., :2], 3)
    np.testing.assert_allclose(two[..., 2], image[..., :2].mean(2))


def test_packed_and_torch_agree_and_a_seed_decides(model):
    torch_model = load_model("universal", device="cpu", engine="torch")
    image, fixed = picture((500, 640), [(250, 300, 70)]), stroke((500, 640), (250, 300, 70))
    for settings in ({"sampler": "one-step"}, {"sampler": "ddim", "steps": 3, "samples": 2}):
        first, again = (model.refine(image, fixed=fixed, **settings, seed=3) for _ in range(2))
        other = torch_model.refine(image, fixed=fixed, **settings, seed=3)
        assert (first.engine, other.engine) == ("packed", "torch")
        assert np.array_equal(first.probability, again.probability)
        np.testing.assert_allclose(first.probability, other.probability, atol=1e-5)
        tie = np.abs(first.probability[0] - 0.5) < 1e-5
        assert np.array_equal(first.mask[~tie], other.mask[~tie])


def test_around_the_window_the_prior_stays(model):
    size = (1100, 1200)
    image = picture(size, [(300, 300, 60)])
    prior = disc(size, (300, 300, 55)).astype(np.uint8)
    far = prompted.Prompt(prior > 0, np.full(size, -1, np.int16))
    rows, columns = window(far.object)
    assert rows.stop < 900
    assert columns.stop < 900
    prior[950:, 950:] = 1  # another piece makes the window larger
    rows, columns = window(prior > 0)
    assert rows.stop == size[0]
    assert columns.stop == size[1]
    found = model.refine(image, prior=disc(size, (300, 300, 55)).astype(float)[None])
    assert not found.mask[900:].any()
    assert dice(found.mask, disc(size, (300, 300, 60))) > 0.9


def test_a_window_holds_the_prompt_with_room_and_moves_in_steps():
    rng = np.random.default_rng(1)
    for _ in range(200):
        size = tuple(int(x) for x in rng.integers(20, 3000, 2))
        row, column = (int(rng.integers(0, side)) for side in size)
        marked = np.zeros(size, bool)
        marked[row : row + rng.integers(1, 400), column : column + rng.integers(1, 400)] = True
        area = window(marked)
        assert marked[area].sum() == marked.sum()
        longest = max(part.stop - part.start for part in area)
        assert longest == max(size) or longest >= 256
        for part, side in zip(area, size, strict=True):
            assert 0 <= part.start < part.stop <= side
    one, two = np.zeros((2, 2000, 2000), bool)
    one[1000:1010, 1000:1010] = two[1003:1012, 998:1010] = True
    assert window(one) == window(two)


def test_the_window_grows_while_the_answer_runs_out_of_it():
    """An answer that is right about what it sees, so that only the window can fail."""
    size, at = (1400, 1600), (700, 800, 420)
    truth, asked = disc(size, at), []

    def ask(image, prior, fixed, start) -> Iterator[Step]:
        asked.append(image.shape)
        bright = (image[..., 0] > 0.5).astype(np.float32)[None]
        yield Step(1, 1, 10, bright[None].astype(np.uint8), bright[None], bright)

    image = truth.astype(np.float32)[..., None]
    small = prompted.Prompt(None, np.where(disc(size, (700, 800, 9)), 1, -1).astype(np.int16))
    (step,) = prompted.steps(ask, image, small, 256, {"sigma": 1.0, "confidence": 0.9})
    assert len(asked) == 3, "sides of 400, 800 and 1600 pixels"
    assert dice(step.mask, truth) > 0.98
    assert all(max(shape[:2]) == 256 for shape in asked)


def test_a_stroke_pixel_counts_in_a_smaller_picture_and_the_object_comes_first():
    size = (2048, 2048)
    fixed = np.full(size, -1, np.int16)
    fixed[11, 17], fixed[12, 18], fixed[2000, 5] = 0, 1, 0
    view = prompted.View((slice(0, 2048), slice(0, 2048)), size, 256 / 2048)
    small = view.fixed(fixed)
    assert small.shape == (256, 256)
    assert small[1, 2] == 1
    assert small[250, 0] == 0
    assert (small >= 0).sum() == 2


def test_what_a_refinement_takes_does_not_grow_with_the_picture(model):
    small, large = model.estimate((256, 256)), model.estimate((4000, 4000))
    assert large.seconds == pytest.approx(small.seconds)
    assert large.bytes > small.bytes + 4000 * 4000 * 12
    assert model.estimate((256, 256), "ddim", 3, 2).seconds > 3 * small.seconds
