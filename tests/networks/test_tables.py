"""Tables of weights and time: the same logits as without, and sums that float16 holds."""

import pytest
import torch
from refiners import make, scene

from napari_hidiff.networks.binary import BinaryConv2d
from napari_hidiff.networks.blocks import Folded, Layer
from napari_hidiff.networks.refiner import Refiner
from napari_hidiff.networks.tables import EXACT_HALF, Tables, places, signs


def logits(refiner, tables, t=4, samples=2):
    y_t, given = scene(refiner, 64, 96, samples=samples)
    with torch.inference_mode():
        condition = refiner.condition(*given)
        expected = refiner.answers(y_t, t, condition)
        return refiner.at(y_t, tables.at(tables.row(t)), condition), expected


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("options", [{}, {"stem": 1}, {"classes": 3, "xformer": False}])
def test_all_signs_are_the_same(options, half):
    refiner = make(**options)
    tables = Tables(refiner, half)
    for t in (1, 4, 10):
        found, expected = logits(refiner, tables, t)
        # One other sign would change far more; the head is summed in the order of the memory.
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_real_convolutions_only_read_the_embedding():
    refiner = make(convolution="real")
    assert not list(places(refiner))
    found, expected = logits(refiner, Tables(refiner))
    assert torch.equal(found, expected)


def test_every_binary_convolution_has_its_place_and_a_row_is_computed_once():
    refiner = make()
    binary = [part for part in refiner.modules() if isinstance(part, BinaryConv2d)]
    assert {place.convolution for place in places(refiner)} == set(binary)
    tables = Tables(refiner)
    assert tables.row(3) is tables.row(3)
    assert not torch.equal(tables.row(3), tables.row(4))


def test_float16_holds_every_sum_of_a_part():
    even = torch.arange(-EXACT_HALF, EXACT_HALF + 1, 2)
    assert torch.equal(even.half().long(), even)
    assert float(torch.tensor(EXACT_HALF + 2).half()) != EXACT_HALF + 2
    for width in (32, 64, 128):
        for place in places(Refiner(3, 1, (8, 12, 16, 20), width=width)):
            weight = place.convolution.weight
            parts = signs(weight, torch.float16)
            assert sum(part.shape[1] for part in parts) == weight.shape[1]
            for part in parts:
                count = part[0].numel()
                assert part.shape[1] % 2 == 0, "so that sums are even at the border as well"
                assert count <= EXACT_HALF
                assert part.shape[1] == parts[0].shape[1] or part is parts[-1]


def test_wide_convolutions_are_cut_into_parts_with_the_same_sums():
    weight = torch.randn(8, 1024, 3, 3, generator=torch.Generator().manual_seed(0))
    parts = signs(weight, torch.float16)
    assert [part.shape[1] for part in parts] == [448, 448, 128]
    assert torch.equal(torch.cat(parts, 1).float(), signs(weight, torch.float32)[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize(("kernel", "inputs", "stride"), [(3, 32, 1), (3, 448, 2), (3, 1024, 1)])
@pytest.mark.parametrize("shift", [0.5, 0])
def test_sums_in_float16_are_whole_numbers_on_a_gpu(kernel, inputs, stride, shift):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, inputs, 24, 40, generator=generator) - shift
    weight = torch.rand(64, inputs, kernel, kernel, generator=generator) - shift
    padding = kernel // 2
    exact, half = (
        layer_of(weight.to(where), dtype, inputs).sums(x.to(where), stride, padding).cpu()
        for where, dtype in (("cpu", torch.float32), ("cuda", torch.float16))
    )
    assert torch.equal(half, exact)
    assert exact.abs().max() > 0


def layer_of(weight, dtype, inputs):
    one = torch.ones((), dtype=dtype, device=weight.device)
    zero = torch.zeros(inputs, 1, 1, device=weight.device)
    return Layer(zero, signs(weight, dtype), one, -one, Folded(zero, zero, zero, zero))
