"""tf32 is off on CUDA while a model runs, and as it was before afterwards."""

import pytest
import torch

from napari_hidiff.engine.precision import TF32, full_precision

CUDA = torch.device("cuda")


def switches():
    return torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()


@pytest.fixture(params=[(True, "highest"), (True, "high"), (False, "highest")])
def before(request):
    kept = switches()
    torch.backends.cudnn.allow_tf32, products = request.param
    torch.set_float32_matmul_precision(products)
    yield request.param
    torch.backends.cudnn.allow_tf32 = kept[0]
    torch.set_float32_matmul_precision(kept[1])


def test_off_inside_and_back_after_the_last_one(before):
    one, other = full_precision(CUDA), full_precision(CUDA)
    one.__enter__()
    other.__enter__()
    assert switches() == (False, "highest")
    one.__exit__(None, None, None)
    assert switches() == (False, "highest"), "another one still runs"
    other.__exit__(None, None, None)
    assert switches() == before


def test_back_after_an_error(before):
    with pytest.raises(ValueError, match="of the caller"), full_precision(CUDA):
        raise ValueError("of the caller")
    assert switches() == before


def test_untouched_on_the_cpu_and_where_tf32_is_asked_for(before, monkeypatch):
    with full_precision(torch.device("cpu")):
        assert switches() == before
    monkeypatch.setenv(TF32, "1")
    with full_precision(CUDA):
        assert switches() == before
