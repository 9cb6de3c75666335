"""Pictures and slices at a smaller size."""

import dataclasses
from pathlib import Path

import layouts
import numpy as np
import pytest

from napari_hidiff.inference.card import Card
from napari_hidiff.masks import Label
from napari_hidiff.training import case_cache
from napari_hidiff.training.datasets import Case, Sample, open_dataset
from napari_hidiff.training.datasets.base import nearest, shrunk
from napari_hidiff.training.trainer import with_data

CASE = Case("a", "a", (Path("a.png"),), Path("a.png"))


def test_a_picture_shrinks_to_its_longest_side_and_keeps_its_range():
    image = np.full((60, 120, 3), 200, np.uint8)
    mask = np.zeros((60, 120), np.uint8)
    mask[21:39, 39:81] = 3
    inside = mask == 0
    small = shrunk(Sample(CASE, image, mask, inside, (0.5, 0.25)), 40)
    assert small.image.shape == (20, 40, 3)
    assert small.image.dtype == np.float32
    np.testing.assert_allclose(small.image, 200, rtol=1e-5)
    assert (small.mask.shape, small.mask.dtype) == ((20, 40), np.uint8)
    assert set(np.unique(small.mask)) == {0, 3}
    assert small.field_of_view.dtype == bool
    assert small.spacing == pytest.approx((1.5, 0.75))
    assert (small.mask == 3).sum() * 9 == (mask == 3).sum()


def test_slices_shrink_and_stay_as_many():
    rng = np.random.default_rng(0)
    image, mask = rng.random((5, 64, 48, 2)), rng.integers(0, 2, (5, 64, 48)).astype(np.uint8)
    small = shrunk(Sample(CASE, image, mask, None, (3.0, 1.0, 1.0)), 32)
    assert small.image.shape == (5, 32, 24, 2)
    assert small.mask.shape == (5, 32, 24)
    assert small.spacing == (3.0, 2.0, 2.0)


def test_nothing_is_enlarged():
    sample = Sample(CASE, np.zeros((30, 20, 3), np.uint8), np.zeros((30, 20), np.uint8))
    assert shrunk(sample, 30) is sample
    assert shrunk(sample, 500) is sample


@pytest.mark.parametrize("size", [(7, 5), (10, 9), (3, 3), (1, 1)])
def test_labels_are_those_under_the_centre(size):
    labels = np.arange(10 * 9).reshape(10, 9)
    small = nearest(labels, size)
    for i in range(size[0]):
        for j in range(size[1]):
            y, x = int((i + 0.5) * 10 / size[0]), int((j + 0.5) * 9 / size[1])
            assert small[i, j] == labels[y, x]


def test_a_data_set_loads_and_caches_small_pictures_apart(tmp_path):
    whole = open_dataset("folder", layouts.write_folder(tmp_path / "data"))
    small = dataclasses.replace(whole, longest_side=32)
    case = whole.splits["train"][0]
    assert max(small.load(case).mask.shape) == 32
    one, other = (case_cache.put(dataset, case, tmp_path) for dataset in (whole, small))
    assert one.path != other.path
    assert max(other.shape[2:]) == 32
    assert other.truth.shape == other.image.shape[:1] + other.image.shape[2:]


def test_fine_tuning_sees_images_at_the_scale_of_its_model(tmp_path):
    """Larger and smaller ones, as the model resamples them; spacing says the scale in mm."""
    whole = open_dataset("folder", layouts.write_folder(tmp_path / "data"))
    case = whole.splits["train"][0]
    size = whole.load(case).mask.shape
    labels = tuple(Label(name, "#ffffff") for name in whole.classes)
    for side in (max(size) // 2, max(size) * 2):
        card = Card("m", labels, whole.channels, longest_side=side)
        sample = dataclasses.replace(whole, at_scale_of=card).load(case)
        assert max(sample.mask.shape) == max(sample.image.shape) == side
        assert sample.mask.any()
    one, other = (
        case_cache.put(dataset, case, tmp_path)
        for dataset in (whole, dataclasses.replace(whole, at_scale_of=card))
    )
    assert one.path != other.path
    assert one.spacing is None
    like = dataclasses.replace(whole, at_scale_of=dataclasses.replace(card, longest_side=0))
    assert like.load(case).mask.shape == size


def test_a_card_gets_the_spacing_of_its_training_volumes(tmp_path):
    stored = case_cache.Stored("a", "a", tmp_path, (1, 1, 9, 9), (), (1,), ("", ""))
    card = Card("m", (), ("MRI",))
    near, far = (dataclasses.replace(stored, spacing=(side, 2.0)) for side in (1.0, 1.2))
    store = case_cache.Store({"train": [near, far, near], "val": [far]})
    assert with_data(card, store).spacing == (1.0, 2.0)
    store.splits["train"].append(stored)  # says nothing of its size
    assert with_data(card, store).spacing is None


def test_the_second_observer_shrinks_too(chase_data):
    dataset = dataclasses.replace(open_dataset("chase", chase_data), longest_side=250)
    sample = dataset.load(dataset.splits["train"][0])
    second = dataset.load_second(sample)
    assert second is not None
    assert second.shape == sample.mask.shape == (240, 250)
