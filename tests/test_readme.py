"""What the README says is what happens, in both languages; its commands: test_docs_commands.py."""

import re

import pytest
from doc_pages import DOCS, PAGES, ROOT, blocks, text_of

README, CHINESE = PAGES[:2]


def code(page, word: str) -> str:
    """The first Python block of a page that holds a word."""
    return next(text for language, text in blocks(page) if language == "python" and word in text)


@pytest.mark.slow
@pytest.mark.parametrize("page", [README, CHINESE], ids=lambda page: page.name)
def test_the_python_example_runs(page, tiny_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(code(page, "load_model").replace('"chase-vessels"', repr(str(tiny_file))), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1 1 ")
    assert lines[1].startswith("(960, 999) 0.")


@pytest.mark.parametrize(
    ("page", "printed"), [("api.md", "(960, 999) "), ("annotate-volume.md", "(3, 32, 40)\n")]
)
def test_the_python_examples_of_the_docs_run(page, printed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(code(DOCS / page, ""), {})
    assert capsys.readouterr().out.startswith(printed)


def test_files_that_the_readme_names_exist():
    for page in (README, CHINESE):
        text = text_of(page)
        for name in re.findall(r"!?\[[^\]]*\]\((?!https?:)([^)#]+)", text):
            assert (ROOT / name).exists(), f"{page.name}: {name}"
        for name in ("constraints.txt", "CITATION.cff", "napari_hidiff/samples/ATTRIBUTION.txt"):
            assert name in text
            assert (ROOT / name).is_file()
