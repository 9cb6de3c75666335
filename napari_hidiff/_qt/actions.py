"""What the buttons of the window do."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image
from napari.utils.notifications import show_info
from napari.viewer import Viewer
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_hidiff._qt import messages
from napari_hidiff._qt.comparison import dock_comparison
from napari_hidiff._qt.controls.panel import Panel
from napari_hidiff._qt.files import FILTERS, offered, suggestion
from napari_hidiff._qt.layers.annotated_image import AnnotatedImage
from napari_hidiff._qt.layers.annotated_images import AnnotatedImages
from napari_hidiff._qt.tasks.brush import Brush
from napari_hidiff._qt.tasks.model_fit import ModelFit
from napari_hidiff._qt.tasks.models import Models
from napari_hidiff._qt.tasks.next_result import Alternatives, look_at
from napari_hidiff._qt.tasks.queue import QueueTask
from napari_hidiff._qt.tasks.refinement import Refinement
from napari_hidiff._qt.tasks.run_view import Target
from napari_hidiff._qt.tasks.selection import Selection
from napari_hidiff._qt.tasks.size_table import SizeTable
from napari_hidiff._qt.tasks.slices import ManySlices
from napari_hidiff._qt.threads import attempt
from napari_hidiff.annotation.constraints import Guards
from napari_hidiff.annotation.objects import next_label
from napari_hidiff.annotation.refinement import Settings
from napari_hidiff.annotation.suggestions import TourRound, UncertaintyTour
from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card
from napari_hidiff.masks import Box


@dataclass(frozen=True)
class Tasks:
    """What the window works with: the images, what is chosen, and what runs."""

    annotated_images: AnnotatedImages
    selection: Selection
    models: Models
    fit: ModelFit
    refinement: Refinement
    slices: ManySlices
    queue: QueueTask


class Actions:
    """Its public methods are what the buttons do; each raises InputError for what cannot be done.

    viewer : napari's viewer; panel : the controls; choose, how : the two magicgui boxes, what to
    segment and how to refine; refresh : brings the window up to date.
    """

    def __init__(
        self,
        viewer: Viewer,
        panel: Panel,
        choose: Any,
        how: Any,
        tasks: Tasks,
        refresh: Callable[[], None],
    ) -> None:
        self._viewer, self._choose, self._how = viewer, choose, how
        self._page, self._settings, self._refresh = panel.annotate, panel.settings, refresh
        self._annotated_images, self._selection = tasks.annotated_images, tasks.selection
        self._models, self._fit = tasks.models, tasks.fit
        self._refinement, self._slices = tasks.refinement, tasks.slices
        self._queue = tasks.queue
        self._alternatives = Alternatives(panel.annotate, tasks.refinement)
        self._brush = Brush(panel.annotate, tasks.selection)
        self._size_table = SizeTable(panel)
        self.tour = UncertaintyTour()

    def open_sample(self) -> None:
        """Open the fundus photograph, for who has no image at hand."""
        self._viewer.open_sample("napari-hidiff", "fundus")

    # Actions on the shown slice.

    def segment(self) -> None:
        """Find: the model's first mask, or that of the Labels layer to start from, refined.

        Where the steps are shown it stops at the first mask.
        """
        target, model = self._selection.target(), self._models.loaded()
        if model.card.prompted:
            self._point(target, partial(self._resume, target, False, False))
            return
        mask = self._selection.mask(target)
        refine = None if self._page.steps_shown else partial(self._resume, target, False, False)
        self._refinement.segment(target, model, mask, self._settings_for(target).scale, refine)

    def step(self) -> None:
        """One step of the run, and wait."""
        self._advance(self._selection.target(), single=True)

    def run(self) -> None:
        """All remaining steps; the last one is written into the mask."""
        self._advance(self._selection.target(), single=False)

    def rerefine(self) -> None:
        """Update: refine again from the first mask, with everything painted so far fixed."""
        self._advance(self._selection.target(), single=False, restart=True)

    def use_this(self) -> None:
        """Write what is outlined into the mask."""
        self._refinement.use_outlined(self._selection.target())

    def reject(self) -> None:
        """Drop what is outlined, or take the last result back in one undo step; strokes stay."""
        annotated = self._selection.annotated
        if annotated is not None:
            result = self._refinement.reject(annotated, self._selection.target().index)
            show_info(messages.REJECTED if result else messages.DROPPED)

    def alternatives(self) -> None:
        """Outline the next of a few clearly different answers; draws samples if need be."""
        target, model = self._selection.target(), self._models.loaded()
        how = self._settings_for(target)
        self._alternatives.next(target, model, how, self._guards(how))

    def next_place(self) -> None:
        """Move the camera to the most uncertain place not seen since the last result."""
        target = self._selection.target()
        annotated = target.annotated()
        session = annotated.session(target.index)
        if session.begun and session.prior is None and session.run is None:
            again = partial(attempt, self.next_place)
            if self._models.loaded().card.prompted:
                self._point(target, again)
                return
            scale = self._settings_for(target).scale
            self._refinement.prime(target, self._models.loaded(), session.given, scale, again)
        elif self.tour.begun(session):
            self._visit(target)
        else:

            def found(places: TourRound) -> None:
                self.tour.begin(session, places)
                self._visit(target)

            self._refinement.seek("looking for doubt", self.tour.search(session), done=found)

    def _visit(self, target: Target) -> None:
        annotated = target.annotated()
        try:
            place = self.tour.next(annotated.session(target.index))
            look_at(self._viewer, annotated, target.index, place)
        finally:
            self._refresh()

    def accept(self) -> None:
        """Done: take the mask for final, or, if it is, not any more; no pixel changes."""
        target = self._selection.target()
        annotated = target.annotated()
        if annotated.session(target.index).done:
            annotated.withdraw(target.index)
        else:
            self._refinement.accept(target, self._models.model)

    def new_mask(self) -> None:
        """A mask to paint strokes on, for work without a model.

        It is empty, or starts with the strokes of the Labels layer that is chosen.
        """
        target = self._selection.target()
        strokes = self._selection.labels()
        annotated = target.annotated()
        if strokes is not None:
            where = np.nonzero(strokes)
            annotated.mask.data_setitem(where, strokes[where])
        annotated.session(target.index)
        self._refresh()

    def complete(self) -> None:
        """Let strokes grow to a mask by the random walker."""
        if self._selection.annotated is None:
            raise InputError("Press New mask and paint strokes on it first.")
        self._refinement.complete(self._selection.target())

    # Actions on many slices.

    def segment_slices(self) -> None:
        """The model's first mask in every slice of the range."""
        target, axis = self._selection.volume()
        model, scale = self._models.loaded(), self._settings_for(target).scale
        self._slices.segment(target, model, axis, scale, self._selection.labels())

    def refine_slices(self) -> None:
        """Every slice of the range refined, with strokes fixed."""
        target, axis = self._selection.volume()
        how = self._settings_for(target)
        model, labels = self._models.loaded(), self._selection.labels()
        label = self._object(target) if model.card.prompted else None
        self._slices.refine(target, model, axis, how, self._guards(how), labels, label)

    def carry(self, *directions: int) -> None:
        """What was corrected in the shown slice, carried to the slices behind (1), before (-1)."""
        target, axis = self._selection.volume()
        model = self._models.loaded()
        label = self._object(target) if model.card.prompted else None
        how = self._settings_for(target)
        self._slices.carry(target, model, axis, how, directions, label)

    def fill_slices(self) -> None:
        """The slices of the range between those that the user worked on, filled from these."""
        target, axis = self._selection.volume()
        model = self._models.loaded()
        label = self._object(target) if model.card.prompted else None
        self._slices.fill(target, model, axis, self._settings_for(target), label)

    def take_back(self) -> None:
        """Undo what was done to many slices last."""
        self._slices.take_back()
        self._refresh()

    # Objects, with a prompted model.

    def new_object(self) -> None:
        """Take the brush with the next label: what is painted from now on is another object."""
        annotated = self._selection.target().annotated()
        self._brush.paint_with(next_label(annotated.mask.data))
        self._refresh()

    def box(self, box: Box) -> None:
        """Find the object in a box in the shown slice."""
        target = self._selection.target()
        self._point(target, partial(self._resume, target, False, True), box)

    def _object(self, target: Target) -> int:
        """The label of the object that is painted: a prompted model is asked for it."""
        annotated = target.annotated()
        return int(annotated.mask.selected_label) or annotated.session(target.index).object or 1

    def _point(self, target: Target, then: Callable[[], None], box: Box | None = None) -> None:
        """Point the model at the object that is painted, by a box, by what is known of it, or by
        the Labels layer to start from, which comes along with its other objects."""
        label, labels = self._object(target), self._selection.mask(target)
        session = target.annotated().session(target.index)
        if session.begun:
            labels = None
        user: np.ndarray | Box | None = box
        if box is None and labels is not None:
            if labels.any() and not (labels == label).any() and not session.painted_in(label):
                label = int(labels[labels > 0].min())  # 255, as many masks have it
                target.annotated().mask.selected_label = label
            user = (labels == label).astype(np.uint8) if (labels == label).any() else None
        given = session.prompt(label) if user is None else user
        model = self._models.loaded()
        alone = given is None and not session.painted_in(label)
        if alone and model.card.needs_prompt:
            raise InputError(messages.POINT)
        by_user = user is not None
        self._refinement.point(target, model, label, given, by_user, then, labels)

    # Files and earlier sessions.

    def export(self, path: Path | str | None = None) -> None:
        """Save the mask into a file; without ``path`` a dialog asks for it."""
        annotated = self._selection.annotated
        if annotated is None:
            raise InputError("There is no mask yet: press Find first.")
        path = Path(path) if path else ask_where(self._page, annotated)
        if path is not None:
            annotated.export(path)
            self._queue.exported(path)
            show_info(f"Saved: {path.name} in {path.parent}")
            self._refresh()

    def sizes(self) -> None:
        """Show how large every class and object of the mask is."""
        annotated = self._selection.annotated
        if annotated is None:
            raise InputError("There is no mask yet: press Find first.")
        self._size_table.count(annotated)

    def compare(self) -> None:
        """Open the widget that compares the masks of two raters."""
        widget = dock_comparison(self._viewer)
        area = widget.parentWidget()
        if area is not None:
            area.show()
            area.raise_()

    def go_on(self) -> None:
        """Resume: bring back what an earlier session kept of this image."""
        image = self._selection.image
        if image is not None:
            self._annotated_images.open(image, self._selection.card, go_on=True)
            self._refresh()

    def show_result(self, image: Image, mask: np.ndarray, card: Card) -> None:
        """Put a mask [H, W] that a model made elsewhere over an image, as if it was found here."""
        annotated = self._annotated_images.open(image, card)
        whole = (-1,) * mask.ndim
        annotated.session(whole).begin(None)
        annotated.link.write(whole, mask)

    def start_anew(self) -> None:
        """Leave the kept strokes in their file, which is moved aside at the first new stroke."""
        if self._selection.image is not None:
            self._annotated_images.decline(self._selection.image)

    # How actions come about.

    def _advance(self, target: Target, single: bool, restart: bool = False) -> None:
        """One step or all of a run in a slice, once it has a first mask."""
        model, annotated = self._models.loaded(), self._selection.annotated
        session = None if annotated is None else annotated.annotation.sessions.get(target.index)
        again = partial(self._resume, target, single, restart)
        if model.card.prompted and not (
            session is not None and session.is_about(self._object(target))
        ):
            self._point(target, again)
        elif session is not None and session.begun and session.prior is None:
            scale = self._settings_for(target).scale
            self._refinement.prime(target, model, session.given, scale, again)
        elif session is None or session.prior is None:
            scale = self._settings_for(target).scale
            self._refinement.segment(target, model, self._selection.mask(target), scale, again)
        else:
            how = self._settings_for(target)
            guards = self._guards(how) if restart else None
            self._refinement.advance(target, model, how, single, guards)

    def _resume(self, target: Target, single: bool, restart: bool) -> None:
        """Go on in the slice that work began on, whichever slice is shown by now."""

        def go_on() -> None:
            if target.annotated().session(target.index).prior is not None:
                how = self._settings_for(target)
                guards = self._guards(how) if restart else None
                self._refinement.advance(target, self._models.loaded(), how, single, guards)

        attempt(go_on)

    def _settings_for(self, target: Target) -> Settings:
        """The settings with the scale of the slice."""
        how: Settings = self._how()
        return target.settings(how, self._models.loaded().card)

    def _guards(self, how: Settings) -> Guards:
        """What an update may change; all of it for a prompted model, whose first mask is empty."""
        if self._models.loaded().card.prompted:
            return Guards(None, False, 0.0)
        return how.guards(near=self._settings.near.isChecked())


def ask_where(parent: QWidget, annotated: AnnotatedImage) -> Path | None:
    """Ask for a file, beside the image and in its format unless told otherwise; None: cancelled.

    A name without a suffix gets that of the chosen format; InputError where such a file exists
    already, for the dialog has asked about another name.
    """
    proposed = suggestion(annotated.image, annotated.mask)
    formats = offered(annotated.image)
    suffix = next(suffix for suffix in formats if proposed.name.endswith(suffix))
    given, chosen = QFileDialog.getSaveFileName(
        parent, "Save the mask", str(proposed), ";;".join(formats.values()), formats[suffix]
    )
    if not given:
        return None
    wanted = next((suffix for suffix, text in formats.items() if text == chosen), suffix)
    known = (*FILTERS, ".nii", ".tiff")
    if given.lower().endswith(known):
        return Path(given)
    path = Path(f"{given}{wanted}")
    if path.exists():
        raise InputError(f"It exists already: choose {path} by its whole name to replace it.")
    return path
