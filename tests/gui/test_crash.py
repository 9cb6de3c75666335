"""SIGKILL in the middle of a session, again and again: what was saved is there, and all is soon."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_hidiff._qt.layers import autosave
from napari_hidiff.annotation import sidecar
from napari_hidiff.annotation.replay import Replay
from napari_hidiff.cli.replay import Models, differing

SCRIPT = Path(__file__).parent / "crash_session.py"
KILLS = 3
REFINING = (1,)


@pytest.fixture
def program(picture: np.ndarray, tiny_file: Path, tmp_path: Path) -> Iterator[subprocess.Popen]:
    np.save(tmp_path / "image.npy", picture)
    program = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(tmp_path / "image.npy"), str(tiny_file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    yield program
    program.kill()
    program.communicate()


def killed(program: subprocess.Popen, refining: bool, moments: random.Random) -> list[dict]:
    """What a session says that is killed: soon after so many of its strokes are saved."""
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdin.write("refine\n" if refining else "paint\n")
    said: list[dict[str, Any]] = []
    enough, wanted = moments.randrange(1, 25), None
    for line in program.stdout:
        said.append(json.loads(line))
        if "due" in said[-1]:
            assert said[-1]["handed"] >= said[-1]["due"], "a stroke of a second ago is not saved"
        strokes = [one["entries"] for one in said if "entries" in one]
        assert len(strokes) < 2000, "no thread saves what it was given"
        if wanted is None and len(strokes) >= enough:
            wanted = strokes[-1]
        if "over" in said[-1]:
            assert wanted == 0, "the session ended by itself"
            break
        if wanted and said[-1].get("saved", 0) > wanted:
            wanted = 0
            time.sleep(moments.uniform(0, 0.5))  # while it paints and saves on
            os.kill(said[0]["pid"], signal.SIGKILL)
    return said


@pytest.mark.slow
def test_kills_lose_nothing_that_was_saved_and_every_stroke_is_saved_soon(
    program: subprocess.Popen, picture: np.ndarray, tiny_file: Path, sessions: Path, open_hand
) -> None:
    path = sidecar.path_of(sidecar.image_key(picture))
    moments = random.Random(11)
    before = 0
    assert 2 * autosave.PAUSE < 1, "handed over within a second and written within another"
    for kill in range(KILLS):
        said = killed(program, kill in REFINING, moments)
        assert said[0]["found"] == before, f"kill {kill}: the window opens on something else"
        kept = sidecar.load(path)
        assert kept is not None
        saved = max(one["saved"] for one in said if "saved" in one)
        assert len(kept.log) >= saved, f"kill {kill}: the file is older than the last saving"
        # Of the last entry the file may have the beginning alone: the stroke was going on.
        sure = [one["pixels"] for one in said if one.get("entries", saved) < saved]
        if kept.log[-1]["action"] == "undo":  # and the redo came too late for the file
            sure.pop()
        fixed = kept.slices[-1, -1].fixed.ravel()
        assert sure
        lost = [pixels for pixels in sure if (fixed[pixels] < 0).any()]
        assert lost == [], f"kill {kill}: saved strokes are lost"
        before = kept.strokes
        broken = [other for other in sessions.glob("*.npz") if sidecar.load(other) is None]
        assert broken == []
        assert len(list(sessions.glob("*.npz"))) == 1
        assert len(list(sessions.glob("*.part"))) <= 1, "parts of files pile up"
    assert any(entry["action"] == "run" for entry in kept.log)
    assert before > 100, "hardly anything was painted"

    starts = [entry["action"] for entry in kept.log if entry["action"] in ("open", "restore")]
    assert starts == ["open", *["restore"] * (KILLS - 1)]
    repeated = Replay(kept.log, kept.shape, picture, Models([tiny_file], None))
    repeated.run()
    assert repeated.deviation is None
    assert differing(repeated, kept) == []

    hand = open_hand(picture, rgb=True)
    hand.wait(lambda: hand.control("go_on").isVisible(), "the offer to go on")
    hand.says("pixels of strokes", "kept")
    hand.click("go_on")
    np.testing.assert_array_equal(hand.fixed, kept.slices[-1, -1].fixed)
