"""A program that ends with the window open: nothing on stderr, and the last stroke is kept."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_hidiff import sidecar

SCRIPT = Path(__file__).parent / "ending_session.py"


@pytest.mark.parametrize("during", ["nothing", "a run"])
def test_an_open_window_ends_with_its_program(picture, tiny_file, tmp_path, during) -> None:
    np.save(tmp_path / "image.npy", picture)
    models = [tiny_file] if during == "a run" else []
    command = [sys.executable, SCRIPT, tmp_path / "image.npy", *models]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for sign in ("Traceback", "Error", "already deleted"):
        assert sign not in done.stderr, done.stderr
    kept = sidecar.load(sidecar.path_of(sidecar.image_key(picture)))
    assert kept is not None
    assert kept.strokes == int(done.stdout.splitlines()[-1]) > 0
