"""What the viewer, its layers and the controls of the panel tell the widget.

The widget's keys on the viewer: bound where they are free, gone when the widget closes.

The dialog that asks where a mask is written.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_info
from napari.viewer import Viewer
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_hidiff._qt import preferences
from napari_hidiff._qt.controls import settings
from napari_hidiff._qt.controls.elements import KEYS
from napari_hidiff._qt.controls.sections import KEYS as SLICE_KEYS
from napari_hidiff._qt.files import FILTERS, suggestion
from napari_hidiff._qt.layers.annotated_image import Bench
from napari_hidiff._qt.threads import attempt
from napari_hidiff.errors import InputError

if TYPE_CHECKING:
    from napari_hidiff._qt.widget import HiDiffWidget

ACTIONS = (
    *("segment", "step", "run", "rerefine", "accept", "export"),
    *("reject", "alternatives", "next_place"),
    *("new_mask", "complete", "go_on", "start_anew"),
)

"""Buttons whose click calls the method of the same name."""


class Listening:
    """Follows buttons, keys, choices, layers and slices; every method is told by an event.

    widget : complete but for this; its methods are what the buttons do.
    """

    def __init__(self, widget: "HiDiffWidget", viewer: Viewer) -> None:
        self._widget = widget
        self._fit = widget.fit
        layers, dims = viewer.layers.events, viewer.dims.events
        self._heard = [
            (layers.inserted, self.layers_changed),
            (layers.reordered, self.layers_changed),
            (layers.renamed, self.layers_changed),
            (layers.removed, self.layer_removed),
            (dims.order, self.slice_changed),
            (dims.current_step, self.slice_changed),
            (dims.ndisplay, self.slice_changed),
        ]
        for event, told in self._heard:
            event.connect(told)
        widget.choose.image.changed.connect(self.image_changed)
        widget.choose.prior.changed.connect(self.forget_priors)
        widget.settings.changed.connect(self.settings_changed)
        self._shortcuts = Shortcuts(viewer, self._buttons())
        self.layers_changed()
        self.image_changed()

    def close(self) -> None:
        """Let go of the viewer."""
        self._shortcuts.close()
        for event, told in self._heard:
            event.disconnect(told)

    def layers_changed(self, event: Any = None) -> None:
        """There are other layers to choose from, or other names."""
        self._widget.choose.image.reset_choices()
        self._widget.choose.prior.reset_choices()
        self._widget.chosen.ask_for_channels()
        self._fit.check_soon()

    def layer_removed(self, event: Any) -> None:
        """A layer is gone, and the work on it with it."""
        self._widget.benches.removed(event.value)
        self.layers_changed()
        self._widget.refresh()

    def image_changed(self, image: Any = None) -> None:
        """Another image is chosen."""
        if self._widget.image is not None:
            self._widget.benches.look_up(self._widget.image)
        self._widget.chosen.ask_for_channels()
        self.slice_changed()

    def slice_changed(self, event: Any = None) -> None:
        """Another slice is shown, or other layers are its channels."""
        self._widget.chosen.offer_slices(self._widget.volume)
        self._widget.refresh()
        self._fit.check_soon()

    def settings_changed(self, event: Any = None) -> None:
        """A run will take another time."""
        self._fit.check_soon()

    def forget_priors(self, event: Any = None) -> None:
        """No slice starts any more from what it started from."""
        for bench in self._widget.benches:
            for session in bench.annotation.sessions.values():
                session.forget()
        self._widget.refresh()

    def model_changed(self) -> None:
        """Another model is loaded, or none."""
        widget = self._widget
        if widget.models.model is not None:
            settings.adopt(widget.settings, widget.models.model.card, preferences.sampler())
        widget.chosen.ask_for_channels()
        widget.chosen.offer_slices(widget.volume)
        self.forget_priors()
        self._fit.check_soon()

    def _buttons(self) -> dict[str, Callable[[], object]]:
        """Join buttons, slider and check boxes to what they do; returns what each key does."""
        widget, panel, slices = self._widget, self._widget.panel, self._widget.volume.buttons
        actions: dict[str, Callable[[], None]] = {name: getattr(widget, name) for name in ACTIONS}
        actions["stop"] = widget.work.stop
        for name, action in actions.items():
            getattr(panel, name).clicked.connect(lambda _=False, do=action: attempt(do))
        for button in slices:
            do = getattr(widget, button.objectName())
            button.clicked.connect(lambda _=False, do=do: attempt(do))
        slider = panel.steps_slider
        slider.valueChanged.connect(self._scrubbed)
        panel.changes.toggled.connect(self._reveal)
        keys = {
            key: getattr(panel, name).click for name, key in KEYS.items() if hasattr(panel, name)
        }
        keys |= {SLICE_KEYS[button.objectName()]: button.click for button in slices}
        keys[KEYS["back"]] = lambda: slider.setValue(slider.value() - 1)
        keys[KEYS["forth"]] = lambda: slider.setValue(slider.value() + 1)
        return keys

    def _scrubbed(self, step: int) -> None:
        widget = self._widget
        if widget.bench is not None and widget.session is not None:
            widget.work.moments.show(widget.bench, widget.chosen.target().index, step)

    def _reveal(self, visible: bool) -> None:
        if self._widget.bench is not None:
            self._widget.bench.reveal(visible)


class Shortcuts:
    """Binds keys to actions.

    viewer : napari's viewer; actions : a function without arguments for every key. A key that is
    taken keeps its meaning, and one line says so.
    """

    def __init__(self, viewer: Viewer, actions: Mapping[str, Callable[[], Any]]) -> None:
        self._viewer = viewer
        self._bound: list[str] = []
        taken = []
        for key, action in actions.items():
            try:
                viewer.bind_key(key, _without_viewer(action))
                self._bound.append(key)
            except ValueError:
                taken.append(key)
        if taken:
            show_info(f"HiDiff leaves keys that are in use alone: {' '.join(taken)}")

    def close(self) -> None:
        """Unbind what was bound."""
        for key in self._bound:
            self._viewer.bind_key(key, None)
        self._bound.clear()


def _without_viewer(action: Callable[[], Any]) -> Callable[[Viewer], None]:
    def pressed(viewer: Viewer) -> None:
        action()

    return pressed


def ask_where(parent: QWidget, bench: Bench) -> Path | None:
    """Ask for a file, beside the image and in its format unless told otherwise; None: cancelled.

    A name without a suffix gets that of the chosen format; InputError where such a file exists
    already, for the dialog has asked about another name.
    """
    proposed = suggestion(bench.image, bench.mask)
    suffix = next(suffix for suffix in FILTERS if proposed.name.endswith(suffix))
    given, chosen = QFileDialog.getSaveFileName(
        parent, "Export the mask", str(proposed), ";;".join(FILTERS.values()), FILTERS[suffix]
    )
    if not given:
        return None
    wanted = next((suffix for suffix, text in FILTERS.items() if text == chosen), suffix)
    known = (*FILTERS, ".nii", ".tiff")
    if given.lower().endswith(known):
        return Path(given)
    path = Path(f"{given}{wanted}")
    if path.exists():
        raise InputError(f"{path} exists already: choose it by its whole name to replace it.")
    return path
