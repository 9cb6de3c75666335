"""The model box: which models there are, and the chosen one, loaded in a thread."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QFileDialog

from napari_hidiff._qt import preferences, threads
from napari_hidiff._qt.controls.settings import FROM_FILE, MANAGE, NO_MODEL
from napari_hidiff._qt.layers.layer_data import prepare_drawing
from napari_hidiff.errors import InputError
from napari_hidiff.inference import catalog
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.catalog import SUFFIX
from napari_hidiff.inference.ood import fitting

if TYPE_CHECKING:
    from napari_hidiff._qt.tasks.model_manager import ModelManager
    from napari_hidiff.inference.model import HiDiff


class Models(QObject):
    """Fills the model box, and loads what is chosen in it.

    box, device : the two magicgui boxes.
    """

    changed = Signal()
    """Another model is ready, or none is."""
    prepared = Signal()
    """The fast kernels of a model are compiled; it can refine before."""
    listed = Signal()
    """It is known which models there are."""

    def __init__(self, box: Any, device: Any) -> None:
        super().__init__()
        self.model: HiDiff | None = None
        """The chosen model, once it is loaded."""
        self._box, self._device = box, device
        self._ready: dict[tuple[str, str], HiDiff] = {}
        self._chosen: str | None = None
        self._by_user = False
        self._cards: dict[str, Card] = {}
        self._listed = False
        self._manager: ModelManager | None = None
        self._job: threads.Job | None = None
        self._preparing: threads.Job | None = None
        self._suggesting: threads.Job | None = None
        self._listing = threads.Job(_list, done=self._on_listed)
        self._offer([])
        box.changed.connect(self._on_choice)
        device.changed.connect(self._load)

    @property
    def none_known(self) -> bool:
        """Whether the models are listed and none is chosen."""
        return self._listed and self._chosen is None and self._suggesting is None

    @property
    def cards(self) -> dict[str, Card]:
        """The cards of the installed models by name, as far as they can be used."""
        return self._cards

    @property
    def chosen_by_user(self) -> bool:
        """Whether the user chose what the box says, none included."""
        return self._by_user

    def suggest(self, candidates: Mapping[str, tuple[Card, np.ndarray]]) -> None:
        """Choose the model that an image fits: the one used last if it does, else the one whose
        training images are most alike; none where it fits no model.

        candidates : the installed models that read images of this kind, with their cards, and the
        image [H, W] or [H, W, C] as each reads it.
        """
        self._by_user = False
        if self._suggesting is not None:
            self._suggesting.cancel()
        self._suggesting = threads.Job(fitting, candidates, done=self._on_suggested)

    def _on_suggested(self, fitting_names: list[str]) -> None:
        self._suggesting = None
        last = preferences.last_model()
        name = last if last in fitting_names else next(iter(fitting_names), None)
        if name is None:
            self.forget()
            self._by_user = False
        elif name != self._chosen:
            with self._box.changed.blocked():
                self._box.value = name
            self._choose(name)
        else:
            self.changed.emit()

    def loaded(self) -> "HiDiff":
        """The chosen model; raises InputError where there is none yet."""
        if self.model is None:
            raise InputError("The model is not loaded yet.")
        return self.model

    def use(self, name: str) -> None:
        """Offer a model by name or path, and choose it."""
        self._offer([*self._names(), name])
        self._choose_by_user()
        self._box.value = name

    @property
    def chosen(self) -> str | None:
        """The name or path in the box."""
        return self._chosen

    def manage(self) -> "ModelManager":
        """Show which models there are, and what their cards say."""
        from napari_hidiff._qt.tasks.model_manager import ModelManager

        if self._manager is None:
            self._manager = ModelManager(self._box.native)
            self._manager.chosen.connect(self.use)
            self._manager.changed.connect(self.list_again)
            self._manager.removed.connect(self._on_removed)
        self._manager.open_at(self._chosen)
        return self._manager

    def list_again(self) -> None:
        """Models came or went."""
        kept = [name for name in self._names() if name.endswith(SUFFIX) or name == self._chosen]
        self._cards = _read_cards()
        self._offer([*self._cards, *kept])

    def _on_removed(self, name: str) -> None:
        if self._chosen == name:
            self.forget()
        self.list_again()

    def _choose_by_user(self) -> None:
        self._by_user = True
        if self._suggesting is not None:
            self._suggesting.cancel()
            self._suggesting = None

    def forget(self) -> None:
        """Choose none."""
        self._choose_by_user()
        if self._job is not None:
            self._job.cancel()
        self.model = self._chosen = None
        self._offer(self._names())
        self.changed.emit()

    def close(self) -> None:
        """Wait for nobody."""
        for job in (self._listing, self._suggesting, self._job, self._preparing):
            if job is not None:
                job.cancel()
        if self._manager is not None:
            self._manager.close()

    @property
    def names(self) -> list[str]:
        """What can be chosen."""
        return self._names()

    def _names(self) -> list[str]:
        return [name for name in self._box.choices if name not in (None, FROM_FILE, MANAGE)]

    def _offer(self, names: list[str]) -> None:
        names = list(dict.fromkeys(names))
        short = [_short(name) for name in names]
        texts = [
            name if short.count(one) > 1 else one for one, name in zip(short, names, strict=True)
        ]
        with self._box.changed.blocked():
            self._box.choices = []  # or magicgui leaves old entries in front of new ones
            self._box.choices = [
                *zip(texts, names, strict=True),
                (NO_MODEL, None),
                *((e, e) for e in (FROM_FILE, MANAGE)),
            ]
            self._box.value = self._chosen

    def _on_listed(self, cards: dict[str, Card]) -> None:
        self._listed, self._cards = True, cards
        self._offer([*cards, *self._names()])
        self.listed.emit()

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
            self._choose_by_user()
            preferences.remember_model(name)
            self._choose(name)

    def _choose(self, name: str) -> None:
        self._chosen = name
        self._load()

    def _load(self, event: Any = None) -> None:
        if self._chosen is None:
            return
        key = (self._chosen, str(self._device.value))
        self.model = self._ready.get(key)
        self.changed.emit()
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
        self.changed.emit()
        self._preparing = threads.Job(threads.prepare, model, done=lambda _: self.prepared.emit())

    def _on_ended(self) -> None:
        if self.model is None:  # it could not be loaded; the reason is on the screen
            self.forget()


def _read_cards() -> dict[str, Card]:
    """The cards of the installed models, the bundled ones first, and of the file used last."""
    found = list(catalog.entries())
    last = preferences.last_model()
    if last is not None and last.endswith(SUFFIX):
        with suppress(InputError):  # it may be gone
            found.append(catalog.entry(last))
    return {one.name: one.card for one in found if one.card is not None}


def _list() -> dict[str, Card]:
    """The cards, and what is best prepared while nothing is drawn yet."""
    cards = _read_cards()
    prepare_drawing()
    return cards


def _short(name: str) -> str:
    """A model file by its folder and name: there is no room for a path, and every training writes
    a file of the same name."""
    path = Path(name)
    return f"{path.parent.name}/{path.stem}" if path.suffix == SUFFIX else name
