"""The dock widget "HiDiff refine": it builds the window's parts, shows their state, closes them."""

from pathlib import Path

from napari.layers import Image
from napari.viewer import Viewer
from qtpy.QtCore import QEvent, QObject
from qtpy.QtGui import QDragEnterEvent, QDropEvent, QShowEvent
from qtpy.QtWidgets import QMainWindow, QMessageBox, QVBoxLayout, QWidget

from napari_hidiff._qt import garbage, messages, preferences, threads
from napari_hidiff._qt.actions import Tasks
from napari_hidiff._qt.controller import Controller
from napari_hidiff._qt.controls.panel import Panel
from napari_hidiff._qt.controls.settings import choose_box, settings_box
from napari_hidiff._qt.layers.annotated_image import AnnotatedImage
from napari_hidiff._qt.layers.annotated_images import AnnotatedImages
from napari_hidiff._qt.tasks.classes import Classes
from napari_hidiff._qt.tasks.drafts import Drafts
from napari_hidiff._qt.tasks.fine_tuning import Learning
from napari_hidiff._qt.tasks.model_fit import ModelFit
from napari_hidiff._qt.tasks.models import Models
from napari_hidiff._qt.tasks.own_model import OwnModel
from napari_hidiff._qt.tasks.queue import QueueTask, dropped
from napari_hidiff._qt.tasks.refinement import Refinement
from napari_hidiff._qt.tasks.selection import Selection
from napari_hidiff._qt.tasks.slices import ManySlices
from napari_hidiff.annotation.refinement import Settings
from napari_hidiff.annotation.session import Session
from napari_hidiff.annotation.suggestions import leaning


