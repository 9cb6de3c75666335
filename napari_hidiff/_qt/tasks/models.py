"""The model box: which models there are, and the chosen one, loaded in a thread.

Whether the model can run on the shown slice, and what a run would take.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QFileDialog

from napari_hidiff._qt import messages, threads
from napari_hidiff._qt.controls.panel import Panel
from napari_hidiff._qt.controls.settings import FROM_FILE, MANAGE
from napari_hidiff.annotation.refinement import Settings
from napari_hidiff.errors import InputError
from napari_hidiff.inference.catalog import SUFFIX, available_models

if TYPE_CHECKING:
    from napari_hidiff._qt.tasks.model_manager import ModelManager
    from napari_hidiff.inference.cost import Estimate
    from napari_hidiff.inference.model import HiDiff


class Models(QObject):
    """Fills the model box, and loads what is chosen in it.

    box, device : the two magicgui boxes; changed : called when another model is ready, or none.
    prepared : called when the fast kernels of a model are compiled; it can refine before.
    """

    def __init__(
        self,
        box: Any,
        device: Any,
        changed: Callable[[], None],
        prepared: Callable[[], None],
    ) -> None:
        super().__init__()
        self.model: HiDiff | None = None
        """The chosen model, once it is loaded."""
        self._box, self._device = box, device
        self._changed, self._prepared = changed, prepared
        self._ready: dict[tuple[str, str], HiDiff] = {}
        self._chosen: str | None = None
        self._listed = False
        self._manager: ModelManager | None = None
        self._job: threads.Job | None = None
        self._preparing: threads.Job | None = None
        self._listing = threads.Job(threads.list_models, done=self._on_listed)
        self._offer([])
        box.changed.connect(self._on_choice)
        device.changed.connect(self._load)

    @property
    def none_known(self) -> bool:
        """Whether the models are listed and none is chosen."""
        return self._listed and self._chosen is None

    def loaded(self) -> "HiDiff":
        """The chosen model; raises InputError where there is none yet."""
        if self.model is None:
            raise InputError("The model is not loaded yet.")
        return self.model

    def use(self, name: str) -> None:
        """Offer a model by name or path, and choose it."""
        self._offer([*self._names(), name])
        self._box.value = name

    @property
    def chosen(self) -> str | None:
        """The name or path in the box."""
        return self._chosen

    def manage(self) -> "ModelManager":
        """Show which models there are, and what their cards say."""
        from napari_hidiff._qt.tasks.model_manager import ModelManager

        if self._manager is None:
            self._manager = ModelManager(self, self._box.native)
        self._manager.open_at(self._chosen)
        return self._manager

    def list_again(self) -> None:
        """Models came or went."""
        kept = [name for name in self._names() if name.endswith(SUFFIX) or name == self._chosen]
        self._offer([*available_models(), *kept])

    def forget(self) -> None:
        """Choose none."""
        if self._job is not None:
            self._job.cancel()
        self.model = self._chosen = None
        self._offer(self._names())
        self._changed()

    def close(self) -> None:
        """Wait for nobody."""
        for job in (self._listing, self._job, self._preparing):
            if job is not None:
                job.cancel()
        if self._manager is not None:
            self._manager.close()

    def _names(self) -> list[str]:
        return [name for name in self._box.choices if name not in (None, FROM_FILE, MANAGE)]

    def _offer(self, names: list[str]) -> None:
        names = list(dict.fromkeys(names))
        short = [_short(name) for name in names]
        texts = [
            name if short.count(one) > 1 else one for one, name in zip(short, names, strict=True)
        ]
        with self._box.changed.blocked():
            self._box.choices = [
                *zip(texts, names, strict=True),
                *((e, e) for e in (FROM_FILE, MANAGE)),
            ]
            self._box.value = self._chosen

    def _on_listed(self, names: list[str]) -> None:
        self._listed = True
        self._offer([*names, *self._names()])
        if self._chosen is None and names:
            self._box.value = names[0]
        elif self._chosen is None:
            self._changed()

    def _on_choice(self, name: str | None) -> None:
        if name == FROM_FILE:
            path, _ = QFileDialog.getOpenFileName(
                self._box.native, "Open a model", "", "Models (*.safetensors)"
            )
            with self._box.changed.blocked():
                self._box.value = self._chosen
            if path:
                self.use(path)
        elif name == MANAGE:
            with self._box.changed.blocked():
                self._box.value = self._chosen
            self.manage()
        elif name is None:
            self.forget()
        elif name != self._chosen:
            self._chosen = name
            self._load()

    def _load(self, event: Any = None) -> None:
        if self._chosen is None:
            return
        key = (self._chosen, str(self._device.value))
        self.model = self._ready.get(key)
        self._changed()
        if self.model is None:
            if self._job is not None:
                self._job.cancel()
            self._job = threads.Job(
                threads.load,
                *key,
                done=lambda model: self._on_loaded(key, model),
                ended=self._on_ended,
            )

    def _on_loaded(self, key: tuple[str, str], model: "HiDiff") -> None:
        self._ready[key] = self.model = model
        self._changed()
        self._preparing = threads.Job(threads.prepare, model, done=lambda _: self._prepared())

    def _on_ended(self) -> None:
        if self.model is None:  # it could not be loaded; the reason is on the screen
            self.forget()


def _short(name: str) -> str:
    """A model file by its folder and name: there is no room for a path, and every training writes
    a file of the same name."""
    path = Path(name)
    return f"{path.parent.name}/{path.stem}" if path.suffix == SUFFIX else name


WAITING = "Loading the model …"
COST = "Measured on this machine, segmentation included; memory at its peak."
SETTLE = 150
"""Milliseconds without a change of choice or settings before the fit is checked again."""


class Fit:
    """Keeps the line on top of the panel and the cost of a run up to date.

    shown : gives the slice on display, [H, W] or [H, W, C], or raises InputError.
    settings : gives how to refine. changed : called after every verdict.
    """

    def __init__(
        self,
        panel: Panel,
        models: Models,
        shown: Callable[[], np.ndarray],
        settings: Callable[[], Settings],
        changed: Callable[[], None],
    ) -> None:
        self.problem: str | None = WAITING
        """Why nothing can be run now; None when it can."""
        self._panel, self._models = panel, models
        self._shown, self._settings, self._changed = shown, settings, changed
        self._about: Any = None  # what the verdict is about: model, kind of image
        self._job: threads.Job | None = None
        self._closed = False
        self._timer = QTimer(panel)  # which lives until the widget was told of its end
        self._timer.setSingleShot(True)
        self._timer.setInterval(SETTLE)
        self._timer.timeout.connect(self._check)

    def check_soon(self) -> None:
        """Something was chosen or set; look again when the hand rests."""
        if not self._closed:
            self._timer.start()

    @property
    def looking(self) -> bool:
        """Whether a look at image and model is due or under way."""
        return self._timer.isActive() or self._job is not None

    def close(self) -> None:
        """Look no more."""
        self._closed = True
        self._timer.stop()
        if self._job is not None:
            self._job.cancel()

    def _check(self) -> None:
        if self._closed:
            return
        model = self._models.model
        if model is None:
            self._panel.cost.setText("")
        try:
            image = self._shown()
        except InputError as error:
            self._judge(None, str(error), str(error))
            return
        if model is not None:
            # A verdict stands while only settings, or slices of the same kind, change.
            about = (id(model), image.shape, image.dtype)
            if about != self._about:
                self._judge(about, WAITING, WAITING)
            if self._job is not None:
                self._job.cancel()
            self._job = threads.Job(
                threads.describe,
                model,
                image,
                self._settings(),
                done=lambda found: self._described(about, model, found),
                ended=self._looked,
            )
        elif self._models.none_known:
            self._judge(None, messages.no_model(), messages.no_model(), without_model=True)
        else:
            self._judge(None, WAITING, WAITING)

    def _described(
        self,
        about: Any,
        model: "HiDiff",
        found: "tuple[str | None, Estimate | None, list[str]]",
    ) -> None:
        if about != self._about or model is not self._models.model:  # chosen no longer
            return
        problem, estimate, doubts = found
        self._panel.cost.setText(messages.cost(estimate, model.backend) if estimate else "")
        self._panel.cost.setToolTip(model.backend.note or COST)
        if problem is None:
            self._judge(self._about, None, messages.fits(model.card, doubts))
        else:
            line = messages.no_fit(model.card.name, problem)
            self._judge(self._about, problem, line, without_model=True)

    def _looked(self) -> None:
        self._job = None

    def _judge(
        self, about: Any, problem: str | None, line: str, without_model: bool = False
    ) -> None:
        self._about, self.problem = about, problem
        self._panel.say(line, without_model)
        self._changed()
