"""What the README says is what happens, in both languages; its commands: test_docs_commands.py."""

import re

import pytest
from doc_pages import DOCS, PAGES, ROOT, blocks, text_of

README, CHINESE = PAGES[:2]


def code(page, word: str) -> str:
    """The first Python block of a page that holds a word."""
    return next(text for language, text in blocks(page) if language == "python" and word in text)


@pytest.mark.slow
def test_the_example_of_the_api_runs(tiny_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(code(DOCS / "api.md", "load_model").replace('"chase-vessels"', repr(str(tiny_file))), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1 1 ")
    assert lines[1].startswith("(960, 999) 0.")


def test_the_example_of_volumes_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(code(DOCS / "annotate-volume.md", ""), {})
    assert capsys.readouterr().out.startswith("(3, 32, 40)\n")


FILE = re.compile(
    r"`((?:benchmarks|docs|napari_hidiff|results|tests|training)/[\w./-]+\.(?:json|md|py|txt)"
    r"|(?:\w+/)+\w+\.py)"
)
"""A file by its path, or a module by its path in the package."""


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_files_of_the_repository_that_a_page_names_exist(page):
    for name in FILE.findall(text_of(page)):
        found = (ROOT / name).is_file() or (ROOT / "napari_hidiff" / name).is_file()
        assert found, f"{page.name}: {name}"


def test_the_readme_fits_on_two_screens():
    assert len(text_of(README).split()) <= 1000


def test_files_that_the_readme_names_exist():
    for page in (README, CHINESE):
        text = text_of(page)
        for name in re.findall(r"!?\[[^\]]*\]\((?!https?:)([^)#]+)", text):
            assert (ROOT / name).exists(), f"{page.name}: {name}"
        for name in ("constraints.txt", "CITATION.cff", "napari_hidiff/samples/ATTRIBUTION.txt"):
            assert name in text
            assert (ROOT / name).is_file()
