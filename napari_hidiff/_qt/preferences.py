"""The plugin's page in napari's Preferences (declared in napari.yaml), and what is remembered:
which sections of the widget are open, the model that was used last, how folders are annotated."""

import contextlib
import json
from pathlib import Path
from typing import Any

from napari.settings import get_plugin_settings
from qtpy.QtCore import QSize
from qtpy.QtWidgets import QWidget
from superqt import QCollapsible

from napari_hidiff.annotation import sidecar
from napari_hidiff.errors import InputError
from napari_hidiff.io.storage import atomic_write

PLUGIN = "napari-hidiff"

BY_CARD = "card"
"""The preferred sampler where the model's card is to say."""


KEYS = {
    "segment": "G",
    "paint": "Q",
    "erase": "W",
    "rerefine": "U",
    "next_place": "J",
    "accept": "K",
    "next_image": "Shift+J",
    "stop": "Shift+S",
    "step": "N",
    "run": "H",
    "back": ",",
    "forth": ".",
    "alternatives": "Shift+H",
    "reject": "Shift+K",
    "changes": "Shift+W",
    "refine_slices": "Shift+U",
    "carry": "Shift+F",
    "segment_slices": "Shift+G",
    "take_back": "Shift+Q",
    "similar": "Shift+E",
    "next_disagreement": "Shift+D",
}
"""Keys by the objectName of what they press, unless the Preferences say otherwise; free in napari
and in its layers. The last is of the widget that compares two masks."""


def key(name: str) -> str | None:
    """The key that presses a control, as it has it printed on; None where it has none."""
    default = KEYS.get(name)
    return None if default is None else str(_read("keys", name, default))


def device() -> str:
    """The device that the widget starts with: auto, cpu, cuda or mps."""
    return str(_read("work", "device", "auto"))


def keep_strokes() -> bool:
    """Whether strokes and accepted masks are kept in a sidecar."""
    return bool(_read("work", "keep_strokes", True))


def rater() -> str:
    """Who annotates: kept with strokes and masks; empty = nobody's name is kept."""
    return " ".join(str(_read("work", "rater", "")).split())


def sampler() -> str | None:
    """The sampler that every model starts with; None = what its card recommends."""
    chosen = str(_read("work", "sampler", BY_CARD))
    return None if chosen == BY_CARD else chosen


def near() -> bool:
    """Whether *Near my strokes* is on to begin with."""
    return bool(_read("work", "near", False))


def opacity() -> float:
    """The opacity of new masks, 0..1."""
    return float(str(_read("look", "opacity", 0.7)))


def radiological() -> bool:
    """Whether NIfTI, DICOM and NRRD images are shown as radiologists see them."""
    return bool(_read("look", "radiological", True))


def after_stroke() -> bool | None:
    """Whether an update follows every stroke; None = where it takes less than half a second."""
    return {"always": True, "never": False}.get(str(_read("work", "after_stroke", "fast")))


def _read(section: str, name: str, default: object) -> object:
    try:
        return getattr(getattr(get_plugin_settings(PLUGIN), section), name)
    except KeyError:  # the widget is used without the plugin being installed
        return default


NAME = "interface.json"
FOLDERS = 100
"""Folders of images whose folder of masks is remembered."""
ARROWS = "▸▾"
HEADING = (
    "text-align: left; border: none; outline: none; padding: 2px 0; font-weight: bold;"
    "background: transparent;"
)


def path() -> Path:
    """The file, beside the strokes that are kept."""
    return sidecar.folder() / NAME


def remember_sections(widget: QWidget) -> None:
    """Open and close every named QCollapsible in a widget as the user left it, from now on too.

    What the program opens or closes by itself is not remembered.
    """
    known = _open_sections()
    for section in widget.findChildren(QCollapsible):
        if section.objectName():
            _remember(section, known.get(section.objectName()))


def _remember(section: QCollapsible, open_: bool | None) -> None:
    button, name = section.toggleButton(), section.objectName()
    button.setToolTip(button.toolTip() or "Open or close this section; it stays so.")
    button.setIconSize(QSize(0, 0))
    button.setStyleSheet(HEADING)
    layout = section.layout()
    if layout is not None:
        layout.setContentsMargins(0, 4, 0, 0)  # in line with the other headings
    if open_ is not None:
        (section.expand if open_ else section.collapse)(animate=False)
    _point(section)
    section.toggled.connect(lambda _: _point(section))
    button.clicked.connect(
        lambda _=False: _write({"sections": _open_sections() | {name: section.isExpanded()}})
    )


def _point(section: QCollapsible) -> None:
    """An arrow as part of the text, which has the colour of the theme; superqt's icon has not."""
    button = section.toggleButton()
    text = button.text().lstrip(ARROWS + " ")
    button.setText(f"{ARROWS[section.isExpanded()]} {text}")


def last_model() -> str | None:
    """The model that the user chose last, by its name or file."""
    name = _read_remembered().get("model")
    return name if isinstance(name, str) else None


def remember_model(name: str) -> None:
    """Prefer this model, where it fits, from now on and after the next start."""
    _write({"model": name})


def drafts() -> bool:
    """Whether drafts are made for the waiting images of a folder."""
    return _read_remembered().get("drafts", True) is True


def useful_first() -> bool:
    """Whether *Next image* goes to the most useful draft rather than on in order."""
    return _read_remembered().get("useful_first", False) is True


def remember_queue(drafts: bool, useful_first: bool) -> None:
    """Keep both."""
    _write({"drafts": drafts, "useful_first": useful_first})


def masks_folder(images: Path) -> Path | None:
    """Where the masks of a folder of images go, as the user chose; None = beside the images."""
    chosen = _masks_folders().get(str(images.absolute()))
    return Path(chosen) if isinstance(chosen, str) else None


def remember_masks_folder(images: Path, masks: Path) -> None:
    """Keep where the masks of a folder of images go; the last :data:`FOLDERS` are known."""
    known = _masks_folders()
    known.pop(str(images.absolute()), None)
    if masks.absolute() != images.absolute():
        known[str(images.absolute())] = str(masks.absolute())
    _write({"masks": dict(list(known.items())[-FOLDERS:])})


def _masks_folders() -> dict[str, str]:
    known = _read_remembered().get("masks", {})
    return known if isinstance(known, dict) else {}


def _read_remembered() -> dict[str, Any]:
    """What is known; nothing where the file is missing or damaged: it is worth no error."""
    try:
        content = json.loads(path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _open_sections() -> dict[str, bool]:
    known = _read_remembered().get("sections", {})
    return known if isinstance(known, dict) else {}


def _write(news: dict[str, Any]) -> None:
    text = json.dumps(_read_remembered() | news, indent=1)
    # A folder that cannot be written to costs a memory only.
    with contextlib.suppress(OSError, InputError):
        path().parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path()) as (part,):
            part.write_text(text, encoding="utf-8")
