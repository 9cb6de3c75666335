"""A small collection and its random numbers."""

import numpy as np
import pytest
import torch
from PIL import Image
from universal_runs import SIDE

from napari_hidiff.training.universal import crops


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two sets of bright squares on dark ground, several in a picture: where a label is, it is
    bright."""
    root = tmp_path_factory.mktemp("collection")
    rng = np.random.default_rng(0)
    for name, count in (("one", 4), ("two", 3)):
        for part in ("images", "masks"):
            (root / name / part).mkdir(parents=True)
        for i in range(count):
            labels = np.zeros((SIDE, SIDE - 8), np.uint8)
            for k in range(2 + i % 2):
                y, x = rng.integers(2, 20), rng.integers(2, 30)
                labels[y + 20 * k : y + 20 * k + 14, x : x + 14] = k + 1
            image = (rng.integers(0, 40, labels.shape) + 180 * (labels > 0)).astype(np.uint8)
            Image.fromarray(image).save(root / name / "images" / f"{i}.png")
            Image.fromarray(labels).save(root / name / "masks" / f"{i}.png")
    return root


@pytest.fixture
def draws():
    return crops.Draws(torch.Generator().manual_seed(0))
