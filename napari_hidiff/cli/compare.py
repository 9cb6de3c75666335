"""The command ``napari-hidiff compare``: how far two raters agree, and where they do not."""

from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from napari_hidiff.agreement import COLUMNS, PAIR, Agreement, cells, compare, write_agreement
from napari_hidiff.cli.console import JsonOption, log, print_json
from napari_hidiff.errors import InputError
from napari_hidiff.io import registry
from napari_hidiff.io.nifti import stem
from napari_hidiff.surfaces import TOLERANCE


def compare_command(
    first: Annotated[
        Path, typer.Argument(metavar="FIRST", help="A mask of any format, or a folder of masks.")
    ],
    second: Annotated[
        Path,
        typer.Argument(
            metavar="SECOND",
            help="Another mask of the same image, or a folder of such masks, found by their name.",
        ),
    ],
    image: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The image of two masks: napari shows where they disagree."
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0,
            help="Distance at which two outlines still agree: mm, or pixels without a pixel size.",
        ),
    ] = TOLERANCE,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the table as a .csv file.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Compare the masks of two raters: Dice, NSD and surface distance of every class.

    With **--image** napari opens on both masks: *Next disagreement* visits the places, the largest
    first.

    **napari-hidiff compare anna/ ben/ --output agreement.csv**
    """
    if image is not None:
        _open(image, first, second, tolerance)
        return
    rows: list[tuple[tuple[str, ...], Agreement]] = []
    records, notes = [], defaultdict[str, list[Path]](list)
    for one, other in _pairs(first, second):
        labelled = registry.read_labelled(one), registry.read_labelled(other)
        found = compare(*labelled, tolerance, (str(one), str(other)))
        for note in found.notes:
            notes[note].append(one)
        pair = str(one), str(other), *(mask.rater for mask in labelled)
        rows += [((*pair, f"{tolerance:g}"), row) for row in found.rows]
        facts = dict(zip(PAIR, (*pair, tolerance), strict=True))
        places = [place._asdict() for place in found.places]
        classes = [row._asdict() for row in found.rows]
        records.append(facts | {"classes": classes, "places": places})
    for note, files in notes.items():
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        log(f"{files[0]}{more}: {note}")
    if output is not None:
        write_agreement(output, rows)
    if json:
        print_json({"pairs": records})
    elif output is not None:
        print(f"{output}: {len(rows)} rows")
    else:
        print(f"first: {first}, second: {second}")
        several = ["mask"] if len(records) > 1 else []
        table = Table(*several, *COLUMNS, caption=f"NSD at a tolerance of {tolerance:g} (unit)")
        for pair, row in rows:
            table.add_row(*(stem(Path(pair[0])) for _ in several), *cells(row))
        Console().print(table)


def _open(image: Path, first: Path, second: Path, tolerance: float) -> None:
    """Show napari on an image and two masks of it."""
    from napari_hidiff._qt.commands import open_comparison, window_problem

    for path in (image, first, second):
        if not path.exists():
            raise InputError(f"{path}: no such file")
    if problem := window_problem():
        raise InputError(f"{problem}; without --image the table is printed")
    open_comparison(image, (first, second), tolerance)


def _pairs(first: Path, second: Path) -> list[tuple[Path, Path]]:
    """The two files, or those of two folders that have the same name, suffixes aside."""
    for path in (first, second):
        if not path.exists():
            raise InputError(f"{path}: no such file")
    folders = [path for path in (first, second) if path.is_dir() and not registry.kind_of(path)]
    if not folders:
        return [(first, second)]
    if len(folders) == 1:
        raise InputError(f"{folders[0]}: is a folder; compare two files, or two folders")
    mine, theirs = _masks(first), _masks(second)
    alone = sorted(mine.keys() ^ theirs.keys())
    if not mine.keys() & theirs.keys():
        raise InputError(f"{first}: no mask has the name of one in {second}")
    if alone:
        log(f"left out, in one folder only: {', '.join(alone)}")
    return [(mine[name], theirs[name]) for name in sorted(mine.keys() & theirs.keys())]


def _masks(folder: Path) -> dict[str, Path]:
    """The files of a folder that may be masks, by their stem."""
    files = (path for path in folder.iterdir() if path.is_file() and registry.kind_of(path))
    return {stem(path): path for path in sorted(files)}
