"""What all tests share: one CPU thread, a screen, the bundled sample, real data if any."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent

# Two test processes on two cores: more threads each would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
# A widget touched from a worker thread is an error here, and a crash for a user.
os.environ.setdefault("NAPARI_ENSURE_PLUGIN_MAIN_THREAD", "1")


def has_display() -> bool:
    """Whether windows can be shown; on Linux pytest-xvfb has set DISPLAY when it found Xvfb."""
    return not sys.platform.startswith("linux") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


@pytest.hookimpl(trylast=True)  # after pytest-xvfb, which must find Qt's platform still open
def pytest_configure(config: pytest.Config) -> None:
    if not has_display():
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if "gui" in item.path.relative_to(ROOT).parts and not has_display():
        reason = "needs a screen: install Xvfb (README, system packages)"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Torch on one thread, so that timings and sums do not depend on what else is running."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """``real_data("CHASEDB1")``: a folder of real images, or a skip that says where it looked."""
    data = Path(os.environ.get("NAPARI_HIDIFF_TEST_DATA", ROOT.parent / "shared" / "data"))

    def folder(name: str) -> Path:
        if not (data / name).is_dir():
            pytest.skip(f"no {name} in {data}; NAPARI_HIDIFF_TEST_DATA names another folder")
        return data / name

    return folder


@pytest.fixture(scope="session")
def chase_data(real_data: Callable[[str], Path]) -> Path:
    """The folder of CHASE_DB1, or a skip."""
    return real_data("CHASEDB1")


@pytest.fixture(scope="session")
def _sample() -> tuple[np.ndarray, np.ndarray]:
    from napari_hidiff.io import sample

    return sample()


@pytest.fixture
def sample_pair(_sample: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The bundled sample: image uint8 ``[960, 999, 3]``, truth uint8 ``[960, 999]``; own copies."""
    image, truth = _sample
    return image.copy(), truth.copy()
