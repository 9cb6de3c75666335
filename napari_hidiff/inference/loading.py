"""From a name or a file to a model; a file is weights and a card and can run no code."""

import hashlib
from pathlib import Path

import torch

from napari_hidiff.errors import InputError
from napari_hidiff.inference import weights
from napari_hidiff.inference.catalog import MODELS, available_models, find_model, refuse_pickle
from napari_hidiff.inference.model import HiDiff, networks

__all__ = ["MODELS", "available_models", "find_device", "find_model", "load_model"]


def load_model(
    name: str | Path, device: str = "auto", engine: str = "auto", prepare: bool = True
) -> HiDiff:
    """A model by its name (bundled, or of the user's folder), or a model file.

    device : ``auto`` (CUDA or MPS where there is one, else the CPU) or a torch device name.
    engine : ``packed`` (binary kernels on the CPU), ``torch``, or ``auto``: packed where it can.
    prepare : compile the packed kernels now: seconds, once on a machine about ten. Without it
        torch runs until ``model.runs.prepare()`` was called, in a thread for example.

    Raises
    ------
    InputError : no such model, a file that is broken or no model, an unknown device or engine.
    """
    path = find_model(name)
    refuse_pickle(path)
    where = find_device(device)
    stored = weights.read(path)
    segmentor, refiner = networks(stored.card)
    stored.fill({"segmentor": segmentor, "refiner": refiner})
    model = HiDiff(stored.card, segmentor, refiner, where, engine)
    model.file, model.digest = path.name, digest_of(path)
    if prepare:
        model.runs.prepare()
    return model


def digest_of(path: Path) -> str:
    """32 hexadecimal digits for the content of a model file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def find_device(name: str) -> torch.device:
    """The device of a name; ``auto`` takes CUDA or MPS where there is one, else the CPU."""
    if name != "auto":
        try:
            device = torch.device(name)
            torch.zeros(1, device=device)
        except (RuntimeError, AssertionError) as error:
            line = str(error).splitlines()[0]
            raise InputError(f"the device {name!r} cannot be used ({line})") from error
        return device
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
