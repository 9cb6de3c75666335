"""What buttons, keys, choices, layers, slices and strokes of the window set off."""

from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from napari.utils.notifications import show_info, show_warning
from napari.viewer import Viewer
from qtpy.QtWidgets import QAbstractButton

from napari_hidiff._qt import garbage, messages, preferences
from napari_hidiff._qt.actions import Actions, Tasks
from napari_hidiff._qt.controls import settings
from napari_hidiff._qt.controls.panel import Panel
from napari_hidiff._qt.layers.annotated_image import AnnotatedImage
from napari_hidiff._qt.shortcuts import Shortcuts
from napari_hidiff._qt.tasks.box_tool import BoxTool
from napari_hidiff._qt.tasks.run_view import Target
from napari_hidiff._qt.threads import attempt
from napari_hidiff.errors import InputError
from napari_hidiff.inference.catalog import SUFFIX


class Controller(Actions):
    """Connects the controls and follows the viewer; arguments as for :class:`Actions`."""

    def __init__(
        self,
        viewer: Viewer,
        panel: Panel,
        choose: Any,
        how: Any,
        tasks: Tasks,
        refresh: Callable[[], None],
    ) -> None:
        super().__init__(viewer, panel, choose, how, tasks, refresh)
        self._box = BoxTool(panel.annotate, tasks.selection, self.box)
        self._due: Target | None = None
        """Where a stroke was finished while work was under way."""
        self._warned: WeakKeyDictionary[AnnotatedImage, set[int]] = WeakKeyDictionary()
        self._listen()
        self._shortcuts = Shortcuts(viewer, self._connect_controls())
        self._layers_changed()
        self._image_changed()

    def close(self) -> None:
        """Let go of the viewer."""
        self._shortcuts.close()
        self._brush.close()
        self._box.close()
        self._size_table.close_job()
        for event, receive in self._heard:
            event.disconnect(receive)

    def _listen(self) -> None:
        layers, dims = self._viewer.layers.events, self._viewer.dims.events
        self._heard: list[tuple[Any, Callable[..., None]]] = [
            (layers.inserted, self._layers_changed),
            (layers.reordered, self._layers_changed),
            (layers.renamed, self._layers_changed),
            (layers.removed, self._layer_removed),
            (self._viewer.layers.selection.events.active, self._active_changed),
            (dims.order, self._slice_changed),
            (dims.current_step, self._slice_changed),
            (dims.ndisplay, self._slice_changed),
        ]
        for event, receive in self._heard:
            event.connect(receive)
        page, more = self._page, self._settings
        self._choose.image.changed.connect(self._image_changed)
        self._choose.prior.changed.connect(self._forget_first_masks)
        self._how.changed.connect(self._fit.check_soon)
        self._models.changed.connect(self._model_changed)
        self._models.listed.connect(self._suggest_model)
        self._models.prepared.connect(self._fit.check_soon)
        self._refinement.changed.connect(self._refresh)
        self._refinement.ended.connect(self._update_if_due)
        self._annotated_images.changed.connect(self._refresh)
        self._annotated_images.replaced.connect(self._image_changed)
        self._annotated_images.stroke_ended.connect(self._stroke_ended)
        more.channels.changed.connect(self._slice_changed)
        more.volume.turned.connect(self._selection.turn)
        page.steps_slider.valueChanged.connect(self._scrubbed)
        page.after_stroke.clicked.connect(self._fit.keep_choice)
        more.changes.toggled.connect(self._reveal)
        more.strokes.toggled.connect(lambda _: self._refresh())
        more.maps.toggled.connect(self._annotated_images.show_maps)
        more.show_steps.toggled.connect(self._show_steps)
        more.similar.toggled.connect(self._limit_brush)
        more.similar.toggled.connect(
            lambda on: show_info(messages.SIMILAR_BRUSH if on else messages.BRUSH)
        )
        more.alike.valueChanged.connect(self._limit_brush)

    def _connect_controls(self) -> dict[str, Callable[[], object]]:
        """Connect every button to its action; returns what each key does."""
        page, slider, slices = self._page, self._page.steps_slider, self._settings.volume
        actions: dict[QAbstractButton, Callable[[], None]] = {
            page.open_sample: self.open_sample,
            page.segment: self.segment,
            page.paint: self._brush.paint,
            page.erase: self._brush.erase,
            page.box: self._box.take,
            page.new_object: self.new_object,
            page.rerefine: self.rerefine,
            page.next_place: self.next_place,
            page.accept: self.accept,
            page.export: self.export,
            page.next_image: self._queue.next,
            page.stop: self._refinement.stop,
            page.step: self.step,
            page.run: self.run,
            page.alternatives: self.alternatives,
            page.use_this: self.use_this,
            page.reject: self.reject,
            page.new_mask: self.new_mask,
            page.complete: self.complete,
            page.go_on: self.go_on,
            page.start_anew: self.start_anew,
            page.refine_slices: self.refine_slices,
            page.carry: partial(self.carry, 1, -1),
            slices.carry_on: partial(self.carry, 1),
            slices.carry_back: partial(self.carry, -1),
            slices.segment: self.segment_slices,
            slices.fill: self.fill_slices,
            slices.take_back: self.take_back,
            self._settings.sizes: self.sizes,
            self._settings.compare: self.compare,
        }
        for button, action in actions.items():
            button.clicked.connect(lambda _=False, do=action: attempt(do))
        buttons = (*actions, self._settings.changes, self._settings.similar)
        named = {button.objectName(): button.click for button in buttons}
        keys: dict[str, Callable[[], object]] = {
            name: press for name, press in named.items() if name in preferences.KEYS
        }
        keys["back"] = lambda: slider.setValue(slider.value() - 1)
        keys["forth"] = lambda: slider.setValue(slider.value() + 1)
        return keys

    def _layers_changed(self, event: Any = None) -> None:
        self._choose.image.reset_choices()
        self._choose.prior.reset_choices()
        self._hint_at_masks()
        self._selection.ask_for_channels()
        self._fit.check_soon()

    def _hint_at_masks(self) -> None:
        """Say why a mask that was opened as an image is not offered to start from."""
        hint = messages.no_mask(self._selection.like_masks())
        self._settings.no_mask.setText(hint)
        self._settings.no_mask.setVisible(bool(hint))

    def _layer_removed(self, event: Any) -> None:
        self._annotated_images.removed(event.value)
        self._layers_changed()
        self._refresh()
        garbage.collector().collect_all_soon()

    def _active_changed(self, event: Any = None) -> None:
        """Follow the active layer, if it is an image to choose or the mask of one."""
        image = self._annotated_images.image_of(self._viewer.layers.selection.active)
        if image is not None and not self._selection.is_channel(image):
            self._choose.image.value = image
        self._brush.show()
        self._box.show()

    def _image_changed(self, image: Any = None) -> None:
        if self._selection.image is not None:
            self._annotated_images.look_up(self._selection.image)
        self._selection.stand_upright()
        self._hint_at_masks()
        self._selection.ask_for_channels()
        self._suggest_model()
        self._slice_changed()

    def _suggest_model(self) -> None:
        """Choose the model that the image fits, unless the user chose one that can read it, or a
        file of a model."""
        try:
            candidates = self._selection.candidates()
        except InputError:
            return  # nothing to be looked at: no image, or one that is refused
        chosen, by_user = self._models.chosen, self._models.chosen_by_user
        misfit = chosen in self._models.cards and chosen not in candidates
        if not by_user or (misfit and not str(chosen).endswith(SUFFIX)):
            self._models.suggest(candidates)

    def _slice_changed(self, event: Any = None) -> None:
        self._page.show_volume(self._selection.offer_slices(self._settings.volume))
        self._refresh()
        self._fit.check_soon()

    def _forget_first_masks(self, event: Any = None) -> None:
        for annotated in self._annotated_images:
            for session in annotated.annotation.sessions.values():
                session.forget()
        self._refresh()

    def _model_changed(self) -> None:
        if self._models.model is not None:
            settings.adopt(self._how, self._models.model.card, preferences.sampler())
            for annotated in self._annotated_images:
                for session in annotated.annotation.sessions.values():
                    session.change_model(
                        self._models.model.labels, self._models.model.card.prompted
                    )
        self._show_steps(self._settings.show_steps.isChecked())
        self._selection.ask_for_channels()
        self._slice_changed()

    def _show_steps(self, shown: bool) -> None:
        """Show the steps; one pass has none to show, so DDIM takes its place then."""
        self._page.show_steps(shown)
        model, sampler = self._models.model, self._how.sampler
        if model is None:
            return
        usual = preferences.sampler() or model.card.defaults["sampler"]
        if shown and sampler.value == "one-step":
            sampler.value = "ddim"
        elif not shown and sampler.value == "ddim" and usual == "one-step":
            sampler.value = usual
        swapped = shown and usual == "one-step"
        self._settings.steps_line.setText(messages.steps_by(self._how()) if swapped else "")
        self._refresh()

    def _scrubbed(self, step: int) -> None:
        annotated = self._selection.annotated
        if annotated is not None and self._selection.session is not None:
            index = self._selection.target().index
            self._refinement.preview.show(annotated, index, step)
            self._refresh()

    def _limit_brush(self, event: Any = None) -> None:
        self._annotated_images.limit_brush(self._settings.share)

    def _reveal(self, visible: bool) -> None:
        if self._selection.annotated is not None:
            self._selection.annotated.reveal(visible)

    def _stroke_ended(self, annotated: AnnotatedImage) -> None:
        """Update after the stroke, or as soon as the work under way is over."""
        self._warn_of_foreign_labels(annotated)
        if annotated is self._selection.annotated and self._page.after_stroke.isChecked():
            attempt(self._note_stroke)
            self._update_if_due()

    def _warn_of_foreign_labels(self, annotated: AnnotatedImage) -> None:
        """Say at the first stroke, not at the next update, that the model has no such class."""
        model, label = self._models.model, int(annotated.mask.selected_label)
        known = model is None or model.card.prompted or label < model.labels
        known = known or annotated.mask.mode == "erase"
        warned = self._warned.setdefault(annotated, set())
        if not known and model is not None and label not in warned:
            warned.add(label)
            show_warning(f"Label {label} is none of {model.card.name}: it cannot update it.")

    def _note_stroke(self) -> None:
        self._due = self._selection.target()

    def _update_if_due(self) -> None:
        target, annotated = self._due, self._selection.annotated
        if target is None or self._refinement.busy:
            return
        self._due = None
        session = None if annotated is None else annotated.annotation.sessions.get(target.index)
        model = self._models.model
        prompted = model is not None and model.card.prompted  # a stroke asks for its first mask
        begun = prompted or (session is not None and session.begun)
        if begun and self._fit.problem is None:
            attempt(self._advance, target, False, True)
