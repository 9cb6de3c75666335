"""Every command of README and docs is run, or parsed by the real parser to its end.

``doc_treatments.TREATMENTS`` says how each is treated; a command that nothing there matches fails
the test, so that a new one is not forgotten. Files that commands name are made, tiny, by
``write_desk``: a page that names a new file adds it there.
"""

import importlib
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doc_pages import PAGES, ROOT, Line, command_lines, inline_code, script
from doc_treatments import TREATMENTS, Call, treat
from layouts import fundus, write_chase, write_collection, write_drive, write_folder, write_kvasir
from PIL import Image
from volume_layouts import write_brats, write_msd, write_nifti_folder

COMMAND_OF = {
    line.partition("=")[0].strip(): line.partition("=")[2].strip()
    for line in (ROOT / "setup.cfg").read_text(encoding="utf-8").splitlines()
    if re.match(r"\s+napari-hidiff[\w-]* = napari_hidiff\.[\w.]+:\w+$", line)
}


def write_desk(folder: Path, tiny_file: Path) -> None:
    """The files that the commands of the pages name, as small as they may be."""
    image, vessels, _ = fundus(0)
    pictures = ("photo.png", "fundus.jpg", "fundus.png", "photos/photo.png", "photos/other.jpg")
    for name in pictures:
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / name)
    (folder / "drafts").mkdir()
    for name in ("draft.png", "drafts/photo.png", "drafts/other.png"):
        Image.fromarray(vessels).save(folder / name)
    strokes = np.full(vessels.shape, 255, np.uint8)
    strokes[30, 20:40] = 1
    Image.fromarray(strokes).save(folder / "strokes.png")
    listed = "# image\tprior\nphotos/photo.png\tdrafts/photo.png\nphotos/other.jpg\n"
    (folder / "today.txt").write_text(listed, encoding="utf-8")

    write_folder(folder / "mine")
    write_nifti_folder(folder / "scans")
    shutil.copy(folder / "scans" / "images" / "scan0.nii.gz", folder / "case.nii.gz")
    write_chase(folder / "CHASEDB1")
    write_drive(folder / "DRIVE", range(1, 3))
    write_kvasir(folder / "Kvasir-SEG")
    write_brats(folder / "BraTS2021")
    write_msd(folder / "Task04_Hippocampus")
    write_collection(folder / "HELD_OUT")
    (folder / "data").mkdir()
    known = {
        "collection": "HELD_OUT",
        "chase": "CHASEDB1",
        "kvasir": "Kvasir-SEG",
        "msd": "Task04_Hippocampus",
    }
    for name, target in known.items():
        (folder / "data" / name).symlink_to(folder / target)

    runs = ("kvasir", "kvasir-control", "folder", "mine")
    for model in ("mine", *(f"runs/{run}/model" for run in runs)):
        path = folder / f"{model}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tiny_file, path)


LINES = list({str(line): line for page in PAGES for line in command_lines(page)}.values())


@pytest.fixture(scope="module")
def desk(tiny_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    write_desk(folder, tiny_file)
    return folder


@pytest.fixture
def call(
    own_scale: None,
    desk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Call:
    """``call("napari-hidiff-refine", ...)``: run it as installed, in a folder of its own; its
    exit status. ``call.said()`` is what it wrote to stderr."""
    for path in desk.iterdir():
        if path.name == "runs":  # commands write there
            shutil.copytree(path, tmp_path / path.name)
        else:
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAPARI_HIDIFF_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")

    def run_it(name: str, *arguments: str) -> int:
        module, _, function = COMMAND_OF[name].partition(":")
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        with pytest.raises(SystemExit) as left:
            getattr(importlib.import_module(module), function)()
        run_it.last = capfd.readouterr()  # type: ignore[attr-defined]
        if left.value.code == 2:
            print(run_it.last.err)  # type: ignore[attr-defined]
        return int(left.value.code or 0)

    run_it.said = lambda: run_it.last.err  # type: ignore[attr-defined]
    return run_it


@pytest.mark.parametrize("line", LINES, ids=str)
def test_commands_of_the_pages(line: Line, call: Call) -> None:
    treat(line, call)


def test_there_are_commands_and_every_treatment_is_needed() -> None:
    assert len(LINES) > 50
    for pattern, _ in TREATMENTS:
        assert any(re.match(pattern, str(line)) for line in LINES), f"nothing matches {pattern!r}"


def test_every_block_says_its_language() -> None:
    """A block without one would hide its commands from these tests."""
    from doc_pages import blocks

    for page in PAGES:
        for language, content in blocks(page):
            assert language, f"{page.name}: {content[:60]}"
            assert language in {"bash", "console", "sh", "json", "python", "text"}, page.name
            if language == "text":
                assert not re.search(r"^(napari-hidiff|make) (?!.*[\[A-Z]{2})", content, re.M)


def test_options_in_the_running_text_exist() -> None:
    """Commands in code spans may hold words like NAME; their names and options are real."""
    pages = script("make_pages")
    parsers: dict[str, Any] = {name: pages.parser_of(name) for name in COMMAND_OF}
    seen = 0
    for page in PAGES:
        for code in inline_code(page):
            name, *words = code.split()
            if name not in parsers or not words:
                continue
            found = parsers[name]
            for word in words:
                subs = getattr(found, "commands", {})
                found = subs.get(word, subs.get("open", found))
            known = {flag for p in found.params for flag in (*p.opts, *p.secondary_opts)}
            used = {word for word in words if re.match(r"--[a-z]", word)} - {"--help"}
            assert used <= known, f"{page.name}: {code}"
            seen += 1
    assert seen > 10


def test_every_command_is_in_the_table_of_the_readme() -> None:
    readme = PAGES[0].read_text(encoding="utf-8")
    assert len(COMMAND_OF) == 4
    for command in COMMAND_OF:
        assert f"| `{command} " in readme, f"{command} is missing from the table"
