"""What the site does that MkDocs does not: result files, formulas, links that work on GitHub too.

A hook of mkdocs.yml. Pages link to ``../results/...`` and formulas are written as ``$...$``, so
that the same files read well in the repository; here the results become files of the site and the
formulas MathML, which browsers show without a script and without a network.
"""

import re
from html import unescape
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

CODE = re.compile(r"<code>[^<]*</code>")
LANGUAGES = {"zh": "zh-Hans"}
"""Suffix of a page's name and the language of the page; the others are English."""
FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\(?P<kind>[(\[])(?P<tex>.*?)\\[)\]]</(?P=tag)>',
    re.DOTALL,
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The files of ``results/`` that pages link to, or may."""
    folder = Path(config.config_file_path).parent / "results"
    for file in sorted(folder.iterdir()):
        if file.suffix in {".json", ".png"}:
            uri = f"results/{file.name}"
            files.append(File.generated(config, uri, abs_src_path=str(file)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to results as they are in the site."""
    return markdown.replace("](../results/", "](results/")


def on_page_content(html: str, **_: Any) -> str:
    """Formulas as MathML; bars of code in tables, which have to be escaped there for GitHub."""
    html = CODE.sub(lambda found: found[0].replace("\\|", "|"), html)
    return FORMULA.sub(_mathml, html)


def on_post_page(output: str, page: Page, **_: Any) -> str:
    """Say which language a translated page is in, for browsers and screen readers."""
    language = LANGUAGES.get(Path(page.file.src_uri).stem.rpartition(".")[2])
    return output.replace('<html lang="en"', f'<html lang="{language}"') if language else output


def _mathml(found: re.Match[str]) -> str:
    block = found["kind"] == "["
    return convert(unescape(found["tex"]).strip(), display="block" if block else "inline")
