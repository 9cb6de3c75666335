"""A page and its translation hold the same commands, the same code and the same numbers."""

import io
import re
import tokenize
from collections import Counter
from pathlib import Path

import pytest
from doc_pages import DOCS, FENCE, ROOT, blocks, command_lines, inline_code, text_of

PAIRS = [(page, page.with_suffix(".zh.md")) for page in (ROOT / "README.md", DOCS / "tour.md")]
NUMBER = re.compile(r"[+-]?(?:\d[\d,]*)?\.?\d+(?!-D)")  # 2-D and 3-D are words in Chinese


@pytest.fixture(params=PAIRS, ids=lambda pair: pair[0].name)
def pair(request: pytest.FixtureRequest) -> tuple[Path, Path]:
    return request.param


def numbers(page: Path) -> Counter[str]:
    """Every number of the running text and its tables, outside of code and of link targets."""
    text = re.sub(r"\]\([^)]*\)", "]", FENCE.sub("", text_of(page)))
    text = re.sub(r"`[^`\n]+`", "", text)
    return Counter(NUMBER.findall(text))


def code_of(text: str) -> list[str]:
    """The tokens of Python code but for its comments."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [token.string for token in tokens if token.type != tokenize.COMMENT]


def test_the_same_commands_in_the_same_order(pair):
    english, chinese = ([line.words for line in command_lines(page)] for page in pair)
    assert english
    assert english == chinese


def test_the_same_python_code(pair):
    english, chinese = (
        [code_of(text) for language, text in blocks(page) if language == "python"] for page in pair
    )
    assert english == chinese


def test_the_same_numbers(pair):
    english, chinese = map(numbers, pair)
    assert english
    assert english - chinese == Counter(), "missing in the translation, or written otherwise"
    assert chinese - english == Counter(), "only in the translation"


def test_the_same_names_headings_pictures_and_rows(pair):
    """Names of commands, options and files are code in both, pictures and tables the same."""
    english, chinese = (set(inline_code(page)) for page in pair)
    assert english == chinese
    for pattern in (r"^#+ ", r"!\[[^\]]*\](\([^)]*\))", r"^\|", r"^(?:\d+\.|-) ", r"^```\w*"):
        first, second = (re.findall(pattern, text_of(page), re.MULTILINE) for page in pair)
        assert first == second, pattern


def test_each_links_to_the_other(pair):
    english, chinese = pair
    assert f"[中文]({chinese.name})" in text_of(english)
    assert f"[English]({english.name})" in text_of(chinese)
