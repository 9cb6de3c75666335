"""What is installed is what is in the repository: packages, data, commands, arrows, versions."""

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from PIL import Image

import napari_hidiff
from napari_hidiff.io.images import sample

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {"napari_hidiff": ROOT / "napari_hidiff", "napari_hidiff.training": ROOT / "training"}


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def lines(value: str) -> list[str]:
    return [line for line in map(str.strip, value.splitlines()) if line and line[0] != "#"]


def modules() -> Iterator[tuple[str, Path]]:
    """Every module by its installed name, with its file."""
    for package, folder in SOURCES.items():
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            yield ".".join([package, *(part for part in parts if part != "__init__")]), file


def imports(name: str, file: Path) -> set[str]:
    """Absolute names that a module imports, wherever in the file."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parent = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(filter(None, (parent, node.module)))
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return found


def requirements(setup: configparser.ConfigParser, *extras: str) -> set[str]:
    """Normalised names of the declared dependencies, with those of the named extras."""
    texts = [setup["options"]["install_requires"]]
    texts += [setup["options.extras_require"][extra] for extra in extras]
    names = (re.split(r"[\[<>=!~; ]", line)[0] for text in texts for line in lines(text))
    return {normal(name) for name in names}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_folder_with_code_is_a_package_in_setup_cfg(setup):
    folders = {
        name if file.name == "__init__.py" else name.rpartition(".")[0] for name, file in modules()
    }
    assert sorted(lines(setup["options"]["packages"])) == sorted(folders)
    for package, folder in SOURCES.items():
        for file in folder.rglob("*.py"):
            assert (file.parent / "__init__.py").is_file(), f"{file.parent} is no {package} package"


def test_what_is_imported_is_declared_and_pinned(setup):
    distributions = packages_distributions()
    imported_by_others = {"tensorboard", "einops", "pyamg"}  # torch, MONAI, scikit-image
    unused = requirements(setup, "train") - imported_by_others
    for name, file in modules():
        extras = ("train",) if name.startswith("napari_hidiff.training") else ()
        declared = requirements(setup, *extras)
        for top in {imported.partition(".")[0] for imported in imports(name, file)}:
            if top in sys.stdlib_module_names or top == "napari_hidiff":
                continue
            owners = {normal(owner) for owner in distributions.get(top, ())}
            assert owners & declared, f"{file} imports {top}, which setup.cfg does not name"
            unused -= owners
    assert not unused, "declared in setup.cfg and imported nowhere"
    pinned = {normal(line.partition("==")[0]) for line in lines(read("constraints.txt"))}
    assert requirements(setup, "qt", "train", "pretrained", "docs", "dev", "mutation") <= pinned


def test_importing_the_package_loads_neither_torch_nor_qt():
    script = (
        "import sys, napari_hidiff; napari_hidiff.SAMPLERS; napari_hidiff.__version__\n"
        "heavy = {'torch', 'napari', 'qtpy', 'PySide6', 'magicgui', 'monai', 'skimage'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_manifest_is_valid_and_the_one_at_the_top_is_a_link_to_it():
    from npe2 import PluginManifest

    manifest = PluginManifest.from_file(ROOT / "napari_hidiff" / "napari.yaml")
    manifest.validate_imports()
    assert manifest.name == "napari-hidiff"
    assert str(manifest.schema_version).startswith("0.3")
    assert "HiDiff refine" in {widget.display_name for widget in manifest.contributions.widgets}
    assert read("napari.yaml") in (read("napari_hidiff/napari.yaml"), "napari_hidiff/napari.yaml")


def test_all_versions_agree(setup):
    version = napari_hidiff._version.__version__
    assert setup["metadata"]["version"] == "attr: napari_hidiff._version.__version__"
    assert yaml.safe_load(read("CITATION.cff"))["version"] == version
    newest = re.search(r"^## \[?(\d[^\]\s]*)", read("CHANGELOG.md"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == version


def test_python_versions_agree(setup):
    tools = tomllib.loads(read("pyproject.toml"))["tool"]
    assert setup["options"]["python_requires"] == ">=3.11"
    assert tools["ruff"]["target-version"] == "py311"
    assert tools["mypy"]["python_version"] == "3.11"


def test_no_file_is_larger_than_12_megabytes():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git repository")
    sizes = {
        name: (ROOT / name).stat().st_size
        for name in listed.stdout.split("\0")
        if name and (ROOT / name).exists()
    }
    assert {name: size for name, size in sizes.items() if size > 12_000_000} == {}


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder of commands of an empty environment with nothing of ours but the wheel in it.

    Third-party packages come from this environment by a .pth line, which does not run the .pth
    files beside them, so that an editable install of ours stays out.
    """
    work = tmp_path_factory.mktemp("wheel")
    source = work / "source"
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in SOURCES.values():
        shutil.copytree(folder, source / folder.name, ignore=skip)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, source / name)
    python(sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", work, source)
    python(sys.executable, "-m", "venv", "--without-pip", work / "venv")
    commands = work / "venv" / ("Scripts" if os.name == "nt" else "bin")
    (wheel,) = work.glob("*.whl")
    pip = ("-m", "pip", "--python", commands / "python", "install", "--no-deps", "--no-index")
    python(sys.executable, *pip, wheel)
    import numpy

    site = Path(numpy.__file__).parent.parent
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    mine = Path(python(commands / "python", "-c", where).strip())
    (mine / "third_party.pth").write_text(f"{site}\n", encoding="utf-8")
    return commands


def python(*command: object, cwd: Path | None = None) -> str:
    """Run a command and return its stdout; its stderr is the message of a failure."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, cwd=cwd, env=environment
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_wheel_holds_every_module_and_every_data_file(installed, tmp_path):
    script = (
        "import napari_hidiff, napari_hidiff.training as training, pathlib\n"
        "print(pathlib.Path(napari_hidiff.__file__).parent)"
    )
    package = Path(python(installed / "python", "-c", script, cwd=tmp_path).strip())
    assert installed.parent in package.parents
    for source, target in (
        (ROOT / "napari_hidiff", package),
        (ROOT / "training", package / "training"),
    ):
        for file in source.rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                copy = target / file.relative_to(source)
                assert copy.is_file(), f"the wheel lacks {file.relative_to(ROOT)}"
                assert copy.read_bytes() == file.read_bytes()


@pytest.mark.slow
def test_every_command_of_the_wheel_explains_itself(installed, setup, tmp_path):
    names = [
        line.partition("=")[0].strip()
        for line in lines(setup["options.entry_points"]["console_scripts"])
    ]
    assert names == [
        "napari-hidiff",
        "napari-hidiff-refine",
        "napari-hidiff-train",
        "napari-hidiff-evaluate",
    ]
    for name in names:
        text = python(installed / name, "--help", cwd=tmp_path)
        assert "Usage" in text, name


@pytest.mark.slow
def test_the_wheel_refines_an_image_and_brings_sample_and_manifest(installed, tiny_file, tmp_path):
    image, _ = sample()
    Image.fromarray(image[400:464, 400:480]).save(tmp_path / "crop.png")
    options = ("--model", tiny_file, "--output", "out", "--device", "cpu")
    printed = python(installed / "napari-hidiff-refine", "crop.png", *options, cwd=tmp_path)
    assert printed == f"{Path('out') / 'crop_mask.png'}\n"
    assert (tmp_path / "out" / "crop_mask.png").is_file()
    script = (
        "from npe2 import PluginManifest\n"
        "from napari_hidiff.io import sample\n"
        "import napari_hidiff.training.recipes\n"
        "print(PluginManifest.from_distribution('napari-hidiff').display_name, sample()[1].sum())"
    )
    assert "HiDiff" in python(installed / "python", "-c", script, cwd=tmp_path)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")
