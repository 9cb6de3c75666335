"""The plugin's page in napari's Preferences (declared in napari.yaml).

Which sections of the widget are open: remembered from one start to the next.
"""

import contextlib
import json
from pathlib import Path

from napari.settings import get_plugin_settings
from qtpy.QtCore import QSize
from qtpy.QtWidgets import QWidget
from superqt import QCollapsible

from napari_hidiff.annotation import sidecar

PLUGIN = "napari-hidiff"

BY_CARD = "card"
"""The preferred sampler where the model's card is to say."""


def device() -> str:
    """The device that the widget starts with: auto, cpu, cuda or mps."""
    return str(_read("work", "device", "auto"))


def keep_strokes() -> bool:
    """Whether strokes and accepted masks are kept in a sidecar."""
    return bool(_read("work", "keep_strokes", True))


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


def hint() -> bool:
    """Whether the first-run hint is shown."""
    return bool(_read("look", "hint", True))


def dismiss_hint() -> None:
    """Show the hint no more, also after the next start."""
    try:
        get_plugin_settings(PLUGIN).look.hint = False
    except KeyError:  # as in _read: nowhere to remember it
        return


def _read(section: str, name: str, default: object) -> object:
    try:
        return getattr(getattr(get_plugin_settings(PLUGIN), section), name)
    except KeyError:  # the widget is used without the plugin being installed
        return default


NAME = "interface.json"
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
    known = _read_remembered()
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
    button.clicked.connect(lambda _=False: _write(name, section.isExpanded()))


def _point(section: QCollapsible) -> None:
    """An arrow as part of the text, which has the colour of the theme; superqt's icon has not."""
    button = section.toggleButton()
    text = button.text().lstrip(ARROWS + " ")
    button.setText(f"{ARROWS[section.isExpanded()]} {text}")


def _read_remembered() -> dict[str, bool]:
    """What is known; nothing where the file is missing or damaged: it is worth no error."""
    try:
        content = json.loads(path().read_text(encoding="utf-8"))
        return {str(name): bool(open_) for name, open_ in content["sections"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write(name: str, open_: bool) -> None:
    text = json.dumps({"sections": {**_read_remembered(), name: open_}}, indent=1)
    with contextlib.suppress(OSError):  # a folder that cannot be written to costs a memory only
        path().parent.mkdir(parents=True, exist_ok=True)
        part = path().with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        part.replace(path())
