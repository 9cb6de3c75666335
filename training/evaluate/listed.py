"""What ``--list-experiments`` prints."""

import typer
from rich.console import Console
from rich.table import Table

from .ablations.rows import STUDIES
from .experiments import EXPERIMENTS


def print_list(wanted: bool) -> None:
    """Every experiment with what it asks and the section of the paper; then the command ends."""
    if not wanted:
        return
    table = Table("experiment", "asks", "in the paper (HiDiff)", "needs")
    for name, experiment in EXPERIMENTS.items():
        table.add_row(name, experiment.title, experiment.section, "--model")
    for name, study in STUDIES.items():
        table.add_row(name, study.title, study.section, f"{len(study.rows)} trainings a seed")
    Console().print(table)
    raise typer.Exit
