"""Programs that end with the window open: nothing on stderr, and the last stroke is kept."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from napari_hidiff.annotation import sidecar

SCRIPT = Path(__file__).parent / "ending_session.py"


def test_an_open_window_ends_with_its_program_also_during_a_run(
    picture, tiny_file, tmp_path
) -> None:
    images = {tmp_path / "image.npy": picture, tmp_path / "other.npy": picture[::-1]}
    for path, image in images.items():
        np.save(path, image)
    command = [sys.executable, SCRIPT, tiny_file, *images]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for sign in ("Traceback", "Error", "already deleted"):
        assert sign not in done.stderr, done.stderr
    facts = [int(line) for line in done.stdout.split()]
    strokes, ends = facts[::2], facts[1::2]
    assert ends == [0, 0], done.stderr
    for image, fixed in zip(images.values(), strokes, strict=True):
        kept = sidecar.load(sidecar.path_of(sidecar.image_key(image)))
        assert kept is not None
        assert kept.strokes == fixed > 0
