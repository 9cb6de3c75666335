"""Priors for training the refiner: with the errors of unseen images, and with corrections.

A segmentor has fitted its training images; its priors there would teach a refiner to do nothing.
Errors come from segmentors that never saw the image (out of fold), from damage added here
(:func:`corrupt`), and from outside (:class:`PriorSource`): a folder of masks as nnU-Net or
TotalSegmentator writes them, or a network as TorchScript. Corrections come from
:mod:`napari_hidiff.training.simulated_annotator`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from scipy import ndimage

from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.preprocessing import soften
from napari_hidiff.io.images import IMAGES, read_labels
from napari_hidiff.io.nifti import SUFFIXES as NIFTI
from napari_hidiff.io.nifti import is_nifti
from napari_hidiff.io.registry import read
from napari_hidiff.networks.refiner import probabilities
from napari_hidiff.networks.segmentor import one_line, pad_to_multiple, unpad
from napari_hidiff.training.simulated_annotator import Rng

ARRAYS = (".npy", ".npz")
MASKS = (".png", ".tif", ".tiff", ".dcm", *NIFTI, *ARRAYS)
"""Suffixes of the files in a folder of masks."""
NETWORKS = (".pt", ".ts")
NNUNET = "probabilities"
"""Key under which nnU-Net stores its softmax in an npz file."""


def corrupt(prior: np.ndarray, rng: Rng) -> np.ndarray:
    """Add one to three kinds of error inside smooth random regions.

    prior : float32 [K, H, W] in [0, 1]; returns the same.
    """
    kinds = rng.permutation(len(DAMAGE))[: rng.integers(1, 4)]
    for kind in kinds:
        region = _region(prior.shape[1:], rng)
        prior = prior + region * (DAMAGE[kind](prior, rng) - prior)
    return prior.clip(0, 1).astype(np.float32)


def _missed(prior: np.ndarray, rng: Rng) -> np.ndarray:
    """Missed structures: the background gets nearly all the probability."""
    rest = prior * rng.uniform(0.02, 0.3)
    if len(prior) > 1:
        rest[0] = 1 - rest[1:].sum(0)
    return rest


def _invented(prior: np.ndarray, rng: Rng) -> np.ndarray:
    """Invented structures, from another place of the image."""
    height, width = prior.shape[1:]
    moved = np.roll(prior, (rng.integers(height), rng.integers(width)), (1, 2))
    return np.maximum(prior, moved) if len(prior) == 1 else moved


def _thickened(prior: np.ndarray, rng: Rng) -> np.ndarray:
    """Borders too far outside."""
    size = int(rng.choice([3, 5, 7]))
    return _normalised(ndimage.maximum_filter(prior, (1, size, size)))


def _thinned(prior: np.ndarray, rng: Rng) -> np.ndarray:
    """Borders too far inside; thin parts vanish."""
    size = int(rng.choice([2, 3]))
    return _normalised(ndimage.minimum_filter(prior, (1, size, size)))


def _vague(prior: np.ndarray, rng: Rng) -> np.ndarray:
    """Blurred and less certain."""
    sigma = rng.uniform(1, 4)
    blurred = ndimage.gaussian_filter(prior, (0, sigma, sigma))
    uniform = 1 / max(2, len(prior))
    array: np.ndarray = uniform + rng.uniform(0.3, 0.9) * (blurred - uniform)
    return array


DAMAGE = (_missed, _missed, _invented, _thickened, _thinned, _vague)


def _normalised(prior: np.ndarray) -> np.ndarray:
    """Class probabilities, normalised to sum 1 (K > 1)."""
    return prior if len(prior) == 1 else prior / prior.sum(0).clip(1e-6)


def _region(shape: tuple[int, ...], rng: Rng) -> np.ndarray:
    """A smooth random region, 1 inside, 0 outside, that covers 5 to 40 % of the image."""
    coarse = rng.normal(size=tuple(max(2, side // 16) for side in shape))
    coarse = ndimage.gaussian_filter(coarse, rng.uniform(0.6, 2))
    zoom = [side / small for side, small in zip(shape, coarse.shape, strict=True)]
    field = ndimage.zoom(coarse, zoom, order=1, grid_mode=True, mode="nearest")
    array: np.ndarray = (field > np.quantile(field, 1 - rng.uniform(0.05, 0.4))).astype(np.float32)
    return array


class PriorSource(Protocol):
    """A source of priors for cases."""

    def prior(self, case_id: str, image: np.ndarray) -> np.ndarray:
        """The prior float32 [D, K, H, W] in [0, 1] of a case.

        image : float32 [D, C, H, W], normalised; D = 1 for a picture.
        InputError names the file that is missing or does not fit.
        """


def open_prior_source(path: Path, card: Card, device: torch.device | str = "cpu") -> PriorSource:
    """A folder of masks (:class:`MaskFolder`) or a TorchScript file (:class:`ScriptedSegmentor`).

    InputError: ``path`` is neither, or the file holds no TorchScript.
    """
    path = Path(path)
    if path.is_dir():
        if not any(file.name.lower().endswith(MASKS) for file in path.rglob("*")):
            raise InputError(f"{path}: holds no masks; wanted are files of {', '.join(MASKS)}")
        return MaskFolder(path, card)
    if not path.is_file() or path.suffix.lower() not in NETWORKS:
        raise InputError(
            f"{path}: wanted is a folder of masks, or a TorchScript file ({' or '.join(NETWORKS)})"
        )
    try:
        network = torch.jit.load(path, map_location=device)
    except Exception as error:  # other formats raise many kinds
        raise InputError(
            f"{path}: is not TorchScript, as torch.jit.trace(network, image).save(file) writes it "
            f"({one_line(error)})"
        ) from error
    return ScriptedSegmentor(path, card, network.eval(), torch.device(device))


@dataclass(frozen=True)
class MaskFolder:
    """One file per case, ``<case id>`` and a suffix of ``MASKS``; a ``/`` in an id is a folder.

    Labels 0..labels-1 (one foreground class: also 0 and 255 in png and tif) are softened by the
    card's rule, a volume slice by slice. An npy or npz file of floats has probabilities [K, H, W]
    or [K, D, H, W], used unchanged; in an npz file the only array counts, or nnU-Net's. NIfTI and
    DICOM segmentations are read in canonical orientation like images; arrays have no orientation
    and must have the axes [Z, Y, X] of the image.
    """

    path: Path
    card: Card

    def prior(self, case_id: str, image: np.ndarray) -> np.ndarray:
        """See :class:`PriorSource`."""
        file = self._file(case_id)
        size = (image.shape[0], *image.shape[2:])
        stored = self._read(file)
        if stored.dtype.kind == "f":
            return self._as_probabilities(file, stored, size)
        mask = stored[None] if stored.ndim == 2 else stored
        if mask.shape != size:
            raise InputError(f"{file}: {_size(mask.shape)} pixels, but the image has {_size(size)}")
        labels = len(self.card.classes)
        if mask.min() < 0 or mask.max() >= labels:
            unknown = mask.max() if mask.max() >= labels else mask.min()
            raise InputError(f"{file}: unknown label {unknown}; known are 0 to {labels - 1}")
        return np.stack([soften(m, self.card.outputs, **self.card.soften) for m in mask])

    def _file(self, case_id: str) -> Path:
        found = [file for s in MASKS if (file := self.path / f"{case_id}{s}").is_file()]
        if not found:
            raise InputError(
                f"{self.path / case_id}: no mask of this case; wanted is one of {', '.join(MASKS)}"
            )
        if len(found) > 1:
            names = " and ".join(file.name for file in found)
            raise InputError(f"{found[0]}: {names} are both there; keep one")
        return found[0]

    def _read(self, file: Path) -> np.ndarray:
        """Whole numbers [H, W] or [D, H, W], or probabilities in a floating dtype."""
        if file.suffix.lower() in IMAGES:
            return read_labels(file, len(self.card.classes))
        if not is_nifti(file) and file.suffix.lower() != ".dcm":
            return _read_array(file)
        mask = read(file).array
        if mask.ndim != 3 or (mask.dtype.kind == "f" and not (mask % 1 == 0).all()):
            raise InputError(f"{file}: a mask has one whole class number per voxel")
        return mask.astype(np.int64)

    def _as_probabilities(
        self, file: Path, stored: np.ndarray, size: tuple[int, ...]
    ) -> np.ndarray:
        channels, depth = self.card.outputs, size[0]
        values = stored[:, None] if stored.ndim == 3 and depth == 1 else stored
        if values.shape != (channels, *size):
            raise InputError(
                f"{file}: probabilities of shape {stored.shape}; the image needs "
                f"{(channels, *size)}: {channels} channel{'s' * (channels > 1)}, then its pixels"
            )
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise InputError(f"{file}: probabilities lie between 0 and 1")
        return np.ascontiguousarray(values.swapaxes(0, 1), dtype=np.float32)


@dataclass(frozen=True)
class ScriptedSegmentor:
    """A network that maps a normalised image float32 [B, C, H, W] to logits [B, K, H, W].

    The first of several outputs counts. Slices are computed one by one, padded evenly to multiples
    of 32.
    """

    path: Path
    card: Card
    network: torch.nn.Module
    device: torch.device

    def prior(self, case_id: str, image: np.ndarray) -> np.ndarray:
        """See :class:`PriorSource`."""
        with torch.inference_mode():
            return np.stack([self._plane(case_id, plane) for plane in image])

    def _plane(self, case_id: str, plane: np.ndarray) -> np.ndarray:
        tensor = torch.from_numpy(np.ascontiguousarray(plane, dtype=np.float32))[None]
        padded = pad_to_multiple(tensor.to(self.device))
        try:
            output: Any = self.network(padded)
        except Exception as error:  # the interpreter's own kinds, with its traceback as the text
            reason = str(error).strip().splitlines()[-1]
            raise InputError(
                f"{self.path}: fails on case {case_id}, an image {tuple(padded.shape)}: {reason}"
            ) from error
        logits = output[0] if isinstance(output, tuple | list) else output
        wanted = (1, self.card.outputs, *padded.shape[2:])
        if not isinstance(logits, torch.Tensor) or tuple(logits.shape) != wanted:
            shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits)
            raise InputError(f"{self.path}: gives {shape} for case {case_id}; wanted {wanted}")
        if not logits.isfinite().all():
            raise InputError(f"{self.path}: gives NaN or infinite logits for case {case_id}")
        return unpad(probabilities(logits.float())[0], *plane.shape[1:]).cpu().numpy()


def _read_array(file: Path) -> np.ndarray:
    """The array of an npy or npz file; InputError if it is ambiguous or unreadable."""
    try:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            stored = loaded
        else:
            with loaded:
                keys = list(loaded.keys())
                if NNUNET not in keys and len(keys) != 1:
                    raise InputError(
                        f"{file}: holds {', '.join(keys) or 'no array'}; wanted is one array, or "
                        f"one named {NNUNET}"
                    )
                stored = loaded[NNUNET if NNUNET in keys else keys[0]]
    except InputError:
        raise
    except Exception as error:  # numpy, zipfile and zlib raise many kinds for damaged bytes
        raise InputError(f"{file}: cannot be read as an array ({one_line(error)})") from error
    if stored.dtype.kind not in "buif" or stored.ndim not in (2, 3, 4) or stored.size == 0:
        raise InputError(
            f"{file}: holds {stored.dtype} {stored.shape}; wanted labels [H, W] or "
            "[D, H, W], or probabilities with the classes first"
        )
    return stored.astype(np.uint8) if stored.dtype.kind == "b" else stored


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
