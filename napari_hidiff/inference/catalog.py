"""Which models there are (bundled ones, those in the user's folder, files), and how one is loaded.

A card is read from the head of a file, without weights and without torch. Nothing is ever
downloaded, and a file that could run code (a pickle) is refused by its first bytes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_hidiff.errors import InputError, first_line
from napari_hidiff.inference.card import Card
from napari_hidiff.io.storage import atomic_write, sha256, user_folder

if TYPE_CHECKING:
    import torch

    from napari_hidiff.inference.model import HiDiff

MODELS = Path(str(files("napari_hidiff"))) / "models"
SUFFIX = ".safetensors"
VARIABLE = "NAPARI_HIDIFF_MODELS"
"""Environment variable: the folder of the user's models."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,79}")
PICKLES = frozenset({".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib"})
STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""The first bytes of archives of torch.save, and of pickles."""


@dataclass(frozen=True)
class Entry:
    """One model of the catalog.

    name : for ``--model``; path : its file; kind : ``bundled``, ``yours`` or ``file``.
    card : None for a file that cannot be used; ``problem`` is then the reason.
    size : of the file, bytes.
    """

    name: str
    path: Path
    kind: str
    card: Card | None
    problem: str | None
    size: int


def folder() -> Path:
    """The folder of the user's models: ``$NAPARI_HIDIFF_MODELS``, else beside the sessions."""
    return user_folder(VARIABLE, "models")


def available_models() -> list[str]:
    """Names of the bundled models, then those of the user's folder, each sorted."""
    return [*_bundled(), *_own()]


def find_model(name: str | Path) -> Path:
    """The file of a model: bundled, in the user's folder, or itself a file.

    Raises
    ------
    InputError : there is no such model.
    """
    path = (_own() | _bundled()).get(str(name), Path(name))
    if not path.is_file():
        bundled, own = ", ".join(_bundled()) or "none", ", ".join(_own())
        known = f"bundled: {bundled}" + (f"; yours: {own}" if own else "")
        raise InputError(
            f"no model {str(name)!r}: neither a file nor bundled nor in {folder()} ({known})"
        )
    return path


def entries() -> Iterator[Entry]:
    """All models by name, the bundled ones first, unusable files included."""
    for kind, found in (("bundled", _bundled()), ("yours", _own())):
        for name, path in found.items():
            yield _entry(name, path, kind)


def entry(name: str | Path) -> Entry:
    """One model by name or file; InputError if there is none."""
    path, name = find_model(name), str(name)
    kind = "bundled" if name in _bundled() else "yours" if name in _own() else "file"
    return _entry(name, path, kind)


def read_card(path: Path) -> Card:
    """The card of a model file, from its head alone.

    Raises
    ------
    InputError : a pickle, a file that cannot be read or is cut off, or one without a card.
    """
    from safetensors import SafetensorError, safe_open

    refuse_pickle(path)
    try:
        with safe_open(path, "np") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a readable model file ({first_line(error)})") from error
    if "card" not in metadata:
        raise InputError(f"{path} holds weights but no card; it is not a model of napari-hidiff")
    return Card.from_json(metadata["card"])


def refuse_pickle(path: Path) -> None:
    """InputError for a pickle, by content or suffix: reading one can run code."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise InputError(f"{path} is not a readable model file ({first_line(error)})") from error
    if path.suffix.lower() in PICKLES or start.startswith(STARTS):
        raise InputError(
            f"{path} is a pickle, which can run code when it is read; a model is a {SUFFIX} file "
            "as napari-hidiff-train writes it"
        )


def add(file: Path, name: str | None = None, overwrite: bool = False) -> Entry:
    """Copy a model file into the user's folder, after a check that its weights fit its card.

    name : of the copy; None = the file stem, or the card's name for ``model.safetensors``.

    Raises
    ------
    InputError : a pickle, a broken file, weights that do not fit, a name that is invalid, of a
        bundled model, or taken (unless ``overwrite``), a full disk.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file")
    card = read_card(file)
    name = label(file, card) if name is None else name
    if not NAME.fullmatch(name) or name != name.strip():
        raise InputError(f"{name!r} cannot be a name: use letters, digits, '.', '_', '-', spaces")
    if name in _bundled():
        raise InputError(f"{name} is the name of a bundled model, which stays as it is")
    target = folder() / f"{name}{SUFFIX}"
    if target.exists() and target.samefile(file):
        raise InputError(f"{file} is in your folder of models already")
    if target.exists() and not overwrite:
        raise InputError(f"{name}: you have a model of this name; choose another one or overwrite")

    load_model(file, "cpu", "torch")  # finds weights that do not fit
    with atomic_write(target) as (part,):
        target.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(file.read_bytes())
    return _entry(name, target, "yours")


