"""The shape of the house: who may import whom, no circles, small folders, what starts fast."""

import ast
import functools
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from paths import ROOT, TESTS

import napari_hidiff

SOURCES = {"napari_hidiff": ROOT / "napari_hidiff", "napari_hidiff.training": ROOT / "training"}

COMMON = {"errors", "_version"}
"""What every package may import."""
ALLOWED: Mapping[str, set[str]] = {
    "errors": set(),
    "_version": set(),
    "masks": set(),
    "networks": set(),
    "io": {"masks"},
    "plot": {"io"},
    "sizes": {"masks", "io"},
    "surfaces": set(),
    "agreement": {"masks", "io", "surfaces"},
    "diffusion": {"masks"},
    "bernoulli": {"diffusion"},
    "engine": {"networks"},
    "inference": {"masks", "io", "diffusion", "networks", "engine"},
    "annotation": {"masks", "io", "diffusion", "inference"},
    "batch": {"masks", "io", "inference"},
    "_qt": {
        *("agreement", "masks", "plot", "sizes", "surfaces", "io", "diffusion", "engine"),
        *("inference", "annotation"),
    },
    "cli": {
        *("agreement", "masks", "plot", "sizes", "surfaces", "io", "diffusion", "inference"),
        *("annotation", "batch", "_qt"),
    },
    "training.datasets": {"io", "inference"},
    "training": {
        *("masks", "io", "diffusion", "networks", "inference", "annotation", "cli"),
        "training.datasets",
    },
    "training.evaluate": {
        *("masks", "plot", "io", "diffusion", "networks", "engine", "inference", "annotation"),
        *("cli", "surfaces", "training", "training.datasets"),
    },
}
"""Package by package, what else it may import: wherever in a file, for types alone too."""
FACES = {"": {"annotation", "diffusion", "inference", "io", "masks"}}
"""What the package's own face hands on."""
WINDOW = {"magicgui", "napari", "qtpy", "superqt", "vispy"}
"""Libraries that only rooms under ``_qt`` may import."""
EXPERIMENTS = {"ablations", "analyses", "generative", "interactive"}
"""Folders of training.evaluate that never import one another."""

TORCH_FREE = (
    *("annotation", "batch.jobs", "batch.records", "cli.app", "inference.card"),
    *("inference.box", "inference.catalog", "io", "masks", "_qt.widget", "training.evaluate.cli"),
)
LINES, MODULES = 400, 17
"""At most so many lines a file, modules a folder."""


def modules() -> dict[str, Path]:
    """Every module by its installed name, with its file."""
    found = {}
    for package, folder in SOURCES.items():
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            found[".".join([package, *(part for part in parts if part != "__init__")])] = file
    return found


def imported(name: str, file: Path) -> Iterator[str]:
    """Absolute names that a module imports, in functions and for types alone too."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(filter(None, (parent, node.module)))
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


@functools.cache
def arrows() -> Mapping[str, set[str]]:
    """Of every module of ours, those of ours that it imports."""
    files, found = modules(), {}
    for name, file in files.items():
        parts = set(imported(name, file)) & set(files)
        # ``from a import b`` reads the room b where there is one, and else the face a.
        deeper = {part.rpartition(".")[0] for part in parts}
        found[name] = {part for part in parts if part not in deeper or part == name} - {name}
    return found


def package_of(module: str) -> str:
    """The package of ``ALLOWED`` that a module is in; empty for the package's face."""
    parts = module.split(".")[1:]
    if parts[:1] == ["training"] and parts[1:2] in (["datasets"], ["evaluate"]):
        return ".".join(parts[:2])
    return parts[0] if parts else ""


def test_packages_import_only_what_the_table_allows() -> None:
    for module, targets in arrows().items():
        own = package_of(module)
        allowed = FACES.get(own, ALLOWED.get(own, set())) | COMMON | {own}
        if own in ("_qt", "cli"):
            allowed |= {""}  # __version__ and the like
        for target in targets:
            assert package_of(target) in allowed, f"{module} imports {target}"
    assert {package_of(module) for module in arrows()} == {*ALLOWED, ""}


def test_every_allowed_arrow_is_used() -> None:
    used = defaultdict(set)
    for module, targets in arrows().items():
        used[package_of(module)] |= {package_of(target) for target in targets}
    for package, allowed in ALLOWED.items():
        assert allowed <= used[package], f"{package} imports no {allowed - used[package]}"


def test_experiments_do_not_import_one_another() -> None:
    for module, targets in arrows().items():
        for target in targets:
            one, other = (name.split(".")[3:4] for name in (module, target))
            if "evaluate" in module and one and other and {one[0], other[0]} <= EXPERIMENTS:
                assert one == other, f"{module} imports {target}"


