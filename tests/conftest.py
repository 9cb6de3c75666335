"""What all tests share: one CPU thread, a screen, the bundled sample, real data if any."""

import functools
import gc
import itertools
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import numpy as np
import pytest

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from napari_hidiff.inference.model import HiDiff

ROOT = Path(__file__).resolve().parent.parent
SPENT = pytest.StashKey[list[str]]()
PEAKS = pytest.StashKey[dict[str, float]]()

# Two test processes on two cores: more threads each would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Where numba colours its errors, colorama changes sys.stdout under a test that captures it.
os.environ.setdefault("NUMBA_DISABLE_ERROR_MESSAGE_HIGHLIGHTING", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
# A widget touched from a worker thread is an error here, and a crash for a user.
os.environ.setdefault("NAPARI_ENSURE_PLUGIN_MAIN_THREAD", "1")
# A busy machine is no failure.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")


def has_display() -> bool:
    """Whether windows can be shown; on Linux pytest-xvfb has set DISPLAY when it found Xvfb."""
    return not sys.platform.startswith("linux") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


@pytest.hookimpl(trylast=True)  # after pytest-xvfb, which must find Qt's platform still open
def pytest_configure(config: pytest.Config) -> None:
    # The process that only deals out tests (pytest -n) has no screen; its workers have their own.
    deals_out = not hasattr(config, "workerinput") and config.getoption("numprocesses", None)
    if not deals_out and not has_display():
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: a long one at the end would keep one process waiting."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


def peak() -> float:
    """The most memory of this process in MB: since the last call on Linux, else since its start."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forgets the peak
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1e3
    except (OSError, IndexError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return float(most / (1e6 if sys.platform == "darwin" else 1e3))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Remember what memory each file needed."""
    done = yield
    if resource is not None:
        peaks = item.config.stash.setdefault(PEAKS, {})
        name = item.path.relative_to(ROOT).as_posix()
        peaks[name] = max(peaks.get(name, 0), peak())
    return done


def spent(config: pytest.Config) -> str:
    """What this process took, for which files most, and the programs that it started."""
    own, others = (
        one.ru_utime + one.ru_stime
        for one in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
    peaks = sorted(config.stash.get(PEAKS, {}).items(), key=lambda one: -one[1])[:5]
    most = ", ".join(f"{size:.0f} MB in {name}" for name, size in peaks)
    return f"{own:.0f} s of a core, {others:.0f} s in programs it started; at most {most}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    if resource is not None and hasattr(session.config, "workeroutput"):
        session.config.workeroutput["spent"] = spent(session.config)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash.setdefault(SPENT, []).append(
        f"{node.gateway.id}: {getattr(node, 'workeroutput', {}).get('spent')}"
    )


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Under --durations also what the test processes took."""
    if resource is not None and config.getoption("durations") is not None:
        terminalreporter.section("test processes")
        for line in config.stash.get(SPENT, [spent(config)]):
            terminalreporter.line(line)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if "gui" in item.path.relative_to(ROOT).parts and not has_display():
        reason = "needs a screen: install Xvfb (README, system packages)"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@pytest.fixture(autouse=True, scope="session")
def imported() -> None:
    """What was imported stays: no collection of garbage need look at it."""
    import torch

    assert torch
    gc.freeze()


@pytest.fixture(autouse=True)
def one_thread(imported: None) -> None:
    """Torch on one thread, whatever the test before asked for: sums do not depend on what else
    is running, and two processes with two threads each would wait for one another."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="module")
def collected() -> Iterator[None]:
    """What a file left behind, and freed memory, given back."""
    yield
    from napari_hidiff._qt.threads import give_back

    gc.collect()
    give_back()


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What models remember of a test's images (hundreds of megabytes), given back."""
    yield
    from napari_hidiff._qt.threads import give_back
    from napari_hidiff.inference import denoiser

    if denoiser.remembered():
        denoiser.trim_cache(0)
        give_back()


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models and training sets of nobody."""
    monkeypatch.setenv("NAPARI_HIDIFF_MODELS", str(tmp_path / "own-models"))
    monkeypatch.setenv("NAPARI_HIDIFF_TRAINING_SETS", str(tmp_path / "own-sets"))


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


@pytest.fixture
def own_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is resampled: a model for large pictures sees a small one as it is, in no time."""
    from napari_hidiff.inference import card

    monkeypatch.setattr(card, "CLEARLY", float("inf"))


@pytest.fixture(scope="session")
def _sample() -> tuple[np.ndarray, np.ndarray]:
    from napari_hidiff.io.images import sample

    return sample()


@pytest.fixture
def sample_pair(_sample: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The bundled sample: image uint8 ``[960, 999, 3]``, truth uint8 ``[960, 999]``; own copies."""
    image, truth = _sample
    return image.copy(), truth.copy()


@pytest.fixture(scope="session")
def tiny() -> "Callable[..., HiDiff]":
    """``tiny(labels=2, channels=3, slices=1)``: a small untrained model that changes its prior."""
    import torch

    from napari_hidiff.inference.card import Card
    from napari_hidiff.inference.model import HiDiff
    from napari_hidiff.masks import Label

    colors = ("#000000", "#ff4040", "#40a0ff", "#40ff80")
    names = ("background", "vessel", "disc", "lesion")

    @functools.cache
    def make(labels: int = 2, channels: int = 3, slices: int = 1) -> HiDiff:
        card = Card(
            name="tiny",
            summary="untrained, for tests",
            classes=tuple(itertools.starmap(Label, zip(names[:labels], colors, strict=False))),
            channels=("red", "green", "blue", "infrared")[:channels],
            segmentor={"name": "unet", "filters": [4, 4, 8, 8, 8, 8]},
            refiner={"width": 32, "stem": 2},
            defaults={"sampler": "ddim", "steps": 2, "samples": 2},
            slices=slices,
        )
        model = HiDiff.create(card, seed=0)
        generator = torch.Generator().manual_seed(0)
        torch.nn.init.normal_(model.refiner.head.weight, std=0.05, generator=generator)
        return model

    return make


@pytest.fixture(scope="session")
def tiny_file(tiny: "Callable[..., HiDiff]", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model of RGB images and one foreground class, as a file."""
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    tiny().save(path)
    return path


@pytest.fixture(scope="session")
def tiny_model(tiny_file: Path) -> "HiDiff":
    """The tiny model as its file holds it (weights in float16)."""
    from napari_hidiff import load_model

    return load_model(tiny_file, device="cpu")
