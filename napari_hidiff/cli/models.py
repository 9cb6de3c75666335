"""The command ``napari-hidiff models``: which models there are, what their cards say."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from napari_hidiff.cli.console import JsonOption, answer, new_app, print_json
from napari_hidiff.errors import InputError

if TYPE_CHECKING:
    from napari_hidiff.inference.catalog import Entry

models_app = new_app(invoke_without_command=True)


@models_app.callback()
def models_command(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the bundled models and your own.

    Your models are .safetensors files in the folder that $NAPARI_HIDIFF_MODELS names, else in
    napari-hidiff/models in your application data. Nothing is downloaded.

    **napari-hidiff models show chase-vessels**

    **napari-hidiff models add runs/mine/model.safetensors --name mine**
    """
    if context.invoked_subcommand is not None:
        return
    from napari_hidiff.inference import catalog
    from napari_hidiff.inference.card import file_size

    found = list(catalog.entries())
    if as_json:
        print_json({"folder": str(catalog.folder()), "models": [_record(one) for one in found]})
        return
    table = Table()
    for column in ("name", "from", "finds", "channels", "licence", "size"):
        table.add_column(column, no_wrap=column in ("name", "size"))
    for one in found:
        if one.card is None:
            table.add_row(one.name, one.kind, f"cannot be used: {one.problem}", "", "", "")
        else:
            classes = ", ".join(label.name for label in one.card.classes[1:])
            channels, terms = ", ".join(one.card.channels), one.card.licence
            table.add_row(one.name, one.kind, classes, channels, terms, file_size(one.size))
    console = Console()
    console.print(table)
    console.print(f"yours are in {catalog.folder()}", highlight=False, soft_wrap=True)


@models_app.command("show")
def show_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model by name, or a file.")],
    as_json: JsonOption = False,
) -> None:
    """Print the card of a model: classes, expected images, training data, licence, scores."""
    from rich.markup import escape

    from napari_hidiff.inference import catalog
    from napari_hidiff.inference.card import card_rows, card_scores, file_size

    one = catalog.entry(name)
    if one.card is None:
        raise InputError(one.problem or f"{name} cannot be used")
    if as_json:
        print_json(_record(one) | {"card": dataclasses.asdict(one.card)})
        return
    console = Console()
    console.print(f"[bold]{escape(one.name)}[/bold] ({one.kind}, {file_size(one.size)})")
    console.print(str(one.path), highlight=False, markup=False, soft_wrap=True)
    lines = Table.grid(padding=(0, 2))
    for value, label in enumerate(one.card.classes):
        if value:
            swatch = f"[{label.color}]■[/] {escape(label.name)} ({label.color}, label {value})"
            lines.add_row("Class", swatch)
    for heading, text in card_rows(one.card):
        lines.add_row(heading, escape(text))
    console.print(lines)
    about, rows = card_scores(one.card)
    if rows:
        table = Table(*rows[0], title=about, title_justify="left")
        for row in rows[1:]:
            table.add_row(*row)
        console.print(table)
    else:
        console.print("No scores were measured.")


@models_app.command("add")
def add_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .safetensors model file.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the model (default: that of the file or card).")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a model of yours of the same name.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check a model file and copy it into your folder; pickles are refused."""
    from napari_hidiff.inference import catalog

    one = catalog.add(file, name, overwrite)
    answer(_record(one), f"{one.name}: {one.path}", as_json)


@models_app.command("remove")
def remove_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model of yours.")],
    as_json: JsonOption = False,
) -> None:
    """Delete one of your models; bundled models cannot be deleted."""
    from napari_hidiff.inference import catalog

    path = catalog.remove(name)
    answer({"removed": str(path)}, f"removed {path}", as_json)


def _record(one: "Entry") -> dict[str, Any]:
    known: dict[str, Any] = {}
    if one.card is not None:
        known = {
            "classes": [label.name for label in one.card.classes],
            "channels": list(one.card.channels),
            "licence": one.card.licence,
            "summary": one.card.summary,
        }
    where = {"name": one.name, "kind": one.kind, "path": str(one.path), "bytes": one.size}
    return where | {"problem": one.problem} | known