class HiDiffWidget(QWidget):
    """Segment the shown slice, refine it step by step, correct it, refine it again.

    viewer : napari's viewer; napari passes it to a plugin's widget.
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._closed = False
        self.annotated_images = AnnotatedImages(viewer, lambda image: self.work.abandon(image))
        self.settings = settings_box()
        self.settings.device.value = preferences.device()
        self.choose = choose_box(self.annotated_images.images, self.annotated_images.masks)
        self.panel = panel = Panel(self.choose, self.settings, preferences.near())
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(panel)
        self.setSizePolicy(panel.sizePolicy())
        self.setMinimumWidth(panel.minimumWidth())

        self.models = Models(self.choose.model, self.settings.device)
        self.selection = Selection(
            viewer, self.choose, panel.settings.channels, self.annotated_images, self.models
        )
        self.classes = Classes(panel.annotate.classes, self.selection)
        self.work = Refinement(
            panel.annotate, panel.settings.changes.isChecked, lambda: self.fit.seconds
        )
        self.slices = ManySlices(panel.settings.volume, panel.annotate, self.work)
        self.fit = ModelFit(panel, self.models, self.selection.picture, self._how, self.refresh)
        self.learning = Learning(
            panel.settings.learn, self.selection, self.models, self.settings.device
        )
        self.queue = QueueTask(
            viewer, panel, self.annotated_images, self.models, self.fit, self.work
        )
        self.drafts = Drafts(panel.queue, self.models, self.queue)
        self.own_model = OwnModel(panel.queue.own, self.queue, self.models, self.settings.device)
        self.setAcceptDrops(True)
        preferences.remember_sections(self)
        self.destroyed.connect(lambda: self.shut_down(window_gone=True))
        threads.watch(self)
        self._garbage = garbage.collector()
        self._garbage.start(self)
        for ready in (self.models.changed, self.models.prepared):
            ready.connect(self._garbage.spare)
        tasks = Tasks(
            self.annotated_images,
            self.selection,
            self.models,
            self.fit,
            self.work,
            self.slices,
            self.queue,
        )
        self.controller = Controller(viewer, panel, self.choose, self.settings, tasks, self.refresh)
        self.refresh()

    @property
    def closed(self) -> bool:
        """Whether dock or window are gone."""
        return self._closed

    @property
    def image(self) -> Image | None:
        """The chosen image layer."""
        return self.selection.image

    @property
    def bench(self) -> AnnotatedImage | None:
        """The chosen image with its mask, once something was done to it."""
        return self.selection.annotated

    @property
    def session(self) -> Session | None:
        """The session of the shown slice, once something was done to it."""
        return self.selection.session

    def use_model(self, path: Path | str) -> None:
        """Offer a model file in the model box and choose it."""
        self.models.use(str(path))

    def _how(self) -> Settings:
        """The settings with the scale of the shown slice."""
        how: Settings = self.settings()
        card = self.selection.card
        return how if card is None else self.selection.target().settings(how, card)

    def refresh(self) -> None:
        """Bring buttons and lines up to date with the chosen image, its mask and the slice."""
        if self._closed or not hasattr(self, "controller"):
            return
        self.learning.refresh()
        annotated, session, work = self.bench, self.session, self.work
        index = None if session is None else self.selection.target().index
        begun = session is not None and (session.begun or session.prior is not None)
        ready = self.fit.problem is None and not work.busy
        self._enable(ready, begun)
        page = self.panel.annotate
        page.image_name.setText(messages.image_name(self.image.name if self.image else None))
        page.open_sample.setVisible(self.image is None)
        card = self.selection.card
        page.segment.setText(messages.find(card))
        page.show_prompts(card is not None and card.prompted)
        kept = self.annotated_images.offer(self.image)
        page.offer(messages.offer(kept) if kept else None)
        tour = self.controller.tour.progress(session) if session and begun else None
        page.place.setText(messages.tour(tour))
        doubt = None
        if annotated and session and tour and annotated.marked == index and card is not None:
            there = leaning(session.current_probability, tour.place)
            doubt = messages.doubt(card.classes, there.tolist())
        changes = annotated.changes_in(index) if annotated and index is not None else None
        yours = session.timeline.fixed_count if session else 0
        page.counts.setText(messages.counts(changes, yours))
        page.accept.setChecked(session is not None and session.done)
        page.next_line.setText(
            messages.next_step(
                image=self.image is not None,
                busy=work.busy,
                problem=self.fit.problem,
                without_model=page.works_without_model,
                prompted=card is not None and card.needs_prompt,
                begun=begun or (session is not None and session.worth_keeping),
                painted=session is not None and session.timeline.painted_since,
                at_once=page.after_stroke.isChecked(),
                done=session is not None and session.done,
                doubt=doubt,
                queue=self.queue.shows(self.image),
            )
        )
        if annotated is not None and index is not None:
            sessions = annotated.annotation.sessions.values()
            first, last = self.panel.settings.volume.range
            page.count_slices(sum(one.done for one in sessions), last - first + 1)
        else:
            page.count_slices(0, 0)
        self.classes.refresh()
        if annotated is not None:
            wanted = self.panel.settings.strokes.isChecked()
            annotated.show_strokes(index if wanted else None)
        if annotated is None or index is None:
            page.show_moment(0, 0)
        elif not work.busy:
            work.preview.tell(annotated, index, page.steps_slider.value(), idle=True)

    def _enable(self, ready: bool, begun: bool) -> None:
        """Enable what can be done now; ready : the model can run; begun : there is a mask."""
        page, slices = self.panel.annotate, self.panel.settings.volume
        annotated, session, busy = self.bench, self.session, self.work.busy
        for button in (page.segment, page.step, page.run, page.refine_slices, slices.segment):
            button.setEnabled(ready)
        for button in (page.carry, slices.carry_back, slices.carry_on, slices.fill):
            button.setEnabled(ready)
        card = self.selection.card
        prompted = card is not None and card.prompted  # an update asks for the first mask
        page.rerefine.setEnabled(ready and (begun or prompted))
        page.alternatives.setEnabled(ready and begun)
        page.box.setEnabled(ready)
        for button in (page.paint, page.erase, page.new_object):
            button.setEnabled(self.fit.readable)
        page.stop.setEnabled(busy)
        page.next_place.setEnabled(begun and not busy)
        nothing = self.queue.shows(self.image) and self.fit.readable  # to be seen in this one
        page.accept.setEnabled((session is not None or nothing) and not busy)
        for button in (page.export, self.panel.settings.sizes):
            button.setEnabled(annotated is not None)
        page.new_mask.setEnabled(self.image is not None and annotated is None)
        page.complete.setEnabled(session is not None and not busy)
        slices.take_back.setEnabled(not busy and self.slices.can_take_back(annotated))
        outlined, last = False, False
        if annotated is not None and session is not None and not busy:
            index = self.selection.target().index
            outlined = self.work.preview.outlined(annotated, index) is not None
            last = annotated.link.rejectable == index
        page.use_this.setEnabled(outlined)
        page.reject.setEnabled(outlined or last)

    def showEvent(self, event: QShowEvent) -> None:  # Qt's name
        """Watch napari's window from now on: it may be closed with work in it."""
        super().showEvent(event)
        window = self.window()
        if isinstance(window, QMainWindow):
            window.installEventFilter(self)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:  # Qt's name
        """A folder, or several of its images, may be dropped here."""
        if dropped(event.mimeData()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:  # Qt's name
        """Open what was dropped as a queue."""
        paths = dropped(event.mimeData())
        if paths:
            event.acceptProposedAction()
            threads.attempt(self.queue.open_list, paths)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # Qt's name
        """Ask before the window is closed with masks in it that are kept nowhere."""
        if event.type() != QEvent.Type.Close or self._closed or watched is not self.window():
            return False
        names = [one.image.name for one in self.annotated_images if one.unsaved]
        if not names:
            return False
        yes, no = QMessageBox.StandardButton.Yes, QMessageBox.StandardButton.No
        question = messages.unsaved(names)
        if QMessageBox.question(self, "HiDiff", question, yes | no, no) == yes:
            return False
        event.ignore()
        return True

    def event(self, event: QEvent) -> bool:
        """napari takes a closed dock widget out of its parent: that is the end of this one."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.shut_down()
            self.deleteLater()  # through Qt, its buttons hold it: it would never be freed
        return bool(super().event(event))

    def shut_down(self, window_gone: bool = False) -> None:
        """Save, stop, disconnect; mask layers stay. Called when dock or window are closed."""
        if self._closed:
            return
        self._closed = True
        self.drafts.close()
        self.queue.close()
        self.work.close()
        self.annotated_images.close(tidy=not window_gone)  # saves: nothing that fails comes before
        self.learning.close()
        self.own_model.close()
        self.fit.close()
        self.models.close()
        self.classes.close()
        self.controller.close()
        self._garbage.stop(self)
