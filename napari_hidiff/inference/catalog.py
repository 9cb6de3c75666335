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
"""Name of the environment variable that says where the user's models are kept."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,79}")
PICKLES = frozenset({".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib"})
STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""How archives of torch.save, and pickles, begin."""


@dataclass(frozen=True)
class Entry:
    """One model that can be chosen.

    name : what ``--model`` takes; path : its file; kind : ``bundled``, ``yours`` or ``file``.
    card : None where the file cannot be used, and then ``problem`` says why.
    size : of the file, bytes.
    """

    name: str
    path: Path
    kind: str
    card: Card | None
    problem: str | None
    size: int


def folder() -> Path:
    """Where the user's models are: ``$NAPARI_HIDIFF_MODELS``, else beside the sessions."""
    return user_folder(VARIABLE, "models")


def available_models() -> list[str]:
    """Names of the bundled models, then those of the user's folder, each sorted."""
    return [*_bundled(), *_own()]


def find_model(name: str | Path) -> Path:
    """The file of a bundled model, of one in the user's folder, or a file itself.

    Raises
    ------
    InputError : there is none of these.
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
    """Every model by name, the bundled ones first; files that cannot be used are among them."""
    for kind, found in (("bundled", _bundled()), ("yours", _own())):
        for name, path in found.items():
            yield _entry(name, path, kind)


def entry(name: str | Path) -> Entry:
    """One model by name or file; InputError where there is none."""
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
        raise InputError(f"{path} is not a readable model file ({error})") from error
    if "card" not in metadata:
        raise InputError(f"{path} holds weights but no card; it is not a model of napari-hidiff")
    return Card.from_json(metadata["card"])


def refuse_pickle(path: Path) -> None:
    """InputError for a file that is, or calls itself, a pickle: reading one can run code."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise InputError(f"{path} is not a readable model file ({error})") from error
    if path.suffix.lower() in PICKLES or start.startswith(STARTS):
        raise InputError(
            f"{path} is a pickle, which can run code when it is read; a model is a {SUFFIX} file "
            "as napari-hidiff-train writes it"
        )


def add(file: Path, name: str | None = None, overwrite: bool = False) -> Entry:
    """Copy a model file into the user's folder, once its weights were found to fit its card.

    name : what it will be called; None = the file's name, or the card's where the file is just
    ``model.safetensors``.

    Raises
    ------
    InputError : a pickle, a broken file, weights that do not fit, a name that cannot be one, that
        a bundled model has, or that is taken (unless ``overwrite``), a folder without room.
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

    load_model(file, "cpu", "torch")  # weights that do not fit are found here, not in use
    with atomic_write(target) as (part,):
        target.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(file.read_bytes())
    return _entry(name, target, "yours")


def remove(name: str) -> Path:
    """Delete a model of the user's folder and return where it was; InputError for any other."""
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
    """What to call the model of a file: its stem, unless it is what every run's file is called."""
    return card.name if path.stem == "model" else path.stem


def root_name(path: Path, card: Card) -> str:
    """The model that a model was first tuned from, else its own name."""
    return str(card.training.get("from", {}).get("root") or label(path, card))


def free_name(wanted: str) -> str:
    """``wanted-1``, or with the next number that no model has."""
    taken, number = set(available_models()), 1
    while f"{wanted}-{number}" in taken:
        number += 1
    return f"{wanted}-{number}"


def _bundled() -> dict[str, Path]:
    return {path.stem: path for path in sorted(MODELS.glob(f"*{SUFFIX}"))}


def _own() -> dict[str, Path]:
    """Models in the user's folder; one with the name of a bundled one is not seen."""
    try:
        found = sorted(folder().glob(f"*{SUFFIX}"))
    except OSError:
        return {}
    bundled = _bundled()
    return {p.stem: p for p in found if p.stem not in bundled and not p.name.startswith(".")}


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

    device : ``auto`` (CUDA or MPS where there is one, else the CPU) or a torch device name.
    engine : ``packed`` (binary kernels on the CPU), ``torch``, or ``auto``: packed where it can.
    prepare : compile the packed kernels now: seconds, once on a machine about ten. Without it
        torch runs until ``model.backend.prepare()`` was called, in a thread for example.

    Raises
    ------
    InputError : no such model, a file that is broken or no model, an unknown device or engine.
    """
    from napari_hidiff.inference import weights
    from napari_hidiff.inference.model import HiDiff, networks

    path = find_model(name)
    refuse_pickle(path)
    where = find_device(device)
    stored = weights.read(path)
    segmentor, refiner = networks(stored.card)
    stored.fill({"segmentor": segmentor, "refiner": refiner})
    model = HiDiff(stored.card, segmentor, refiner, where, engine)
    model.file, model.digest = path.name, digest_of(path)
    if prepare:
        model.backend.prepare()
    return model


def digest_of(path: Path) -> str:
    """32 hexadecimal digits for the content of a model file."""
    return sha256(path)[:32]


def find_device(name: str) -> "torch.device":
    """The device of a name; ``auto`` takes CUDA or MPS where there is one, else the CPU.

    InputError where torch cannot use it.
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
    """Write a bundled model, or that of a file, with its binary weights as bits.

    Returns a record: path of the ``model``, of the ``file``, and the ``bytes`` of both.

    Raises
    ------
    InputError : no such model, none with binary layers, or a target that cannot be written:
        another suffix, the model itself, or a file that exists (unless ``overwrite``).
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
