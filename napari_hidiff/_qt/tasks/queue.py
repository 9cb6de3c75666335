"""A folder of images, annotated one after another: what is saved, shown and closed when."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image, Layer
from napari.utils.notifications import show_info, show_warning
from napari.viewer import Viewer
from qtpy.QtCore import QMimeData, QObject, QTimer, Signal
from qtpy.QtWidgets import QFileDialog

from napari_hidiff._qt import messages, preferences, threads
from napari_hidiff._qt.controls.panel import Panel
from napari_hidiff._qt.files import LayerData, read_layer
from napari_hidiff._qt.layers.annotated_images import AnnotatedImages
from napari_hidiff._qt.tasks.model_fit import ModelFit
from napari_hidiff._qt.tasks.models import Models
from napari_hidiff._qt.tasks.refinement import Refinement
from napari_hidiff.annotation.folder.queue import Item, Queue, State, one_folder
from napari_hidiff.errors import InputError, first_line
from napari_hidiff.io.registry import read_labelled

LOOK = 50
"""Milliseconds between two looks at whether an image that was opened is ready to be worked on."""


@dataclass
class Opened:
    """An image of the queue that was read, or why it was not.

    mask : the mask that is on disk already, integers of the image's shape; None = there is none, or
    ``said`` tells why it cannot be used. made_by : the digest of the model that it is a draft of,
    else empty.
    """

    item: Item
    layer: LayerData | None = None
    mask: np.ndarray | None = None
    made_by: str = ""
    problem: str = ""
    said: str = ""


class QueueTask(QObject):
    """Shows one image of the folder at a time; the mask is saved before the image is left.

    Saving and reading go on in a thread. Only the shown image is in memory.
    """

    changed = Signal()
    """Another folder or image is open, or the state of one is another."""

    def __init__(
        self,
        viewer: Viewer,
        panel: Panel,
        annotated_images: AnnotatedImages,
        models: Models,
        fit: ModelFit,
        work: Refinement,
    ) -> None:
        super().__init__()
        self.queue: Queue | None = None
        self.item: Item | None = None
        """The image of the queue that is shown."""
        self._viewer, self._annotate, self._page = viewer, panel.annotate, panel.queue
        self._annotated_images, self._models = annotated_images, models
        self._fit, self._work = fit, work
        self._image: Image | None = None
        self._opened: Opened | None = None  # what is still to be brought up
        self._skipped: set[str] = set()
        self._job: threads.Job | None = None
        self._due: Callable[[], None] | None = None  # what waits for work to end
        work.ended.connect(self._go_on)
        self._timer = QTimer(self)
        self._timer.setInterval(LOOK)
        self._timer.timeout.connect(self._bring_up)
        for button, action in (
            (self._page.open_folder, self._ask_for_folder),
            (self._page.masks_to, self._ask_for_masks),
        ):
            button.clicked.connect(lambda _=False, do=action: threads.attempt(do))
        self._page.chosen.connect(lambda name: threads.attempt(self.go_to, name))

    @property
    def busy(self) -> bool:
        """Whether a folder or an image is being opened, or a mask saved."""
        return self._job is not None or self._opened is not None

    def shows(self, image: Image | None) -> bool:
        """Whether an image layer is the shown image of the queue."""
        return image is not None and image is self._image

    def open(
        self, folder: Path, masks: Path | None = None, only: Collection[str] | None = None
    ) -> None:
        """List the images of a folder and show the one where one stopped; raises InputError as
        :meth:`next`.

        masks : where masks are written; None = as chosen for this folder before, or beside the
        images. only : the names of some of the images; None = all of them.
        """
        given = folder, masks or preferences.masks_folder(folder), only
        if self.queue is not None and folder.absolute() == self.queue.folder:
            self._start(Queue, *given, done=self._listed)  # the shown image stays
        else:
            self._leave(False, lambda: self._start(Queue, *given, done=self._listed))

    def open_list(self, paths: Collection[Path]) -> None:
        """List a folder, or files of one folder; raises InputError as :meth:`open`, and for files
        of several folders."""
        folder, only = one_folder(paths)
        self.open(folder, only=only)

    def next(self) -> None:
        """Save the mask, which is done, and show the next image that is not.

        An image on which nothing was found or painted stays as it is, and comes again last.
        Work on the image is waited for. Raises InputError while another image is being opened, or
        if no folder is open.
        """
        if self.queue is None:
            raise InputError("Open a folder first: the page Queue, Open folder.")
        self._leave(True, self._fetch_next)

    def go_to(self, name: str) -> None:
        """Save the mask, which is not done by that, and show another image; raises InputError as
        :meth:`next`."""
        if self.queue is not None and (self.item is None or name != self.item.name):
            item = self.queue[name]
            item.problem = ""  # it may have been mended
            self._leave(False, lambda: self._fetch(item))

    def exported(self, path: Path) -> None:
        """The user saved the mask of the shown image into a file."""
        item = self.item
        if self.queue is not None and item is not None and path.absolute() == item.mask:
            self.queue.adopt(item)
            self._tell()

    def close(self) -> None:
        """Touch nothing any more."""
        self._timer.stop()
        if self._job is not None:
            self._job.cancel()

    def _ask_for_folder(self) -> None:
        start = str(self.queue.folder) if self.queue else ""
        chosen = QFileDialog.getExistingDirectory(self._page, "Open a folder of images", start)
        if chosen:
            self.open(Path(chosen))

    def _ask_for_masks(self) -> None:
        if self.queue is None:
            return
        start = str(self.queue.masks)
        chosen = QFileDialog.getExistingDirectory(self._page, "Write masks into", start)
        if chosen:
            self.open(self.queue.folder, Path(chosen), self.queue.only)

    # From one image to the next.

    def _leave(self, final: bool, then: Callable[[], None]) -> None:
        """Save the mask of the shown image, and go on with ``then`` once it is on disk."""
        if self._job is not None:
            raise InputError("The next image is being opened.")
        if self._work.busy:  # perhaps the update after a last stroke
            self._due = lambda: self._leave(final, then)
            show_info("The next image is opened as soon as this one is updated; Stop ends that.")
            return
        self._due = None
        annotated, item = self._annotated_images.of(self._image), self.item
        if annotated is None or item is None or self.queue is None or not annotated.worth_saving:
            if item is not None and final:
                self._skipped.add(item.name)
            then()
            return
        state: State = "done" if final or item.state == "done" or annotated.all_done else "begun"
        if annotated.exported and (item.state == state or (item.state == "drafted" and not final)):
            then()
            return

        def saved(_: Any) -> None:
            if annotated.exported:
                then()
            else:  # painted on meanwhile
                self._job = None
                self._leave(final, then)

        self._start(_save, self.queue, item, annotated.writer(), state, done=saved)

    def _go_on(self) -> None:
        """The work is over: leave the image, if that was asked for."""
        due, self._due = self._due, None
        if due is not None:
            threads.attempt(due)

    def _listed(self, queue: Queue) -> None:
        self._job = None
        preferences.remember_masks_folder(queue.folder, queue.masks)
        self._skipped.clear()
        shown = self.item if self.queue and self.queue.folder == queue.folder else None
        self.queue, self.item = queue, None
        self._page.show_queue((queue.folder, queue.masks), queue.items)
        if shown is None or shown.name not in queue:
            self._fetch(queue.first())
            return
        self.item = queue[shown.name]
        annotated = self._annotated_images.of(self._image)
        if annotated is not None and not self.item.saved:
            annotated.mark_exported(False)
        self._tell()

    def _fetch_next(self) -> None:
        assert self.queue is not None
        name = self.item.name if self.item else None
        waiting = [item.name for item in self.queue.items if item.state != "done"]
        if self._skipped.issuperset(waiting):
            self._skipped.clear()
        useful = self._page.useful.isChecked()
        self._fetch(self.queue.after(name, useful, self._skipped))

    def _fetch(self, item: Item | None) -> None:
        if item is not None and self.queue is not None:
            self._start(_read, self.queue, item, done=self._show)
            return
        self._tell()
        if self.queue is not None:
            show_info(messages.queue_over(self.queue.done, len(self.queue)))

    def _show(self, opened: Opened) -> None:
        """Put an image in the place of the one before."""
        self._job = None
        item = opened.item
        if opened.layer is not None:
            try:
                layer = Layer.create(*opened.layer)
                if not isinstance(layer, Image):
                    opened.problem = f"{item.path}: is a mask, not an image"
            except Exception as error:  # napari refuses arrays in many ways
                opened.problem = f"{item.path}: cannot be shown: {first_line(error)}"
        if opened.problem:
            item.problem = opened.problem
            show_warning(opened.problem)
            self._fetch_next()
            return
        if opened.said:
            show_warning(opened.said)
        before, layers = self._image, self._viewer.layers
        layers.insert(0, layer)
        if before is not None:
            # From the top on, and with the canvas drawn in between: removed at once, napari's
            # canvas does not survive the next drawing (napari 0.9, vispy 0.17, Mesa).
            for old in [*self._annotated_images.put_away(before), before]:
                if old in layers:
                    layers.remove(old)
                    self._viewer.screenshot(flash=False)
        layers.selection.active = layer
        for axis in range(self._viewer.dims.ndim - 2):
            self._viewer.dims.set_current_step(axis, self._viewer.dims.nsteps[axis] // 2)
        self._viewer.reset_view()
        self.item, self._image, self._opened = item, layer, opened
        self._timer.start()
        self._tell()

    def _bring_up(self) -> None:
        """Once the image was looked at: what was done to it before."""
        image, opened, models = self._image, self._opened, self._models
        if image is None or opened is None or image not in self._viewer.layers:
            self._settled()
            return
        loading = models.model is None and not models.none_known
        if self._fit.looking or loading or not self._annotated_images.looked_up(image):
            return
        self._settled()
        if self._annotated_images.of(image) is None:  # nothing was begun meanwhile
            threads.attempt(self._bring_back, image, opened)

    def _settled(self) -> None:
        self._opened = None
        self._timer.stop()

    def _bring_back(self, image: Image, opened: Opened) -> None:
        model = self._models.model
        card = model.card if model else None
        if self._annotated_images.offer(image) is not None:
            self._annotated_images.open(image, card, go_on=True).mark_exported(False)
        elif opened.mask is not None:
            annotated = self._annotated_images.open(image, card)
            mask, shape = opened.mask, annotated.mask.data.shape
            if mask.shape != shape and mask.size == np.prod(shape):
                mask = mask.reshape(shape)  # a picture that was written as a stack of one
            if mask.shape != shape:
                opened.item.saved = False
                raise InputError(
                    f"{opened.item.first_mask}: has shape {mask.shape}, the image needs {shape}; "
                    "it stays, and a new mask goes into a file beside it."
                )
            known = model is not None and not model.card.prompted and mask.max() < model.labels
            own = model is not None and model.digest == opened.made_by
            annotated.put(mask, known, own)
            annotated.mark_exported(True)

    def _start(self, function: Callable[..., Any], *args: Any, done: Callable[..., None]) -> None:
        job = threads.Job(function, *args, done=done, ended=lambda: self._ended(job))
        self._job = job
        self._tell()

    def _ended(self, job: threads.Job) -> None:
        """A job is over; where it failed, nothing follows and the shown image stays."""
        if self._job is job:
            self._job = None
        self._tell()

    def _tell(self) -> None:
        self.refresh()
        self.changed.emit()

    def refresh(self) -> None:
        """Bring page and button up to date."""
        queue = self.queue
        done = (queue.done, len(queue)) if queue else None
        self._annotate.show_queue(done, self._job is None)
        self._page.update_state(self.item, messages.queue(*done) if done else "")
        self.changed.emit()


def dropped(data: QMimeData) -> list[Path]:
    """The one folder, or the files, that are dragged; nothing for a single file, which napari
    opens, and for what else there is."""
    paths = [Path(url.toLocalFile()) for url in data.urls() if url.isLocalFile()]
    if len(paths) == 1:
        return paths if paths[0].is_dir() else []
    return paths


def _save(queue: Queue, item: Item, write: Callable[[Path], None], state: State) -> None:
    """In a thread: write the mask of an image and keep its state."""
    write(queue.claim(item))
    queue.keep(item, state)


def _read(queue: Queue, item: Item) -> Opened:
    """In a thread: read an image and its mask, and keep that it is shown."""
    opened = Opened(item)
    try:
        opened.layer = read_layer(item.path)
    except InputError as error:
        opened.problem = str(error)
        return opened
    except Exception as error:  # damaged bytes raise many kinds
        opened.problem = f"{item.path}: cannot be read: {first_line(error)}"
        return opened
    path = item.first_mask
    if path is not None:
        try:
            opened.mask = read_labelled(path).mask
            opened.made_by = item.made_by if path == item.draft else ""
        except InputError as error:
            item.saved = False  # it stays as it is
            opened.said = f"{error}. It stays; a new mask goes into a file beside it."
    try:
        queue.show(item)
    except InputError as error:
        opened.said = str(error)
    return opened