def test_there_are_no_circles() -> None:
    """No module imports itself by way of others (Tarjan's strongly connected components)."""
    graph, index, low = arrows(), {}, {}
    stack: list[str] = []
    circles = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for target in graph[module]:
            if target not in index:
                visit(target)
            if target in stack:
                low[module] = min(low[module], low[target])
        if low[module] == index[module]:
            circle = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(circle) > 1:
                circles.append(sorted(circle))

    for module in graph:
        if module not in index:
            visit(module)
    assert not circles


def test_only_the_window_knows_napari_and_qt() -> None:
    for name, file in modules().items():
        if package_of(name) != "_qt":
            tops = {part.partition(".")[0] for part in imported(name, file)}
            assert not tops & WINDOW, f"{name} imports {tops & WINDOW}"
            assert "training" not in tops, f"{name}: import napari_hidiff.training instead"


def test_what_starts_a_command_or_the_window_loads_no_torch_and_a_command_no_qt() -> None:
    """In one process, one after another: what is loaded stays, and the first is to blame."""
    script = (
        "import sys, importlib\n"
        "for heavy, names in (('qtpy', sys.argv[1:2]), ('torch', sys.argv[2:])):\n"
        "    for name in names:\n"
        "        importlib.import_module('napari_hidiff.' + name)\n"
        "        assert heavy not in sys.modules, f'{name} loads {heavy}'\n"
    )
    command = [sys.executable, "-c", script, "_qt.commands", *TORCH_FREE]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_rooms_fit_one_sitting_and_folders_one_glance() -> None:
    folders = defaultdict(list)
    for file in modules().values():
        count = len(file.read_text(encoding="utf-8").splitlines())
        assert count <= LINES, f"{file} has {count} lines"
        if file.name != "__init__.py":
            folders[file.parent].append(file)
    for folder, files in folders.items():
        assert len(files) <= MODULES, f"{folder} has {len(files)} modules"


WHOLE = {
    "io": {"damaged"},
    "training.datasets": {"datasets", "official_layouts"},
}
"""Tests of a package that no single module of it owns."""


def test_the_test_of_a_module_is_where_its_name_says() -> None:
    """``tests/io/test_tiff*.py`` tests ``napari_hidiff/io/tiff.py``, and so on."""
    for folder in {file.parent for file in TESTS.rglob("test_*.py")} - {TESTS}:
        package = ".".join(folder.relative_to(TESTS).parts)
        source = SOURCES["napari_hidiff"] / Path(*folder.relative_to(TESTS).parts)
        if package.startswith("training"):
            source = ROOT / Path(*folder.relative_to(TESTS).parts)
        if not (source / "__init__.py").is_file():
            assert package in {"benchmarks", "docs", "gui", "results"}, folder
            continue
        inside = [path.stem for path in source.iterdir() if path.name != "__init__.py"]
        for file in folder.glob("test_*.py"):
            name = file.stem.removeprefix("test_")
            owned = any(name == room or name.startswith(f"{room}_") for room in inside)
            assert owned or name in WHOLE.get(package, ()), f"{file} tests no module of {package}"


def test_tests_fit_one_sitting_too() -> None:
    for file in TESTS.rglob("*.py"):
        count = len(file.read_text(encoding="utf-8").splitlines())
        assert count <= LINES, f"{file} has {count} lines"


def test_the_public_names_are_there() -> None:
    for name in napari_hidiff.__all__:
        assert getattr(napari_hidiff, name) is not None
    from napari_hidiff.annotation import Annotation
    from napari_hidiff.bernoulli import CENTRES, POSTERIORS, BernoulliDiffusion, bernoulli
    from napari_hidiff.cli import main, refine_main
    from napari_hidiff.diffusion import GaussianDiffusion, Process, process_of
    from napari_hidiff.engine import ENGINES, Engine
    from napari_hidiff.errors import InputError
    from napari_hidiff.io import read_fixed, read_image, read_labels, read_mask, sample

    assert {Annotation, BernoulliDiffusion} <= {
        napari_hidiff.Annotation,
        napari_hidiff.BernoulliDiffusion,
    }
    assert issubclass(InputError, ValueError)
    assert {"one-step", "ddim", "ancestral"} == set(napari_hidiff.SAMPLERS)
    assert set(ENGINES) == {"auto", "packed", "torch"}
    assert "mixture" in POSTERIORS
    for callable_ in (main, refine_main, process_of, sample, read_image, bernoulli, read_mask):
        assert callable(callable_)
    for callable_ in (read_labels, read_fixed, Engine, Process, GaussianDiffusion):
        assert callable(callable_)
    assert "prior" in CENTRES
