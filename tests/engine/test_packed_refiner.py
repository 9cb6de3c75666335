"""A refiner compiled to packed kernels against the refiner in torch."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from paths import TESTS
from refiners import FEATURES, make, scene

import napari_hidiff
from napari_hidiff.engine import pool
from napari_hidiff.engine.packed_refiner import compile_refiner
from napari_hidiff.errors import Unpackable
from napari_hidiff.networks.refiner import probabilities


@pytest.mark.parametrize("features", [FEATURES, ()], ids=["features", "no features"])
@pytest.mark.parametrize(("stem", "width"), [(1, 32), (2, 32), (2, 64)])
@pytest.mark.parametrize(
    ("classes", "size", "output"), [(1, (45, 70), "y0"), (3, (97, 33), "y0"), (3, (40, 61), "eps")]
)
def test_a_step_is_that_of_torch(classes, size, output, stem, width, features):
    refiner = make(
        classes=classes, stem=stem, width=width, output=output, feature_channels=features
    )
    y_t, given = scene(refiner, *size, samples=2)
    with torch.inference_mode():
        condition, packed = refiner.condition(*given), compile_refiner(refiner)
        ours = packed.condition(*given)
        for t in (1, 4, 10):
            expected, found = refiner(y_t, t, condition), packed(y_t, t, ours)
            assert found.dtype == torch.float32
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, atol=1e-4)  # of logits, at every pixel
    assert (probabilities(expected) - given[1]).abs().mean() > 0.02, "the refiner does something"


def test_a_refiner_without_an_x_former_is_packed_too():
    refiner = make(xformer=False)
    y_t, given = scene(refiner, 45, 70)
    with torch.inference_mode():
        packed = compile_refiner(refiner)
        expected = refiner(y_t, 4, refiner.condition(*given))
        np.testing.assert_allclose(packed(y_t, 4, packed.condition(*given)), expected, atol=1e-4)


@pytest.fixture(scope="module")
def refiner():
    return make()


@pytest.fixture(scope="module")
def packed(refiner):
    return compile_refiner(refiner)


def test_samples_of_a_batch_equal_one_by_one(refiner, packed):
    y_t, given = scene(refiner, 50, 64, samples=3)
    condition = packed.condition(*given)
    together = packed(y_t, 3, condition)
    alone = [packed(y[None], 3, condition) for y in y_t]
    assert torch.equal(together, torch.cat(alone))


def test_every_image_of_a_batch_has_its_condition_and_its_time(refiner, packed):
    y_t, given = scene(refiner, 50, 64, samples=2, images=2)
    times = torch.tensor([2, 9])
    with torch.inference_mode():
        expected = refiner(y_t, times, refiner.condition(*given))
    found = packed(y_t, times, packed.condition(*given))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    same = packed(y_t, torch.tensor([2, 2]), packed.condition(*given))
    assert torch.equal(same[:1], found[:1])


def test_soft_states_are_taken_as_they_are(refiner, packed):
    y_t, given = scene(refiner, 33, 40)
    y_t = torch.rand_like(y_t)
    with torch.inference_mode():
        expected = refiner(y_t, 10, refiner.condition(*given))
    np.testing.assert_allclose(packed(y_t, 10, packed.condition(*given)), expected, atol=1e-3)


def test_two_threads_at_once_get_the_same(refiner, packed, monkeypatch):
    monkeypatch.setattr(pool, "WORTH", 1)
    y_t, given = scene(refiner, 100, 90, samples=2)
    condition = packed.condition(*given)
    alone = packed(y_t, 5, condition)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with ThreadPoolExecutor(2) as threads:
            found = list(threads.map(lambda _: packed(y_t, 5, condition), range(8)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(alone, each) for each in found)


def test_rows_are_dealt_out_once_each(monkeypatch):
    monkeypatch.setattr(pool, "WORTH", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    counts = np.zeros(37, int)

    def kernel(begin, end, array):
        array[begin:end] += 1

    pool.rows(kernel, 37, 10**6, counts)
    assert (counts == 1).all()

    def broken(begin, end):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pool.rows(broken, 37, 10**6)


def test_times_outside_of_the_process_are_refused(refiner, packed):
    y_t, given = scene(refiner, 32, 32)
    condition = packed.condition(*given)
    for t in (0, 11):
        with pytest.raises(ValueError, match=rf"1\.\.10, not {t}"):
            packed(y_t, t, condition)


def test_a_real_refiner_is_refused_in_one_line():
    with pytest.raises(Unpackable) as caught:
        compile_refiner(make(convolution="real"))
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("own_scale")
@pytest.mark.parametrize("sampler", ["one-step", "ddim"])
def test_the_bundled_model_gives_the_same_masks(sample_pair, sampler):
    """Every sign is the same on both engines, so every pixel is, but for a last rounding."""
    image = sample_pair[0][200:620, 300:811]
    found, expected = (
        napari_hidiff.load_model("chase-vessels", device="cpu", engine=engine).refine(
            image, sampler=sampler, steps=3, samples=2
        )
        for engine in ("packed", "torch")
    )
    assert (found.engine, expected.engine) == ("packed", "torch")
    np.testing.assert_allclose(found.probability, expected.probability, atol=1e-5)
    assert (found.mask != expected.mask).sum() <= 1
    assert found.mask.sum() > 1000


CHILD = """
import os, sys, torch
from napari_hidiff.engine import pool
from refiners import make, scene
from napari_hidiff.engine.packed_refiner import compile_refiner
pool.WORTH = 1
torch.set_num_threads(1)  # OpenMP's threads do not survive a fork; ours are asked for by hand
pool.torch = type("Torch", (), {"get_num_threads": staticmethod(lambda: 3)})
refiner = make()
packed = compile_refiner(refiner)
y_t, given = scene(refiner, 64, 64)
condition = packed.condition(*given)
before = packed(y_t, 3, condition)
if sys.argv[1] == "fork":
    pid = os.fork()
    if pid == 0:
        os._exit(0 if torch.equal(packed(y_t, 3, condition), before) else 1)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def with_helpers():
    """The environment, with the modules beside the tests in reach."""
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"PYTHONPATH": path}


def run(how, **environment):
    done = subprocess.run(
        [sys.executable, "-c", CHILD, how],
        env=with_helpers() | environment,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_goes_on():
    run("fork")


@pytest.mark.slow
def test_a_cache_folder_that_cannot_be_written_costs_time_only(tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    run("plain", NUMBA_CACHE_DIR=str(blocked / "cache"), NUMBA_NUM_THREADS="1")


AVX2 = "+avx,+avx2,+fma,+popcnt,+bmi,+bmi2,+sse4.2,+ssse3"
PROCESSORS = {
    "generic": "",
    "haswell": AVX2,
    "skylake-avx512": f"{AVX2},+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PROCESSORS)
def test_every_kind_of_processor_gets_exact_sums(name, tmp_path):
    """The kernels of lesser processors, on this one; its own are tested in this process."""
    able = [kind for kind in PROCESSORS if needed(kind) <= cpu()]
    if name not in able[:-1]:
        pytest.skip(f"this processor does not do more than {name}")
    features = PROCESSORS[name]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull,
         "--noconftest", "--import-mode=importlib", str(TESTS / "engine" / "test_kernels.py")],
        env=with_helpers()
        | {
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # no window is needed, nor what imports napari
            "NUMBA_CPU_NAME": name,
            "NUMBA_CPU_FEATURES": features,
            "NUMBA_CACHE_DIR": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def needed(name):
    return {feature[1:] for feature in PROCESSORS[name].split(",") if feature}


def cpu():
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    return {name for name, present in features.items() if present}
