"""What a volume takes in the window: the figures in the docs, and that what is freed goes back."""

import gc
import json
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.qt.threading import WorkerBase

from napari_hidiff._qt import threads
from napari_hidiff._qt.controls.settings import choose_box
from napari_hidiff.annotation import refinement
from napari_hidiff.annotation.refinement import segment_slices, slices_along
from napari_hidiff.inference import denoiser
from napari_hidiff.inference.stack import Stack

ROOT = Path(__file__).parents[2]
FOUND = json.loads((ROOT / "results" / "window-memory.json").read_text("utf-8"))
PAGE = (ROOT / "docs" / "volumes.md").read_text("utf-8")


@pytest.mark.parametrize("name", list(FOUND["volumes"]))
def test_the_figures_in_the_docs_were_measured(name) -> None:
    one = FOUND["volumes"][name]
    stages = one["stages_MiB"].values()
    assert abs(one["peak_MiB"] - max(stages)) <= 1
    assert abs(one["limit_MiB"] - 2 * one["float32_MiB"] - one["run_MiB"]) <= 2
    assert one["within"] == (one["peak_MiB"] <= one["limit_MiB"])
    volume, dtype = name.rsplit(", ", 1)
    cells = (one["float32_MiB"], one["run_MiB"], one["limit_MiB"], one["peak_MiB"])
    assert f"| {volume} | {dtype} | {' | '.join(map(str, cells))} |" in PAGE


def resident() -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))


@pytest.mark.skipif(
    threads._malloc_trim is None, reason="this malloc keeps nothing that is known of"
)
def test_freed_memory_goes_back_to_the_system() -> None:
    blocks = [bytearray(b"x") * 60_000 for _ in range(2000)]
    kept = blocks[::50]  # here and there one that is still in use
    del blocks
    before = resident()
    threads.give_back()
    assert before - resident() > 60e6
    assert len(kept) == 40


def test_a_sweep_leaves_little_behind_in_the_model(tiny, monkeypatch) -> None:
    monkeypatch.setattr(refinement, "TOGETHER", 1)  # slice by slice, as large ones are
    volume = np.random.default_rng(0).normal(size=(6, 40, 40)).astype(np.float32)
    where = slices_along((0, -1, -1), 0, 0, 5)
    denoiser.trim_cache(0)
    list(segment_slices(tiny(2, 1), Stack([volume]), where[:1]))
    alone = denoiser._tiles.nbytes
    assert alone > 0
    monkeypatch.setattr(refinement, "REMEMBERED", 2 * alone)
    list(segment_slices(tiny(2, 1), Stack([volume]), where))
    assert denoiser._tiles.nbytes == 2 * alone


def worked(viewer: Any, qtbot: Any, picture: np.ndarray) -> tuple[weakref.ref, ...]:
    """Widget, layer and viewer, closed after a thread has worked for them."""
    image = viewer.add_image(picture, rgb=True)
    _, widget = viewer.window.add_plugin_dock_widget("napari-hidiff", "HiDiff refine")
    steps, ended = list[int](), list[bool]()
    job = threads.Job(iter, range(3), step=steps.append, ended=lambda: ended.append(True))
    qtbot.waitUntil(lambda: ended == [True] and not WorkerBase._worker_set, timeout=300_000)
    assert job
    assert steps == [0, 1, 2]
    viewer.close()
    return weakref.ref(widget), weakref.ref(image), weakref.ref(viewer)


def test_a_closed_window_is_freed_though_threads_worked_for_it(
    make_napari_viewer, qtbot, picture
) -> None:
    gone = worked(make_napari_viewer(), qtbot, picture)
    gc.collect()
    assert [one() for one in gone] == [None] * 3


def test_a_closed_dock_is_freed(make_napari_viewer, qtbot) -> None:
    viewer = make_napari_viewer()
    dock, widget = viewer.window.add_plugin_dock_widget("napari-hidiff", "HiDiff refine")
    gone = weakref.ref(widget)
    viewer.window.remove_dock_widget(dock)
    assert widget.closed
    del dock, widget

    def freed() -> bool:
        gc.collect()
        return gone() is None

    qtbot.waitUntil(freed, timeout=300_000)


def test_boxes_keep_nobody_whose_layers_they_offer(qapp) -> None:
    """typing keeps the options of magicgui's last boxes: a closed widget must not be in them."""

    class Lister:
        def images(self) -> list:
            return []

    lister = Lister()
    box = choose_box(lister.images, lister.images)
    gone = weakref.ref(lister)
    del lister
    gc.collect()
    assert gone() is None
    box.reset_choices()
    assert box.image.choices == ()
