"""The dock widget "HiDiff refine": it joins layers, models, the panel and the work under way.

What can be done now, and what the lines of the panel say.
"""

from functools import partial
from pathlib import Path

import numpy as np
from napari.layers import Image
from napari.utils.notifications import show_info
from napari.viewer import Viewer
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_hidiff._qt import garbage, messages, preferences, threads
from napari_hidiff._qt.controller import Listening, ask_where
from napari_hidiff._qt.controls import settings as choices
from napari_hidiff._qt.controls.elements import Hint
from napari_hidiff._qt.controls.panel import Panel
from napari_hidiff._qt.controls.sections import ChannelBox, LearnBox, VolumeBox
from napari_hidiff._qt.layers.annotated_image import Bench, Benches
from napari_hidiff._qt.preferences import remember_sections
from napari_hidiff._qt.tasks.fine_tuning import Learning
from napari_hidiff._qt.tasks.models import Fit, Models
from napari_hidiff._qt.tasks.next_result import Alternatives, Tour, look_at
from napari_hidiff._qt.tasks.refinement import Refinement
from napari_hidiff._qt.tasks.selection import Chosen, Classes
from napari_hidiff._qt.tasks.slices import Sweeps
from napari_hidiff._qt.threads import attempt
from napari_hidiff.annotation.constraints import Guards
from napari_hidiff.annotation.refinement import Settings
from napari_hidiff.annotation.session import Session
from napari_hidiff.errors import InputError


class HiDiffWidget(QWidget):
    """Segment the shown slice, refine it step by step, correct it, refine it again.

    viewer : napari's viewer; napari passes it to a plugin's widget.
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._closed = False

        self.benches = Benches(
            viewer,
            self.refresh,
            lambda bench: self.work.abandon(bench),
            lambda: self._listening.image_changed(),
        )
        self.settings = choices.settings_box()
        self.settings.device.value = preferences.device()
        self.choose = choices.choose_box(self.benches.images, self.benches.masks)
        self._channels = ChannelBox(lambda: self._listening.slice_changed())
        self.volume = VolumeBox(lambda axis: self.chosen.turn(axis))
        self.classes = Classes(lambda: self.bench, lambda: self.chosen.card)
        self.panel = Panel(
            self.choose, self.settings, self._channels, self.volume, Hint(), self.classes.box
        )
        self.panel.near.setChecked(preferences.near())
        self.work = Refinement(self.panel, self.refresh)
        self.sweeps = Sweeps(self.volume, self.work)
        self._alternatives = Alternatives(self.panel, self.work)
        self.tour = Tour()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.panel)
        self.setSizePolicy(self.panel.sizePolicy())
        self.setMinimumWidth(self.panel.minimumWidth())
        self.models = Models(
            self.choose.model,
            self.settings.device,
            changed=lambda: self._listening.model_changed(),
            prepared=lambda: self.fit.check_soon(),
        )
        self.chosen = Chosen(viewer, self.choose, self._channels, self.benches, self.models)
        self.fit = Fit(
            self.panel,
            self.models,
            self.chosen.picture,
            self.settings,
            self.refresh,
        )
        self.learn_box = LearnBox()
        self.panel.append(self.learn_box)
        self.learning = Learning(self.learn_box, self.chosen, self.models, self.settings.device)
        remember_sections(self)
        self.destroyed.connect(lambda: self.shut_down(window_gone=True))
        threads.watch(self)
        self._garbage = garbage.collector()
        self._garbage.start(self)
        self._listening = Listening(self, viewer)

    @property
    def closed(self) -> bool:
        """Whether dock or window are gone."""
        return self._closed

    @property
    def image(self) -> Image | None:
        """The chosen image layer."""
        return self.chosen.image

    @property
    def bench(self) -> Bench | None:
        """The workbench of the chosen image, once something was done to it."""
        return self.chosen.bench

    @property
    def session(self) -> Session | None:
        """The session of the shown slice, once something was done to it."""
        return self.chosen.session

    # What the buttons do.

    def segment(self) -> None:
        """Show the prior: the model's segmentation, or the Labels layer to start from."""
        target = self.chosen.target()
        self.work.segment(target, self.models.loaded(), self.chosen.mask(target))

    def step(self) -> None:
        """One step of the run, and wait."""
        self._advance(single=True)

    def run(self) -> None:
        """All remaining steps; the last one is written into the mask."""
        self._advance(single=False)

    def rerefine(self) -> None:
        """Begin again at the prior, with everything painted so far fixed."""
        self._advance(single=False, restart=True)

    def reject(self) -> None:
        """Take the last result back, in one undo step; strokes stay."""
        if self.bench is not None:
            self.work.reject(self.bench, self.chosen.target().index)
            show_info(messages.REJECTED)

    def alternatives(self) -> None:
        """Outline the next of a few clearly different answers; draws samples if need be."""
        settings: Settings = self.settings()
        guards = self._guards(settings)
        self._alternatives.next(self.chosen.target(), self.models.loaded(), settings, guards)

    def next_place(self) -> None:
        """Move the camera to the most uncertain place not seen since the last result."""
        target = self.chosen.target()
        bench = target.bench()
        mine = bench.session(target.index)
        if mine.begun and mine.prior is None and mine.run is None:
            again = partial(attempt, self.next_place)
            self.work.prime(target, self.models.loaded(), mine.given, again)
            return
        try:
            place = self.tour.next(bench.session(target.index))
        finally:
            self.refresh()
        look_at(self._viewer, bench.mask, target.index, place)

    def segment_slices(self) -> None:
        """The model's first mask in every slice of the range."""
        target, axis = self.chosen.volume()
        self.sweeps.segment(target, self.models.loaded(), axis, self.chosen.labels())

    def refine_slices(self) -> None:
        """Every slice of the range refined, with strokes fixed."""
        target, axis = self.chosen.volume()
        settings: Settings = self.settings()
        guards, labels = self._guards(settings), self.chosen.labels()
        self.sweeps.refine(target, self.models.loaded(), axis, settings, guards, labels)

    def carry_back(self) -> None:
        """What was corrected in the shown slice, carried to the slices before it."""
        self._carry(on=False)

    def carry_on(self) -> None:
        """What was corrected in the shown slice, carried to the slices behind it."""
        self._carry(on=True)

    def take_back(self) -> None:
        """Take back what was done to many slices last."""
        self.sweeps.take_back()
        self.refresh()

    def accept(self) -> None:
        """Take the mask, at the step that the slider shows, for final."""
        self.work.accept(self.chosen.target(), self.models.model)
        show_info("Accepted, and kept beside your strokes.")

    def export(self, path: Path | str | None = None) -> None:
        """Write the mask to a file; without ``path`` a dialog asks for it."""
        if self.bench is None:
            raise InputError("There is no mask yet: segment first.")
        path = Path(path) if path else ask_where(self, self.bench)
        if path is not None:
            self.bench.export(path)
            show_info(f"Mask written to {path}")

    def new_mask(self) -> None:
        """A mask to paint strokes on, for work without a model.

        It is empty, or starts with the strokes of the Labels layer that is chosen.
        """
        target = self.chosen.target()
        strokes = self.chosen.labels()
        bench = target.bench()
        if strokes is not None:
            where = np.nonzero(strokes)
            bench.mask.data_setitem(where, strokes[where])
        bench.session(target.index)
        self.refresh()

    def complete(self) -> None:
        """Let strokes grow to a mask by the random walker."""
        if self.bench is None:
            raise InputError("Press New mask and paint strokes on it first.")
        self.work.complete(self.chosen.target())

    def go_on(self) -> None:
        """Bring back what an earlier session kept of this image."""
        if self.image is not None:
            kept = self.benches.offer(self.image)
            self.benches.open(self.image, self.chosen.card, go_on=True)
            self.refresh()
            if kept is not None and len(kept.shape) > 2:
                show_info(messages.gone_on(kept))

    def start_anew(self) -> None:
        """Leave the kept strokes in their file, which is moved aside at the first new stroke."""
        if self.image is not None:
            self.benches.decline(self.image)

    def use_model(self, path: Path | str) -> None:
        """Offer a model file in the model box and choose it."""
        self.models.use(str(path))

    def refresh(self) -> None:
        """Bring buttons and lines up to date."""
        if not self._closed:
            show_status(self)

    # How it comes about.

    def _advance(self, single: bool, restart: bool = False) -> None:
        target, model = self.chosen.target(), self.models.loaded()
        session = self.session
        if session is not None and session.begun and session.prior is None:
            self.work.prime(target, model, session.given, lambda: attempt(again))
        elif session is None or session.prior is None:
            mask = self.chosen.mask(target)
            self.work.segment(target, model, mask, lambda: attempt(again))
        else:
            settings: Settings = self.settings()
            guards = self._guards(settings) if restart else None
            self.work.advance(target, model, settings, single, guards)

        def again() -> None:
            if self.session is not None and self.session.prior is not None:
                self._advance(single, restart)

    def _carry(self, on: bool) -> None:
        target, axis = self.chosen.volume()
        self.sweeps.carry(target, self.models.loaded(), axis, self.settings(), on)

    def _guards(self, settings: Settings) -> Guards:
        return settings.guards(near=self.panel.near.isChecked())

    # The end.

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
        self.work.close()
        self.benches.close(tidy=not window_gone)  # saves: nothing that can fail comes before
        self.learning.close()
        self.fit.close()
        self.models.close()
        self.classes.close()
        self._listening.close()
        self._garbage.stop(self)


