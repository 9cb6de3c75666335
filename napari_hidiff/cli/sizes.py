"""The command ``napari-hidiff sizes``: how large what masks show is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from napari_hidiff.cli.console import JsonOption, print_json
from napari_hidiff.errors import InputError
from napari_hidiff.io import registry
from napari_hidiff.sizes import COLUMNS, cells, sizes_of, write_sizes


def sizes_command(
    masks: Annotated[
        list[Path],
        typer.Argument(
            metavar="MASK...",
            help="Masks of any format that is written here, or folders of such files by their "
            "name: NAME_mask, NAME_seg, NAME_label.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the table as a .csv file.")
    ] = None,
    classes: Annotated[
        bool, typer.Option("--classes", help="Classes alone, without the objects of each.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Print the sizes of classes and objects in masks: mm2 in pictures, ml in volumes.

    An object is a connected part of a class. Without a pixel spacing in the file only pixels are
    counted.

    **napari-hidiff sizes masks/ --output sizes.csv**
    """
    rows = []
    for path in _files(masks):
        labelled = registry.read_labelled(path)
        try:
            found = sizes_of(*labelled[:3])
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        rows += [(str(path), size) for size in found if size.object is None or not classes]
    if output is not None:
        write_sizes(output, rows)
    if json:
        print_json({"sizes": [{"file": name, **size._asdict()} for name, size in rows]})
    elif output is not None:
        print(f"{output}: {len(rows)} rows")
    else:
        table = Table("file", *COLUMNS)
        for name, size in rows:
            table.add_row(name, *cells(size))
        Console().print(table)


def _files(paths: list[Path]) -> Iterator[Path]:
    """The masks of arguments: files, folders of files named as masks, and DICOM folders."""
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file")
        if path.is_file():
            yield path
            continue
        inside = [
            file
            for file in sorted(path.iterdir())
            if file.is_file() and registry.is_named_mask(file) and registry.kind_of(file)
        ]
        if not inside and registry.kind_of(path) == "dicom":
            inside = [path]
        if not inside:
            raise InputError(f"{path}: no file in this folder is named as a mask (NAME_mask)")
        yield from inside
