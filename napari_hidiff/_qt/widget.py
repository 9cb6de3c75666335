"""The dock widget "HiDiff refine": it joins layers, models, the panel and the work under way."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image
from napari.utils.notifications import show_info
from napari.viewer import Viewer
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_hidiff._qt import choices, preferences, words
from napari_hidiff._qt.alternatives import Alternatives
from napari_hidiff._qt.bench import Bench
from napari_hidiff._qt.benches import Benches
from napari_hidiff._qt.channel_box import ChannelBox
from napari_hidiff._qt.choices import Settings
from napari_hidiff._qt.chosen import Chosen
from napari_hidiff._qt.classes import Classes
from napari_hidiff._qt.export import ask_where
from napari_hidiff._qt.fit import Fit
from napari_hidiff._qt.hint import Hint
from napari_hidiff._qt.jobs import attempt
from napari_hidiff._qt.learn_box import LearnBox
from napari_hidiff._qt.learning import Learning
from napari_hidiff._qt.models import Models
from napari_hidiff._qt.panel import KEYS, Panel
from napari_hidiff._qt.refinement import Refinement
from napari_hidiff._qt.remembered import remember_sections
from napari_hidiff._qt.shortcuts import Shortcuts
from napari_hidiff._qt.sweeps import Sweeps
from napari_hidiff._qt.tour import Tour, look_at
from napari_hidiff._qt.volume_box import KEYS as SLICE_KEYS
from napari_hidiff._qt.volume_box import VolumeBox
from napari_hidiff.errors import InputError
from napari_hidiff.guards import Guards
from napari_hidiff.session import Session

ACTIONS = (
    *("segment", "step", "run", "rerefine", "accept", "export"),
    *("reject", "alternatives", "next_place"),
    *("new_mask", "complete", "go_on", "start_anew"),
)

"""Buttons whose click calls the method of the same name."""


class HiDiffWidget(QWidget):
    """Segment the shown slice, refine it step by step, correct it, refine it again.

    viewer : napari's viewer; napari passes it to a plugin's widget.
    """

    def __init__(self, viewer: Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._closed = False

        self.benches = Benches(viewer, self.refresh, lambda bench: self.work.abandon(bench))
        self.settings = choices.settings_box()
        self.settings.device.value = preferences.device()
        self.choose = choices.choose_box(
            lambda: self.benches.images(), lambda: self.benches.masks()
        )
        self._channels = ChannelBox(self._slice_changed)
        self.volume = VolumeBox(lambda axis: self._chosen.turn(axis))
        self.classes = Classes(lambda: self.bench, lambda: self._chosen.card)
        self.panel = Panel(
            self.choose, self.settings, self._channels, self.volume, Hint(), self.classes.box
        )
        self.panel.near.setChecked(preferences.near())
        self.work = Refinement(self.panel, self.refresh)
        self._sweeps = Sweeps(self.volume, self.work)
        self._alternatives = Alternatives(self.panel, self.work)
        self._tour = Tour()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.panel)
        self.setSizePolicy(self.panel.sizePolicy())
        self.setMinimumWidth(self.panel.minimumWidth())
        self.models = Models(
            self.choose.model,
            self.settings.device,
            changed=self._model_changed,
            prepared=self._model_prepared,
        )
        self._chosen = Chosen(viewer, self.choose, self._channels, self.benches, self.models)
        self.fit = Fit(
            self.panel,
            self.models,
            self._chosen.picture,
            self.settings,
            self.refresh,
        )
        self.learn_box = LearnBox()
        self.panel.append(self.learn_box)
        self.learning = Learning(self.learn_box, self._chosen, self.models, self.settings.device)
        self._connect()
        remember_sections(self)
        self.destroyed.connect(lambda: self.shut_down(window_gone=True))
        self._layers_changed()
        self._image_changed()

    @property
    def closed(self) -> bool:
        """Whether dock or window are gone."""
        return self._closed

    @property
    def image(self) -> Image | None:
        """The chosen image layer."""
        return self._chosen.image

    @property
    def bench(self) -> Bench | None:
        """The workbench of the chosen image, once something was done to it."""
        return self._chosen.bench

    @property
    def session(self) -> Session | None:
        """The session of the shown slice, once something was done to it."""
        return self._chosen.session

    # What the buttons do.

    def segment(self) -> None:
        """Show the prior: the model's segmentation, or the Labels layer to start from."""
        target = self._chosen.target()
        self.work.segment(target, self.models.loaded(), self._chosen.mask(target))

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
            self.work.reject(self.bench, self._chosen.target().index)
            show_info(words.REJECTED)

    def alternatives(self) -> None:
        """Outline the next of a few clearly different answers; draws samples if need be."""
        settings: Settings = self.settings()
        guards = self._guards(settings)
        self._alternatives.next(self._chosen.target(), self.models.loaded(), settings, guards)

    def next_place(self) -> None:
        """Move the camera to the most uncertain place not seen since the last result."""
        target = self._chosen.target()
        bench = target.bench()
        mine = bench.session(target.index)
        if mine.begun and mine.prior is None and mine.run is None:
            again = partial(attempt, self.next_place)
            self.work.prime(target, self.models.loaded(), mine.given, again)
            return
        try:
            place = self._tour.next(bench.session(target.index))
        finally:
            self.refresh()
        look_at(self._viewer, bench.mask, target.index, place)

    def segment_slices(self) -> None:
        """The model's first mask in every slice of the range."""
        target, axis = self._chosen.volume()
        self._sweeps.segment(target, self.models.loaded(), axis, self._chosen.labels())

    def refine_slices(self) -> None:
        """Every slice of the range refined, with strokes fixed."""
        target, axis = self._chosen.volume()
        settings: Settings = self.settings()
        guards, labels = self._guards(settings), self._chosen.labels()
        self._sweeps.refine(target, self.models.loaded(), axis, settings, guards, labels)

    def carry_back(self) -> None:
        """What was corrected in the shown slice, carried to the slices before it."""
        self._carry(on=False)

    def carry_on(self) -> None:
        """What was corrected in the shown slice, carried to the slices behind it."""
        self._carry(on=True)

    def take_back(self) -> None:
        """Take back what was done to many slices last."""
        self._sweeps.take_back()
        self.refresh()

    def accept(self) -> None:
        """Take the mask, at the step that the slider shows, for final."""
        self.work.accept(self._chosen.target(), self.models.model)
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
        target = self._chosen.target()
        strokes = self._chosen.labels()
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
        self.work.complete(self._chosen.target())

    def go_on(self) -> None:
        """Bring back what an earlier session kept of this image."""
        if self.image is not None:
            kept = self.benches.offer(self.image)
            self.benches.open(self.image, self._chosen.card, go_on=True)
            self.refresh()
            if kept is not None and len(kept.shape) > 2:
                show_info(words.gone_on(kept))

    def start_anew(self) -> None:
        """Leave the kept strokes in their file, which is moved aside at the first new stroke."""
        if self.image is not None:
            self.benches.decline(self.image)

    def use_model(self, path: Path | str) -> None:
        """Offer a model file in the model box and choose it."""
        self.models.use(str(path))

    def refresh(self) -> None:
        """Bring buttons and lines up to date."""
        if self._closed:
            return
        self.learning.refresh()
        panel, bench, session = self.panel, self.bench, self.session
        ready = self.fit.problem is None and not self.work.busy
        prior = session is not None and (session.begun or session.prior is not None)
        for button in (panel.segment, panel.step, panel.run):
            button.setEnabled(ready)
        panel.stop.setEnabled(self.work.stoppable)
        panel.rerefine.setEnabled(ready and prior)
        panel.alternatives.setEnabled(ready and prior)
        panel.next_place.setEnabled(prior)
        panel.place.setText(self._tour.line(session if prior else None))
        panel.accept.setEnabled(session is not None and not self.work.busy)
        panel.export.setEnabled(bench is not None)
        panel.new_mask.setEnabled(self.image is not None and bench is None)
        panel.complete.setEnabled(session is not None and not self.work.busy)
        for button in self.volume.buttons[:4]:
            button.setEnabled(ready)
        self.volume.take_back.setEnabled(not self.work.busy and self._sweeps.can_take_back(bench))
        kept = self.benches.offer(self.image)
        panel.offer(words.offer(kept) if kept else None)
        panel.counts.setText(
            words.counts(
                bench.changes_in(self._chosen.target().index) if bench and session else None,
                bench.annotation if bench else None,
            )
        )
        self.classes.refresh()
        panel.reject.setEnabled(False)
        if bench is None or session is None:
            panel.show_moment(0, 0)
        elif not self.work.busy:
            index = self._chosen.target().index
            panel.reject.setEnabled(bench.link.rejectable == index)
            self.work.tell(bench, index, panel.steps_slider.value())

    # How it comes about.

    def _advance(self, single: bool, restart: bool = False) -> None:
        target, model = self._chosen.target(), self.models.loaded()
        session = self.session
        if session is not None and session.begun and session.prior is None:
            self.work.prime(target, model, session.given, lambda: attempt(again))
        elif session is None or session.prior is None:
            mask = self._chosen.mask(target)
            self.work.segment(target, model, mask, lambda: attempt(again))
        else:
            settings: Settings = self.settings()
            guards = self._guards(settings) if restart else None
            self.work.advance(target, model, settings, single, guards)

        def again() -> None:
            if self.session is not None and self.session.prior is not None:
                self._advance(single, restart)

    def _carry(self, on: bool) -> None:
        target, axis = self._chosen.volume()
        self._sweeps.carry(target, self.models.loaded(), axis, self.settings(), on)

    def _guards(self, settings: Settings) -> Guards:
        return settings.guards(near=self.panel.near.isChecked())

    def _connect(self) -> None:
        panel = self.panel
        actions: dict[str, Callable[[], None]] = {name: getattr(self, name) for name in ACTIONS}
        actions["stop"] = self.work.stop
        for name, action in actions.items():
            getattr(panel, name).clicked.connect(lambda _=False, do=action: attempt(do))
        for button in self.volume.buttons:
            do = getattr(self, button.objectName())
            button.clicked.connect(lambda _=False, do=do: attempt(do))
        slider = panel.steps_slider
        slider.valueChanged.connect(self._scrubbed)
        panel.changes.toggled.connect(self._reveal)
        keys = {
            key: getattr(panel, name).click for name, key in KEYS.items() if hasattr(panel, name)
        }
        keys |= {SLICE_KEYS[button.objectName()]: button.click for button in self.volume.buttons}
        keys[KEYS["back"]] = lambda: slider.setValue(slider.value() - 1)
        keys[KEYS["forth"]] = lambda: slider.setValue(slider.value() + 1)
        self._shortcuts = Shortcuts(self._viewer, keys)
        self.choose.image.changed.connect(self._image_changed)
        self.choose.prior.changed.connect(self._forget_priors)
        self.settings.changed.connect(self._settings_changed)
        events = self._viewer.layers.events
        for event in (events.inserted, events.reordered, events.renamed):
            event.connect(self._layers_changed)
        events.removed.connect(self._layer_removed)
        self._viewer.dims.events.order.connect(self._slice_changed)
        self._viewer.dims.events.current_step.connect(self._slice_changed)
        self._viewer.dims.events.ndisplay.connect(self._slice_changed)

    def _layers_changed(self, event: Any = None) -> None:
        self.choose.image.reset_choices()
        self.choose.prior.reset_choices()
        self._chosen.ask_for_channels()
        self.fit.check_soon()

    def _layer_removed(self, event: Any) -> None:
        self.benches.removed(event.value)
        self._layers_changed()
        self.refresh()

    def _image_changed(self, image: Image | None = None) -> None:
        if self.image is not None:
            self.benches.look_up(self.image)
        self._chosen.ask_for_channels()
        self._slice_changed()

    def _slice_changed(self, event: Any = None) -> None:
        self._chosen.offer_slices(self.volume)
        self.refresh()
        self.fit.check_soon()

    def _settings_changed(self, event: Any = None) -> None:
        self.fit.check_soon()

    def _forget_priors(self, event: Any = None) -> None:
        for bench in self.benches:
            for session in bench.annotation.sessions.values():
                session.forget()
        self.refresh()

    def _model_changed(self) -> None:
        if self.models.model is not None:
            choices.adopt(self.settings, self.models.model.card, preferences.sampler())
        self._chosen.ask_for_channels()
        self._chosen.offer_slices(self.volume)
        self._forget_priors()
        self.fit.check_soon()

    def _model_prepared(self) -> None:
        self.fit.check_soon()

    def _scrubbed(self, step: int) -> None:
        if self.bench is not None and self.session is not None:
            self.work.show(self.bench, self._chosen.target().index, step)

    def _reveal(self, visible: bool) -> None:
        if self.bench is not None:
            self.bench.reveal(visible)

    # The end.

    def event(self, event: QEvent) -> bool:
        """napari takes a closed dock widget out of its parent: that is the end of this one."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.shut_down()
        return bool(super().event(event))

    def shut_down(self, window_gone: bool = False) -> None:
        """Save, stop, disconnect; mask layers stay. Called when dock or window are closed."""
        if self._closed:
            return
        self._closed = True
        self.learning.close()
        self.fit.close()
        self.work.close()
        self.models.close()
        self.classes.close()
        self.benches.close(tidy=not window_gone)
        self._shortcuts.close()
        events = self._viewer.layers.events
        for event in (events.inserted, events.reordered, events.renamed):
            event.disconnect(self._layers_changed)
        events.removed.disconnect(self._layer_removed)
        self._viewer.dims.events.order.disconnect(self._slice_changed)
        self._viewer.dims.events.current_step.disconnect(self._slice_changed)
        self._viewer.dims.events.ndisplay.disconnect(self._slice_changed)