def show_status(widget: "HiDiffWidget") -> None:
    """Bring buttons and lines up to date with the chosen image, its bench and the shown slice."""
    widget.learning.refresh()
    panel, bench, session, work = widget.panel, widget.bench, widget.session, widget.work
    ready = widget.fit.problem is None and not work.busy
    prior = session is not None and (session.begun or session.prior is not None)
    for button in (panel.segment, panel.step, panel.run):
        button.setEnabled(ready)
    panel.stop.setEnabled(work.stoppable)
    panel.rerefine.setEnabled(ready and prior)
    panel.alternatives.setEnabled(ready and prior)
    panel.next_place.setEnabled(prior)
    panel.place.setText(widget.tour.line(session if prior else None))
    panel.accept.setEnabled(session is not None and not work.busy)
    panel.export.setEnabled(bench is not None)
    panel.new_mask.setEnabled(widget.image is not None and bench is None)
    panel.complete.setEnabled(session is not None and not work.busy)
    for button in widget.volume.buttons[:4]:
        button.setEnabled(ready)
    widget.volume.take_back.setEnabled(not work.busy and widget.sweeps.can_take_back(bench))
    kept = widget.benches.offer(widget.image)
    panel.offer(messages.offer(kept) if kept else None)
    panel.counts.setText(
        messages.counts(
            bench.changes_in(widget.chosen.target().index) if bench and session else None,
            bench.annotation if bench else None,
        )
    )
    widget.classes.refresh()
    panel.reject.setEnabled(False)
    if bench is None or session is None:
        panel.show_moment(0, 0)
    elif not work.busy:
        index = widget.chosen.target().index
        panel.reject.setEnabled(bench.link.rejectable == index)
        work.moments.tell(bench, index, panel.steps_slider.value())
