"""The export of a model file: the same values in a smaller file, for inference only."""

from pathlib import Path
from typing import Any

from napari_hidiff.errors import InputError
from napari_hidiff.inference.loading import find_model, load_model

SUFFIX = ".safetensors"


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
