"""The site builds without a warning, needs no network, and its made pages are current."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import has_display
from doc_pages import DOCS, ROOT, script
from PIL import Image

from napari_hidiff._qt.tasks import model_fit

MEGABYTE = 1e6
PART = (slice(200, 680), slice(200, 680))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; --strict makes an error of every warning."""
    folder = tmp_path_factory.mktemp("site")
    command = (sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder))
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


class Requests(HTMLParser):
    """Addresses that a browser fetches by itself to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src"}
        self.found += [value for key, value in attrs if value and key == names.get(tag)]


def test_every_page_is_there_and_fetches_nothing_from_elsewhere(site):
    pages = {page.stem for page in DOCS.glob("*.md")}
    assert pages <= {page.stem for page in site.glob("*.html")}
    for page in site.glob("*.html"):
        reader = Requests()
        reader.feed(page.read_text(encoding="utf-8"))
        assert reader.found
        for address in reader.found:
            assert not re.match(r"(https?:)?//", address), f"{page.name} fetches {address}"
            path = (page.parent / address.partition("#")[0].partition("?")[0]).resolve()
            assert page.name == "404.html" or path.exists(), f"{page.name}: {address}"
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", text), style.name


def test_the_search_needs_no_server(site):
    """A page opened from disk may start no worker and fetch no index: both come as scripts."""
    assert (site / "search" / "search_index.js").read_text().startswith("var __index = {")
    for page in site.glob("*.html"):
        scripts = re.findall(r'<script src="([^"]+)"', page.read_text(encoding="utf-8"))
        assert scripts[0].endswith("iframe-worker.js"), page.name


def test_formulas_are_mathml(site):
    page = (site / "how-it-works.html").read_text(encoding="utf-8")
    assert page.count('<math xmlns="http://www.w3.org/1998/Math/MathML" display="block"') >= 5
    assert "arithmatex" not in page
    formulas = re.findall(r"<math.*?</math>", page, re.DOTALL)
    assert not any("\\" in formula for formula in formulas), "a word that was not understood"


def test_bars_of_code_in_tables_are_not_escaped(site):
    page = (site / "commands.html").read_text(encoding="utf-8")
    assert "auto|packed|torch" in page
    assert "\\|" not in page


def test_the_translated_page_says_its_language(site):
    assert '<html lang="zh-Hans"' in (site / "tour.zh.html").read_text(encoding="utf-8")
    assert '<html lang="en"' in (site / "tour.html").read_text(encoding="utf-8")


def test_the_api_page_shows_the_public_names(site):
    import napari_hidiff

    page = (site / "api.html").read_text(encoding="utf-8")
    for name in napari_hidiff.__all__:
        assert name in page or name in ("SAMPLERS", "__version__"), name
    for anchor in ("inference.model.HiDiff", "inference.card.Card", "diffusion.samplers.Result"):
        assert f'id="napari_hidiff.{anchor}"' in page
    assert ":class:" not in page
    assert not re.search(r"<p>[^<]*\w+ : [^<]*\n\w+ : ", page), "explanations run together"


@pytest.mark.parametrize("name", script("make_pages").PAGES)
def test_made_pages_are_current(name):
    made = script("make_pages").PAGES[name]()
    text = (DOCS / name).read_text(encoding="utf-8")
    assert text == made, f"{name} is not what the program says: make pages"


@pytest.mark.parametrize(
    ("page", "quoted"),
    [
        ("tour.md", ["3 strokes", "0.103 Dice", "87%"]),
        ("wishes.md", ["87%", "85%", "108 ms"]),
    ],
)
def test_numbers_that_are_repeated_are_those_of_the_results_page(page, quoted):
    """Which tests/test_results*.py compare with results/."""
    text, results = ((DOCS / name).read_text() for name in (page, "results.md"))
    for number in quoted:
        assert number in text, f"{page}: {number}"
        assert number in results, f"{page} says {number}, results.md does not"


def test_pictures_are_small_and_of_the_size_they_should_be():
    images = DOCS / "images"
    assert sum(file.stat().st_size for file in images.iterdir()) <= 4 * MEGABYTE
    for file in (*images.glob("tour-*.png"), *images.glob("volume-*.png")):
        assert Image.open(file).size == (1280, 720), file.name
    film = images / "tour.webp"
    assert film.stat().st_size <= 1.5 * MEGABYTE
    assert Image.open(film).n_frames >= 10
    used = "".join(
        page.read_text(encoding="utf-8") for page in (*DOCS.glob("*.md"), ROOT / "README.md")
    )
    for file in images.iterdir():
        assert f"images/{file.name}" in used, f"{file.name} is shown nowhere"


@pytest.mark.slow
@pytest.mark.usefixtures("own_scale")
@pytest.mark.parametrize(
    ("name", "data"), [("tour", None), ("volume", "Task04_Hippocampus")], ids=("tour", "volume")
)
def test_the_pictures_can_be_made_again(name, data, tmp_path, monkeypatch, real_data):
    """In a real window; what the pictures show may change, which there are may not.

    The tour is taken on a part of the sample, which is enough to find, paint and mend in, and not
    enlarged for being small; image and model are looked at soon after each choice, and a layout is
    waited for less long than for the pages.
    """
    if not has_display():
        pytest.skip("needs a screen: install Xvfb (README, system packages)")
    module = script(f"make_{name}")
    options = ["--output", str(tmp_path), *(("--data", str(real_data(data))) if data else ())]
    monkeypatch.setattr(sys, "argv", [module.__name__, *options])
    monkeypatch.setattr(sys.modules[module.Desk.__module__], "SETTLE", 100)
    monkeypatch.setattr(model_fit, "SETTLE", 10)
    if name == "tour":
        part = tuple(array[PART] for array in module.sample())
        monkeypatch.setattr(module, "sample", lambda: part)
    module.main()
    made = {file.name for file in tmp_path.iterdir()} - {"own-models", "own-sets"}
    assert made == {file.name for file in (DOCS / "images").glob(f"{name}*")}
    for file in tmp_path.glob("*.png"):
        canvas = Image.open(file).convert("L").crop((340, 30, 960, 690))
        darkest, brightest = canvas.getextrema()
        assert brightest - darkest > 50, f"{file.name}: the canvas is flat"
