"""What the README says is what happens."""

import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, word: str) -> str:
    """The first fenced block of a language that holds a word."""
    found = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return next(text for text in found if word in text)


@pytest.mark.slow
def test_the_python_example_runs(tiny_file, tmp_path):
    code = block("python", "load_model").replace('"chase-vessels"', repr(str(tiny_file)))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("1 1 ")
    assert lines[1].startswith("(960, 999) 0.")


def test_every_command_and_option_of_the_examples_exists():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    scripts = re.findall(
        r"^(napari-[\w-]+) =", setup["options.entry_points"]["console_scripts"], re.M
    )
    for command in scripts:
        assert f"| `{command} " in README, f"{command} is missing from the table"
    from typer.main import get_command

    from napari_hidiff.cli import refine_app
    from napari_hidiff.training.cli import app as train_app
    from napari_hidiff.training.evaluate.cli import app as evaluate_app

    apps = {"refine": refine_app, "train": train_app, "evaluate": evaluate_app}
    used = re.findall(r"napari-hidiff-(\w+) ([^`\n|#]*)", README)
    assert {name for name, _ in used} == set(apps)
    for name, arguments in used:
        known = {flag for option in get_command(apps[name]).params for flag in option.opts}
        assert set(re.findall(r"--[\w-]+", arguments)) <= known, f"{name} {arguments}"


def test_the_system_packages_are_those_that_ci_installs():
    ci = re.search(r"packages=\((.*?)\)", (ROOT / ".ci" / "run").read_text(), re.DOTALL)
    assert ci is not None
    listed = block("bash", "apt-get install").replace("\\\n", " ").split()
    assert set(listed[3:]) == set(ci[1].split()) - {"make"}


def test_files_that_the_readme_names_exist():
    for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (ROOT / name).is_file(), name
    for name in ("constraints.txt", "CITATION.cff", "napari_hidiff/samples/ATTRIBUTION.txt"):
        assert name in README
        assert (ROOT / name).is_file()
