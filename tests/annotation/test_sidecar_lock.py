"""Where a session is kept: one file per window, nothing lost, nothing left lying about."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from napari_hidiff.annotation import sidecar
from napari_hidiff.annotation.annotation import Annotation
from napari_hidiff.annotation.journal import SliceRecord, repeatable
from napari_hidiff.annotation.sidecar import OLD, SidecarWriter, claim, tidy
from napari_hidiff.io.storage import SESSIONS
from napari_hidiff.masks import FREE

SHAPE = (40, 50)
INDEX = (-1, -1)
KEY = "0123456789abcdef0123456789abcdef"


def strokes(count: int) -> dict[tuple[int, ...], SliceRecord]:
    fixed = np.full(SHAPE, FREE, np.int32)
    fixed.flat[:count] = 1
    return {INDEX: SliceRecord(fixed, None)}


def write(store: SidecarWriter, count: int) -> None:
    store.write(SHAPE, strokes(count), [INDEX], [])


def kept(path: Path) -> int:
    found = sidecar.load(path)
    assert found is not None
    return found.strokes


def test_two_windows_on_one_image_keep_two_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SESSIONS, str(tmp_path))
    path = sidecar.path_of(KEY)
    one, two = SidecarWriter(path, KEY, replace=False), SidecarWriter(path, KEY, replace=False)
    for round_ in range(1, 4):
        write(one, round_)
        write(two, 10 * round_)
    assert kept(path) == 3
    assert kept(tmp_path / f"{KEY}.2.npz") == 30
    assert sidecar.find(KEY) == tmp_path / f"{KEY}.2.npz", "the one written last is offered"
    one.close()
    two.close()
    assert sorted(other.name for other in tmp_path.iterdir()) == [f"{KEY}.2.npz", f"{KEY}.npz"]
    write(three := SidecarWriter(sidecar.find(KEY) or path, KEY, replace=True), 31)
    assert kept(tmp_path / f"{KEY}.2.npz") == 31
    assert kept(path) == 3
    three.close()


def test_two_programs_keep_two_files_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from napari_hidiff.annotation.sidecar import claim\n"
        "print(claim(Path(sys.argv[1])).path.name, flush=True)\ntime.sleep(60)"
    )
    path = tmp_path / "a.npz"
    program = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "a.npz\n"
    mine = claim(path)
    assert mine.path.name == "a.2.npz"
    mine.release()
    program.kill()
    program.wait()
    again = claim(path)
    assert again.path == path
    again.release()


def test_the_second_window_takes_no_file_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    (tmp_path / "a.2.npz").write_bytes(b"of an earlier day")
    one, two = claim(path), claim(path)
    assert two.path.name == "a.3.npz"
    one.release()
    two.release()


def test_a_folder_that_cannot_be_written_loses_nothing_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.npz"
    sidecar.save(path, SHAPE, strokes(7), [])
    store = SidecarWriter(path, KEY, replace=False)
    real = os.replace

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    for count in (8, 9):
        with pytest.raises(OSError, match="No space"):
            write(store, count)
    assert kept(path) == 7, "the file of the earlier session stays"
    monkeypatch.setattr(os, "replace", real)
    store.write(SHAPE, {}, [INDEX], [])  # what changed was told already
    assert kept(path) == 9
    aside = next(other for other in tmp_path.glob("a-*.npz"))
    assert kept(aside) == 7
    assert not list(tmp_path.glob("*.part"))
    store.close()


def test_parts_of_killed_programs_are_removed(tmp_path: Path) -> None:
    mine, old, other = (tmp_path / name for name in ("a~1.part", "bxyz.part", "a.2~3.part"))
    for part in (mine, old, other):
        part.write_bytes(b"half")
    os.utime(old, (0, time.time() - OLD - 60))
    tidy(tmp_path / "a.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.2~3.part"]


def save_format_1(path: Path, fixed: np.ndarray, accepted: np.ndarray, log: list[dict]) -> None:
    """What version 0.1.0 wrote before there was a format 2."""
    where = np.flatnonzero(fixed != FREE)
    about = {"format": 1, "shape": SHAPE, "slices": [INDEX], "log": log, "saved": "2026-01-01"}
    np.savez_compressed(
        path,
        where0=np.diff(where, prepend=0).astype(np.uint32),
        label0=fixed.ravel()[where],
        accepted0=accepted,
        about=np.frombuffer(json.dumps(about).encode(), np.uint8),
    )


def test_files_of_format_1_are_read_and_gone_on_from(tmp_path: Path) -> None:
    fixed = strokes(70)[INDEX].fixed
    accepted = np.random.default_rng(0).integers(0, 3, SHAPE).astype(np.uint8)
    old = [{"action": "segment", "slice": [-1, -1]}]
    save_format_1(tmp_path / "a.npz", fixed, accepted, old)
    found = sidecar.load(tmp_path / "a.npz")
    assert found is not None
    np.testing.assert_array_equal(found.slices[INDEX].fixed, fixed)
    np.testing.assert_array_equal(found.slices[INDEX].accepted, accepted)
    assert not repeatable(found.log)

    from napari_hidiff.annotation.replay import Replay

    mask = np.zeros(SHAPE, np.uint8)
    annotation = Annotation(SHAPE)
    annotation.restore(found.slices, mask)
    annotation.begin(found.log, found.slices, channels=0)
    mask[30:35] = 2
    annotation.changed(mask, painted=True)
    log = json.loads(json.dumps(annotation.log))
    assert log[0] == old[0]
    repeated = Replay(log, SHAPE, np.zeros(SHAPE), models=lambda entry, engine: None)
    repeated.run()
    assert repeated.deviation is None
    np.testing.assert_array_equal(repeated.mask, mask)
    np.testing.assert_array_equal(
        repeated.annotation.sessions[INDEX].timeline.fixed,
        annotation.sessions[INDEX].timeline.fixed,
    )
    assert (repeated.annotation.sessions[INDEX].accepted == accepted).all()


def test_a_hundred_strokes_on_a_large_image_are_far_below_a_megabyte(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((1000, 1000), np.uint8)
    annotation = Annotation(mask.shape)
    annotation.begin(channels=0)
    annotation.session(INDEX, mask)
    rows, columns = np.mgrid[:1000, :1000]
    for number in range(100):
        row, column, slope = rng.uniform(100, 900), rng.uniform(100, 700), rng.uniform(-1, 1)
        along = (columns >= column) & (columns < column + 200)
        stroke = along & (abs(rows - row - slope * (columns - column)) < 6)
        mask[stroke] = 1 + number % 2
        annotation.changed(mask, painted=True)
    began = time.perf_counter()
    snapshot = annotation.records(), [dict(entry) for entry in annotation.log]
    blocked = time.perf_counter() - began
    sidecar.save(tmp_path / "a.npz", mask.shape, *snapshot)
    size = (tmp_path / "a.npz").stat().st_size
    print(f"{size / 100:.0f} bytes per stroke, the window waits {1000 * blocked:.1f} ms")
    assert size < 200_000
    found = sidecar.load(tmp_path / "a.npz")
    assert found is not None
    assert len(found.log) == 102
