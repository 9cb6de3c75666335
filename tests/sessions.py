"""Sessions as the window makes them, without a window: strokes, runs, an undo, all of it logged."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_hidiff.annotation import refinement, sidecar
from napari_hidiff.annotation.annotation import Annotation
from napari_hidiff.annotation.constraints import Guards
from napari_hidiff.annotation.refinement import Settings
from napari_hidiff.annotation.suggestions import random_walk
from napari_hidiff.cli import app
from napari_hidiff.masks import slicer

SETTINGS = Settings("ddim", steps=2, samples=2, seed=4, certain=False, firm=True)


def record(model, stack, image, index=(-1, -1), walk=False, scale=1.0) -> tuple[Path, np.ndarray]:
    """A session of a slice with strokes, two runs and an undo: its sidecar and its whole mask.

    image : the array that the window knows the session by. walk : let the strokes grow at last.
    scale : by which the slice is resampled.
    """
    mask = np.zeros(stack.shape, np.uint8)
    plane = mask[slicer(index)]
    annotation = Annotation(mask.shape)
    annotation.begin(channels=int(stack.channels == "first"))
    slice_ = annotation.session(index, plane)
    settings = replace(SETTINGS, scale=scale)
    slice_.prior = refinement.segment(model, stack, index, None, scale)
    annotation.journal.segment(index, model, scale=scale)
    plane[...] = annotation.around_fixed(index, slice_.prior.mask)
    annotation.wrote(index, mask, what="prior")
    for row in (10, 30):
        plane[row : row + 5, 10:60] = 1
        annotation.changed(mask, painted=True)
        run = slice_.start(2, 2, Guards(near=3, margin=0.1))
        entry = annotation.begin_run(index, model, settings, run.guards)
        how = settings.sampling
        for step in refinement.steps(model, stack, index, slice_.prior.given, run, how):
            slice_.add_step(step.mask, step.probability)
            entry.took(step.index, step.engine)
        plane[...] = annotation.around_fixed(index, slice_.view(2))
        annotation.wrote(index, mask, 2)
    slice_.timeline.travel(-1)
    plane[...] = slice_.timeline.content
    annotation.journal.undo(index, -1)
    if walk:
        plane[12, 10:20] = 0  # the background has to be painted too
        annotation.changed(mask, painted=True)
        annotation.journal.walker(index, **stack.facts)
        grown = random_walk(np.array(stack.plane(index)), slice_.timeline.fixed)
        plane[...] = annotation.around_fixed(index, grown)
        annotation.wrote(index, mask, what="walker")
    slice_.accept()
    annotation.journal.accept(index, {})
    key = sidecar.image_key(image)
    path = sidecar.path_of(key)
    sidecar.save(path, mask.shape, annotation.records(), annotation.log, key)
    return path, mask


def replay(monkeypatch, capsys, *arguments) -> tuple[int, str, str]:
    """Exit status, stdout, stderr of ``napari-hidiff replay``."""
    monkeypatch.setattr(sys, "argv", ["napari-hidiff", "replay", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        app.main()
    return left.value.code, *capsys.readouterr()
