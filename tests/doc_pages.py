"""What the pages hold: fenced blocks, command lines, inline code; the scripts beside them."""

import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "README.zh.md", *sorted(DOCS.glob("*.md"))]
FENCE = re.compile(r"^```([\w-]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SHELL = {"bash", "console", "sh"}


@dataclass(frozen=True)
class Line:
    """A command line of a page, its words without comments and without variables set in front."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(self.words)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Language and content of every fenced block."""
    for found in FENCE.finditer(text_of(page)):
        yield found[1], found[2]


def command_lines(page: Path) -> Iterator[Line]:
    """Every command of the shell blocks; a prompt is left out, output of a console too."""
    for language, content in blocks(page):
        if language not in SHELL:
            continue
        for line in content.replace("\\\n", " ").splitlines():
            prompted = line.startswith("$ ")
            if language == "console" and not prompted:
                continue
            words = shlex.split(line.removeprefix("$ "), comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words:
                yield Line(page.name, tuple(words))


def inline_code(page: Path) -> list[str]:
    """The code spans outside of fenced blocks."""
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", text_of(page)))


def script(name: str) -> ModuleType:
    """A module of docs/, loaded from its file."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    if str(DOCS) not in sys.path:  # the scripts share modules that lie beside them
        sys.path.append(str(DOCS))
    spec.loader.exec_module(module)
    return module
