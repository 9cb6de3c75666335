"""Images that are read when they are needed, piece by piece, give what images in memory give."""

import dask.array as da
import numpy as np
import pytest

from napari_hidiff.annotation import refinement
from napari_hidiff.annotation.sidecar import image_key
from napari_hidiff.errors import InputError
from napari_hidiff.inference import stack as lazily
from napari_hidiff.inference.preprocessing import Intensity
from napari_hidiff.inference.stack import MOST, Stack, check_lazy, planes

SHAPE = (5, 48, 64)


class Stored:
    """An array as zarr has it: chunks of one size, read by slices alone; it counts reads."""

    def __init__(self, array, chunks):
        self._array, self.chunks, self.reads = array, chunks, []
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, place):
        self.reads.append(place)
        return np.array(self._array[place])


@pytest.fixture
def volume():
    rng = np.random.default_rng(0)
    return (rng.normal(400, 90, (3, *SHAPE)) * (rng.random((3, *SHAPE)) > 0.3)).astype(np.int16)


def forms(array):
    """The array, and lazily: in even and uneven chunks, in one, in such of one size."""
    uneven = tuple(((1, size - 1) if size > 1 else (size,)) for size in array.shape)
    half = tuple(-(-size // 2) for size in array.shape)
    yield array
    yield da.from_array(array, chunks=half)
    yield da.from_array(array, chunks=uneven)
    yield da.from_array(array, chunks=-1)
    yield Stored(array, half)
    yield Stored(array, array.shape)


def test_keys_and_planes_are_those_of_the_array_in_memory(volume):
    for array in (volume, volume[0], volume[0, 0], np.asfortranarray(volume)):
        for form in forms(array):
            assert image_key(form) == image_key(volume if array.shape == volume.shape else array)
            for axis in range(array.ndim):
                parts = list(planes(form, axis))
                assert all(isinstance(part, np.ndarray) for part in parts)
                np.testing.assert_array_equal(np.stack(parts, axis), array)
    assert all(np.shares_memory(part, volume) for part in planes(volume, 1))


def test_no_chunk_is_read_twice_and_no_more_than_a_chunk_at_once(volume, monkeypatch):
    stored = Stored(volume[0], (2, 48, 64))
    assert len(list(planes(stored))) == 5
    assert [(place[0].start, place[0].stop) for place in stored.reads] == [(0, 2), (2, 4), (4, 5)]
    loaded = []

    def load(block, block_info=None):
        loaded.append(block_info[0]["chunk-location"] if block_info else None)
        return block

    lazy = da.from_array(volume[0], chunks=(2, 24, 64)).map_blocks(load, dtype=volume.dtype)
    loaded.clear()
    assert len(list(planes(lazy))) == 5
    assert len(loaded) == len(set(loaded)) == 6
    monkeypatch.setattr(lazily, "AT_ONCE", 2 * volume[0, 0].nbytes)
    huge = Stored(volume[0], SHAPE)
    np.testing.assert_array_equal(list(planes(huge)), volume[0])
    assert len(huge.reads) == 3


@pytest.mark.parametrize("layout", ["none", "first", "last", "apart"])
def test_a_model_sees_what_it_sees_in_memory(volume, tiny, layout):
    model = tiny(2, 1 if layout == "none" else 3)
    arrays = {
        "none": [volume[0]],
        "first": [volume],
        "last": [np.ascontiguousarray(np.moveaxis(volume, 0, -1))],
        "apart": list(volume),
    }[layout]
    index = (3, -1, -1)
    wanted = refinement.segment(model, Stack(arrays, layout), index, None).probability
    for lazy in zip(*map(forms, arrays), strict=True):
        stack = Stack(lazy, layout)
        assert stack.shape == SHAPE
        assert isinstance(stack.plane(index), np.ndarray)
        got = refinement.segment(model, stack, index, None).probability
        np.testing.assert_array_equal(got, wanted)


def test_a_volume_is_read_twice_to_be_measured_however_many_channels_it_has(volume, tiny):
    stored = Stored(volume, (3, 1, 48, 64))
    Stack([stored], "first").normalised(tiny(2, 3), (0, -1, -1))
    assert len(stored.reads) == 1 + 2 * SHAPE[0]


@pytest.mark.parametrize("rule", ["standardize", "zscore"])
def test_statistics_of_parts_are_those_of_the_whole(volume, rule):
    image = np.moveaxis(volume, 0, -1).astype(np.float64)
    mean, deviation = Intensity(rule).measure(image, 3)
    for channel in range(3):
        values = image[..., channel]
        values = values[values != 0] if rule == "zscore" else values
        assert mean[channel] == pytest.approx(values.mean(), rel=1e-12)
        assert deviation[channel] == pytest.approx(values.std(), rel=1e-12)
    empty = np.zeros((2, 4, 4, 1))
    np.testing.assert_array_equal(Intensity(rule).measure(empty, 1), [[0], [0]])


def test_what_is_too_large_or_no_array_is_refused_before_it_is_read():
    check_lazy(np.broadcast_to(np.uint8(0), (MOST + 1,)), "in memory")
    check_lazy(da.zeros((2**16, 2**16), dtype=np.uint8), "just so")
    with pytest.raises(InputError, match=r"scan is lazy and has 8\.59 GB, more than 4\.3: open"):
        check_lazy(da.zeros((2, 2**16, 2**16), dtype=np.uint8), "scan")
    unknown = da.zeros(9, dtype=np.uint8)
    for odd in ([1, 2], object(), unknown[unknown > 0]):
        with pytest.raises(InputError, match="scan is of a kind that cannot be read"):
            check_lazy(odd, "scan")
