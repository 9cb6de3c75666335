"""The layout of signs as bits, bit by bit, and the arrays that steps share; without a kernel."""

import copy
import pickle

import numpy as np
import pytest

from napari_hidiff.engine import layout as memories
from napari_hidiff.engine.layout import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Memory,
    Shelf,
    halves,
    pack_activations,
    pack_weights,
    words_of,
)


def bit(words, channel):
    """Bit ``channel % 32`` of word ``channel // 32`` of the last axis."""
    return words[..., channel // 32] >> np.uint32(channel % 32) & 1


def test_activations_are_bits_with_a_border_of_zeros():
    rng = np.random.default_rng(0)
    x, threshold = rng.normal(size=(2, 3, 5, 64)), rng.normal(size=64)
    x[0, 1, 2] = threshold  # a tie is +1
    bits = pack_activations(x, threshold)
    assert bits.dtype == np.uint32
    assert bits.shape == (2, 5, 7, 2)
    for channel in range(64):
        expected = np.zeros((2, 5, 7), int)
        expected[:, 1:4, 1:6] = x[..., channel] >= threshold[channel]
        np.testing.assert_array_equal(bit(bits, channel), expected)


@pytest.mark.parametrize("kernel", [1, 3])
def test_weights_lie_by_block_tap_word_and_lane(kernel):
    signs = np.random.default_rng(1).random((64, 96, kernel, kernel)) < 0.5
    words = pack_weights(signs)
    assert words.dtype == np.uint32
    assert words.shape == (2, kernel * kernel * 3, 32)
    for o in (0, 31, 32, 63):
        for tap in range(kernel * kernel):
            run = words[o // 32, 3 * tap : 3 * tap + 3, o % 32]
            found = [int(bit(run, i)) for i in range(96)]
            assert found == signs[o, :, tap // kernel, tap % kernel].astype(int).tolist()
    np.testing.assert_array_equal(words[0, 0, 5], words_of(signs[5, :32, 0, 0])[0])


@pytest.mark.parametrize("kernel", [1, 3])
def test_halves_less_popcounts_are_zero_padded_sums(kernel):
    rng = np.random.default_rng(2)
    weights, inputs = (rng.random((n, 64, kernel, kernel)) < 0.4 for n in (32, 1))
    table = halves(weights)
    assert table.dtype == np.int32
    assert table.shape == (16, 32)
    assert sorted((TOP, BOTTOM, LEFT, RIGHT)) == [1, 2, 4, 8]
    for case in range(16 if kernel == 3 else 1):
        inside = np.ones((kernel, kernel), bool)
        for side, part in (
            (TOP, (0, slice(None))),
            (BOTTOM, (-1, slice(None))),
            (LEFT, (slice(None), 0)),
            (RIGHT, (slice(None), -1)),
        ):
            if case & side:
                inside[part] = False
        products = np.where(weights == inputs, 1, -1) * inside
        popcounts = (weights ^ (inputs & inside)).sum((1, 2, 3))
        np.testing.assert_array_equal(2 * (table[case] - popcounts), products.sum((1, 2, 3)))


def test_arrays_are_made_once_for_a_name_a_size_and_channels():
    memory = Memory()
    values = memory.values("x", (2, 3, 4), 32)
    assert (values.shape, values.dtype) == ((2 * 3 * 4 * 32,), np.float32)
    bits = memory.bits("x", (2, 3, 4), 64)
    assert (bits.shape, bits.dtype) == ((2 * 5 * 6 * 2,), np.uint32)
    assert not bits.any()
    assert memory.values("x", (2, 3, 4), 32) is values
    assert memory.bits("x", (2, 3, 4), 64) is bits
    assert memory.nbytes == values.nbytes + bits.nbytes
    for name, size, channels in (
        ("y", (2, 3, 4), 32),
        ("x", (2, 4, 3), 32),
        ("x", (2, 3, 4), 64),
    ):
        assert memory.values(name, size, channels) is not values


def borrowed(shelf, size, channels=32):
    """A set of arrays that was used for a step, and put back."""
    with shelf.borrow(size) as memory:
        memory.values("x", size, channels)
    return memory


def test_a_set_of_arrays_is_lent_to_one_step_at_a_time():
    shelf, size = Shelf(), (1, 4, 4)
    first = borrowed(shelf, size)
    with shelf.borrow(size) as memory, shelf.borrow(size) as other:
        assert memory is first
        assert other is not first
    assert borrowed(shelf, (1, 4, 8)) not in (memory, other)
    assert borrowed(shelf, size) in (memory, other)
    with pytest.raises(ZeroDivisionError), shelf.borrow((1, 4, 8)) as broken:
        raise ZeroDivisionError
    assert borrowed(shelf, (1, 4, 8)) is not broken, "after an error it is not used again"
    for new in (copy.deepcopy(shelf), pickle.loads(pickle.dumps(shelf))):
        assert borrowed(new, size) not in (memory, other)


def test_the_oldest_sets_are_dropped_when_they_take_too_much(monkeypatch):
    sizes = [(1, 4, width) for width in (4, 5, 6)]
    bytes_of = [4 * 4 * width * 32 for width in (4, 5, 6)]
    monkeypatch.setattr(memories, "SMALL", 2**20)
    monkeypatch.setattr(memories, "KEPT", sum(bytes_of[1:]))
    shelf = Shelf()
    sets = [borrowed(shelf, size) for size in sizes]
    assert borrowed(shelf, sizes[1]) is sets[1], "as much as may be kept is kept"
    assert borrowed(shelf, sizes[2]) is sets[2]
    assert borrowed(shelf, sizes[0]) is not sets[0]
    monkeypatch.setattr(memories, "SMALL", 0)  # beside a set of another size nothing is kept
    shelf = Shelf()
    first = borrowed(shelf, sizes[0])
    assert borrowed(shelf, sizes[0]) is first
    borrowed(shelf, sizes[1])
    assert borrowed(shelf, sizes[0]) is not first