def remove(name: str) -> Path:
    """Delete a model of the user's folder and return its path; InputError for any other."""
    if name in _bundled():
        raise InputError(f"{name} is bundled; only models of yours can be removed")
    path = _own().get(name)
    if path is None:
        raise InputError(f"no model {name!r} in {folder()}")
    try:
        path.unlink()
    except OSError as error:
        raise InputError(f"{path} cannot be removed ({error.strerror or error})") from error
    return path


def label(path: Path, card: Card) -> str:
    """The name of a file's model: the stem, or the card's name for ``model.safetensors``."""
    return card.name if path.stem == "model" else path.stem


def root_name(path: Path, card: Card) -> str:
    """The name of the model at the root of a chain of fine-tunings, else the model's own."""
    return str(card.training.get("from", {}).get("root") or label(path, card))


def free_name(wanted: str) -> str:
    """``wanted-1``, or with the next free number."""
    taken, number = set(available_models()), 1
    while f"{wanted}-{number}" in taken:
        number += 1
    return f"{wanted}-{number}"


def _bundled() -> dict[str, Path]:
    return {path.stem: path for path in sorted(MODELS.glob(f"*{SUFFIX}"))}


def _own() -> dict[str, Path]:
    """Models in the user's folder; names of bundled models are ignored."""
    try:
        paths = sorted(folder().glob(f"*{SUFFIX}"))
    except OSError:
        return {}
    bundled = _bundled()
    return {p.stem: p for p in paths if p.stem not in bundled and not p.name.startswith(".")}


def _entry(name: str, path: Path, kind: str) -> Entry:
    card, problem = None, None
    try:
        card = read_card(path)
    except InputError as error:
        problem = str(error)
    try:
        size = path.stat().st_size
    except OSError:
        size = 0
    return Entry(name, path, kind, card, problem, size)


def load_model(
    name: str | Path, device: str = "auto", engine: str = "auto", prepare: bool = True
) -> "HiDiff":
    """A model by its name (bundled, or of the user's folder), or a model file.

    device : ``auto`` (CUDA or MPS if available, else the CPU) or a torch device name.
    engine : ``packed`` (binary kernels on the CPU), ``torch``, or ``auto``: packed if possible.
    prepare : compile the packed kernels now: seconds, once on a machine about ten. Without it
        torch runs until ``model.backend.prepare()`` was called, in a thread for example.

    Raises
    ------
    InputError : no such model, a file that is broken or no model, an unknown device or engine.
    """
    path = find_model(name)
    refuse_pickle(path)
    # Loading torch takes seconds: what is missing is said before.
    from napari_hidiff.inference import weights
    from napari_hidiff.inference.model import HiDiff, networks

    where = find_device(device)
    stored = weights.read(path)
    try:
        segmentor, refiner = networks(stored.card)
        stored.fill({"segmentor": segmentor, "refiner": refiner})
        model = HiDiff(stored.card, segmentor, refiner, where, engine)
    except InputError:
        raise
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"{path}: its card cannot be used ({first_line(error)})") from error
    model.file, model.digest = path.name, digest_of(path)
    if prepare:
        model.backend.prepare()
    return model


def digest_of(path: Path) -> str:
    """A digest of a model file: 32 hexadecimal digits."""
    return sha256(path)[:32]


def find_device(name: str) -> "torch.device":
    """The device of a name; ``auto`` is CUDA or MPS if available, else the CPU.

    InputError if torch cannot use it.
    """
    import torch

    if name != "auto":
        try:
            device = torch.device(name)
            torch.zeros(1, device=device)
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"the device {name!r} cannot be used ({first_line(error)})") from error
        return device
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def export_file(name: str, target: Path, overwrite: bool = False) -> dict[str, Any]:
    """Export a model (bundled, or a file) with its binary weights as bits.

    Returns a record: path of the ``model``, of the ``file``, and the ``bytes`` of both.

    Raises
    ------
    InputError : no such model, no binary layers, or a target that cannot be written: another
        suffix, the model itself, or a file that exists (unless ``overwrite``).
    """
    source = find_model(name)
    if target.suffix != SUFFIX:
        raise InputError(f"{target}: a model file ends in {SUFFIX}")
    if target.exists():
        if target.samefile(source):
            raise InputError(f"{target}: is the model itself, which training would still need")
        if not overwrite:
            raise InputError(f"{target}: exists already; --overwrite replaces it")
    before = source.stat().st_size
    load_model(source, "cpu", "torch").save(target, export=True)
    sizes = {"model": before, "file": target.stat().st_size}
    return {"model": str(source), "file": str(target), "bytes": sizes}
