"""SIGKILL in the middle of a session, ten times: at most two seconds of strokes are lost."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from napari_hidiff import sidecar
from napari_hidiff.replay import Replay
from napari_hidiff.replay_command import Models, differing

SCRIPT = Path(__file__).parent / "crash_session.py"
KILLS = 10
WITH_MODEL = (2, 6)
LOST = 2.0
"""Seconds of strokes that a crash may cost."""


@pytest.mark.slow
def test_ten_kills_at_random_moments_lose_no_stroke_older_than_two_seconds(
    picture: np.ndarray, tiny_file: Path, tmp_path: Path, sessions: Path
) -> None:
    image = tmp_path / "image.npy"
    np.save(image, picture)
    path = sidecar.path_of(sidecar.image_key(picture))
    moments = random.Random(11)
    before = 0
    for kill in range(KILLS):
        models = [str(tiny_file)] if kill in WITH_MODEL else []  # which takes longer to start
        program = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(image), *models],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert program.stdout is not None
        patience = moments.uniform(0.05, 3.5)
        strokes: list[tuple[float, list[int]]] = []
        found, killed_at = None, 0.0
        for line in program.stdout:
            if not line.startswith("{"):
                continue  # a notification of napari
            said = json.loads(line)
            if "found" in said:  # the sidecar of the last kill, as the window opened it
                found, killed_at = said["found"], time.monotonic() + patience
            else:
                strokes.append((said["at"], said["pixels"]))
            if killed_at and time.monotonic() >= killed_at:
                break
        program.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        program.wait()
        for line in program.stdout:  # painted before the kill, read after it
            if line.startswith("{") and line.endswith("\n"):
                strokes.append((json.loads(line)["at"], json.loads(line)["pixels"]))
        assert found == before, f"kill {kill}: the window does not open on what was kept"

        kept = sidecar.load(path) if path.exists() else None
        sure = [pixel for at, pixels in strokes if at < killed - LOST for pixel in pixels]
        if kept is None:
            assert not sure, f"kill {kill}: nothing was kept"
            continue
        fixed = kept.slices[-1, -1].fixed.ravel()
        assert (fixed[sure] >= 0).all(), f"kill {kill}: a stroke older than {LOST} s is lost"
        before = kept.strokes
        broken = [other for other in sessions.glob("*.npz") if sidecar.load(other) is None]
        assert broken == []
        assert len(list(sessions.glob("*.npz"))) == 1
        assert len(list(sessions.glob("*.part"))) <= 1, "parts of files pile up"
    kept = sidecar.load(path)
    assert kept is not None
    assert any(entry["action"] == "run" for entry in kept.log)
    assert before > 100, "hardly anything was painted"

    starts = [entry["action"] for entry in kept.log if entry["action"] in ("open", "restore")]
    assert starts.count("open") == 1
    assert len(starts) > KILLS / 2
    repeated = Replay(kept.log, kept.shape, picture, Models([tiny_file], None))
    repeated.run()
    assert repeated.deviation is None
    assert differing(repeated, kept) == []
