"""The model box: which models there are, and the chosen one, loaded in a thread."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject
from qtpy.QtWidgets import QFileDialog

from napari_hidiff._qt import threads
from napari_hidiff._qt.controls.settings import FROM_FILE, MANAGE
from napari_hidiff.errors import InputError
from napari_hidiff.inference.catalog import SUFFIX, available_models

if TYPE_CHECKING:
    from napari_hidiff._qt.tasks.model_manager import ModelManager
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
