"""A study's table for people."""

from typing import Any

from rich.console import Console

from ..arms import PRIOR
from ..tables import interval, new_table


def print_study(content: dict[str, Any], console: Console) -> None:
    """A line for every row and way: means, and differences in Dice with their intervals."""
    reference = content["reference"]
    seeds = ", ".join(map(str, content["seeds"]))
    console.print(
        f"{content['experiment']} on {content['dataset']} ({content['split']}, n = "
        f"{content['n']}): {content['title']}; training seeds {seeds}",
        soft_wrap=True,
    )
    for row in content["rows"]:
        console.print(f"{row['name']}: {row['title']}", soft_wrap=True, markup=False)
    table = new_table(
        "Dice, mean over cases and seeds; differences in Dice with 95 % intervals over cases",
        ("row", "way"),
        ("Dice", "to the prior", f"to {reference['row']}, {reference['way']}"),
    )
    for row in content["rows"]:
        if not row["cells"]:
            table.add_row(row["name"], "not run", *[""] * 3, end_section=True)
        for index, (way, cell) in enumerate(row["cells"].items()):
            differences = ["", ""]
            if way != PRIOR:
                judged = cell["to_reference"]
                differences = [interval(cell["to_prior"]), interval(judged) if judged else "-"]
            table.add_row(
                row["name"] * (index == 0),
                way,
                f"{cell['dice']:.4f}",
                *differences,
                end_section=index == len(row["cells"]) - 1,
            )
    console.print(table)
    for note in content["notes"]:
        console.print(f"note: {note}", style="yellow", soft_wrap=True, markup=False)
