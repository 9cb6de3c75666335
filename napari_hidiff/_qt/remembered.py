"""Which sections of the widget are open: remembered from one start to the next."""

import contextlib
import json
from pathlib import Path

from qtpy.QtCore import QSize
from qtpy.QtWidgets import QWidget
from superqt import QCollapsible

from napari_hidiff import sidecar

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
    """Open and close every named QCollapsible in a widget as it was left, and remember changes."""
    known = _read()
    for section in widget.findChildren(QCollapsible):
        name = section.objectName()
        if not name:
            continue
        section.toggleButton().setToolTip(
            section.toggleButton().toolTip() or "Open or close this section; it stays so."
        )
        if name in known:
            (section.expand if known[name] else section.collapse)(animate=False)
        section.toggleButton().setIconSize(QSize(0, 0))
        section.toggleButton().setStyleSheet(HEADING)
        _point(section)
        section.toggled.connect(lambda open_, at=section, name=name: _toggled(at, name, open_))


def _toggled(section: QCollapsible, name: str, open_: bool) -> None:
    _point(section)
    _write(name, open_)


def _point(section: QCollapsible) -> None:
    """An arrow as part of the text, which has the colour of the theme; superqt's icon has not."""
    button = section.toggleButton()
    text = button.text().lstrip(ARROWS + " ")
    button.setText(f"{ARROWS[section.isExpanded()]} {text}")


def _read() -> dict[str, bool]:
    """What is known; nothing where the file is missing or damaged: it is worth no error."""
    try:
        content = json.loads(path().read_text(encoding="utf-8"))
        return {str(name): bool(open_) for name, open_ in content["sections"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write(name: str, open_: bool) -> None:
    text = json.dumps({"sections": {**_read(), name: open_}}, indent=1)
    with contextlib.suppress(OSError):  # a folder that cannot be written to costs a memory only
        path().parent.mkdir(parents=True, exist_ok=True)
        part = path().with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        part.replace(path())
