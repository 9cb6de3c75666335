"""The readable reports of experiments: made from the object alone, with every figure of it."""

import re
from io import StringIO
from typing import Any

import pytest
from layouts import write_chase
from rich.console import Console

from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.evaluate import output
from napari_hidiff.training.evaluate.analyses import steps
from napari_hidiff.training.evaluate.experiments import EXPERIMENTS, run_experiment
from napari_hidiff.training.evaluate.study import Options

ARMS = ("one-step", "ddim-2x1")
PAGES = [name for name, experiment in EXPERIMENTS.items() if experiment.report is not None]


def page(content: dict[str, Any]) -> str:
    """The page of an object."""
    report = EXPERIMENTS[content["experiment"]].report
    assert report is not None
    return output.page(content, report(content))


@pytest.fixture(scope="module")
def chase(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return write_chase(tmp_path_factory.mktemp("data") / "CHASEDB1", 14, 40, 44)


def lines_of(text: str) -> list[list[str]]:
    """The cells of a page's only table."""
    return [line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("| ")]


def differences(part: Any, of: str = "") -> list[dict[str, float]]:
    """Every difference of Dice to the prior or to one pass that an object holds."""
    if not isinstance(part, dict):
        return []
    if set(part) == {"mean", "low", "high"}:
        return [part] if of.startswith(("minus", "difference")) else []
    kept = of if of.startswith(("minus", "difference")) else ""
    rest = {key: value for key, value in part.items() if key not in ("images", "hd95", "nsd")}
    return [found for key, value in rest.items() for found in differences(value, kept or key)]


@pytest.mark.parametrize("name", PAGES)
def test_a_report_has_every_figure_of_its_object(name, tiny, chase, tmp_path):
    dataset = open_dataset("chase", chase)
    cases = dataset.split("test")[:6]
    command = f"napari-hidiff-evaluate --experiment {name} --data /x --state 'a b' --json --seeds 2"
    options = Options(arms=ARMS, seeds=(0, 1), model="tiny", command=command)
    content = run_experiment(name, tiny(), dataset, cases, options, tmp_path, lambda *_: None)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert page(content) in text
    assert f"```bash\nnapari-hidiff-evaluate --experiment {name} --seeds 2\n```" in text
    for picture in content["pictures"]:
        assert f"]({picture})" in text
        assert (tmp_path / picture).exists()
    lines = lines_of(text)
    assert {len(line) for line in lines} == {len(lines[0])}
    found = differences(content)
    assert len(found) >= 3
    for difference in found:
        assert output.interval(difference) in text
    if name not in ("small-objects", "foreign-priors"):  # which have words of their own
        assert re.search(r"(?i)(above|below|not significantly different from) the prior", text)


def test_a_handful_of_cases_is_not_put_into_words(tiny, chase, tmp_path):
    dataset = open_dataset("chase", chase)
    cases, options = dataset.split("test")[:2], Options(command="x")
    content = run_experiment(
        "small-objects", tiny(), dataset, cases, options, tmp_path, lambda *_: None
    )
    summary = page(content).split("\n| ")[0]
    assert content["lowest"]["n"] == 1
    assert "so few cases say next to nothing" in summary
    assert "not to be told" not in summary


def test_it_says_beforehand_how_much_there_is_to_do(tiny, chase, tmp_path):
    dataset = open_dataset("chase", chase)
    cases, options = dataset.split("test")[:3], Options(arms=ARMS, seeds=(0, 1))

    def told(among: Any) -> list[str]:
        said: list[Any] = []
        steps.run(tiny(), dataset, among, options, tmp_path, lambda done, what: said.append(what))
        return [what for what in said if isinstance(what, str)]

    line = r"%d refinements to do: about \d+ (s|min) on this machine"
    assert [bool(re.fullmatch(line % 6, what)) for what in told(cases[:2])] == [True]
    assert [bool(re.fullmatch(line % 3, what)) for what in told(cases)] == [True]
    assert told(cases) == []


def test_a_table_is_the_same_on_page_and_console():
    rows = [["a", "`x`", "1"], ["a", "y", "22"], ["b", "x", "[bold]3"]]
    table = output.Table(["set", "way", "n"], rows, words=2)
    assert table.markdown().splitlines() == [
        "| set | way | n |",
        "|---|---|---|",
        "| a | `x` | 1 |",
        "| a | y | 22 |",
        "| b | x | [bold]3 |",
    ]
    console = Console(file=StringIO(), width=60)
    console.print(table.rich("title"))
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    cells = [line.strip("\u2502 ").split() for line in printed.splitlines()]
    assert ["a", "\u2502", "x", "\u2502", "1"] in cells
    assert ["y", "\u2502", "22"] in cells, "the group is named once"
    assert ["b", "\u2502", "x", "\u2502", "[bold]3"] in cells
    assert "\u251c" in printed, "a line between the groups"
