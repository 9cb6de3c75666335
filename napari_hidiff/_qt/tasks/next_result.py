"""The key that goes over a few clearly different answers to the same strokes.

From one uncertain place to the next, and the camera that goes there.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Layer
from napari.utils.notifications import show_info

from napari_hidiff._qt import messages
from napari_hidiff._qt.controls.panel import Panel
from napari_hidiff._qt.tasks.refinement import Refinement
from napari_hidiff._qt.tasks.run_view import Samples, Target
from napari_hidiff.annotation.constraints import Guards
from napari_hidiff.annotation.refinement import Settings
from napari_hidiff.annotation.session import Session
from napari_hidiff.errors import InputError
from napari_hidiff.masks import FREE, Index

if TYPE_CHECKING:
    from napari_hidiff.annotation.suggestions import Alternative, Place
    from napari_hidiff.inference.model import HiDiff


class Alternatives:
    """Outlines the alternatives of the last run in turn; draws samples where it has none."""

    def __init__(self, panel: Panel, work: Refinement) -> None:
        self._panel, self._work = panel, work

    def next(self, target: Target, model: "HiDiff", settings: Settings, guards: Guards) -> None:
        """Outline the next alternative, as soon as it is known.

        guards : what alternatives may change in the mask, if they have to be drawn.

        Raises InputError as :meth:`Refinement.advance`.
        """
        session, samples = target.bench().session(target.index), self._work.moments.samples
        if samples is None or not samples.know(session):
            several = settings.with_samples(model.card)
            show_info(messages.drawing(several))
            self._work.advance(
                target, model, several, restart=guards, then=lambda: self._seek(target)
            )
        elif samples.shares is None:
            self._seek(target)
        else:
            self._outline(target, samples)

    def _seek(self, target: Target) -> None:
        samples = self._work.moments.samples
        if samples is None:
            return

        def found(alternatives: "list[Alternative]") -> None:
            session = target.bench().session(target.index)
            if samples.run is session.run:
                samples.offer(alternatives)
                shares = [round(share, 4) for share in samples.shares or ()]
                target.bench().annotation.note("alternatives", slice=target.index, shares=shares)
                self._outline(target, samples)

        self._work.seek(samples.each, found)

    def _outline(self, target: Target, samples: Samples) -> None:
        if len(samples.shares or ()) < 2:
            show_info(messages.agree(len(samples.each)))
        else:
            shown = samples.after(self._panel.steps_slider.value())
            target.bench().annotation.note("show", slice=target.index, step=shown)
            self._work.moments.show(target.bench(), target.index, shown)


def believed(session: Session) -> np.ndarray:
    """The probability float32 [K, H, W] behind the mask: of the result that stands, or the prior.

    Raises InputError where there is neither.
    """
    run = session.run
    if run is not None:
        return run.believed if session.standing is None else run.shown[session.standing].probability
    if session.prior is None:
        raise InputError("Segment first: there is nothing to be uncertain about yet.")
    return session.prior.probability


def doubt(session: Session) -> np.ndarray:
    """What places are ranked by, float32 [H, W] in nats: the mean entropy of the prior and of the
    result that stands: of the maps in docs/generative.md near the best for every kind of error."""
    from napari_hidiff.masks import entropy

    about = entropy(believed(session))
    return about if session.prior is None else (about + entropy(session.prior.probability)) / 2


@dataclass
class _Round:
    about: np.ndarray  # the probability that the places were found in
    places: "list[Place]"
    visited: int = 0


class Tour:
    """The uncertain places of every session, each visited once after each result."""

    def __init__(self) -> None:
        self._rounds: WeakKeyDictionary[Session, _Round] = WeakKeyDictionary()

    def next(self, session: Session) -> "Place":
        """The most uncertain place that was neither visited nor painted since the last result.

        Raises
        ------
        InputError : there is no prior, nothing is uncertain, or every place was visited; after
            that the tour begins again.
        """
        from napari_hidiff.annotation.suggestions import uncertain_places

        about = believed(session)
        fixed = session.known(max(2, len(about)))  # nothing to decide in a frozen class
        tour = self._rounds.get(session)
        if tour is None or tour.about is not about:
            places = uncertain_places(doubt(session), fixed=fixed)
            if not places:
                raise InputError("No place is uncertain.")
            tour = self._rounds[session] = _Round(about, places)
        while tour.visited < len(tour.places):
            place = tour.places[tour.visited]
            tour.visited += 1
            if fixed[place.row, place.column] == FREE:
                return place
        del self._rounds[session]
        raise InputError("Every uncertain place was visited: the tour begins again.")

    def line(self, session: Session | None) -> str:
        """Where the tour of a session is, in words."""
        tour = None if session is None else self._rounds.get(session)
        if session is None or tour is None or tour.about is not believed(session):
            return "most uncertain first"
        uncertainty = f"{tour.places[tour.visited - 1].uncertainty:.2f}".lstrip("0")
        return f"place {tour.visited} of {len(tour.places)}, uncertainty {uncertainty}"


def look_at(viewer: Any, layer: Layer, index: Index, place: "Place") -> None:
    """Move the camera to a place in a slice; where the whole layer is in view, closer as well."""
    at = iter(place[:2])
    position = [next(at) if axis < 0 else axis for axis in index]
    first = viewer.dims.ndim - layer.ndim
    axes = [axis - first for axis in viewer.dims.displayed]
    camera, world = viewer.scene.camera, np.array(layer.data_to_world(position))
    camera.center = (*camera.center[:-2], *world[axes])
    size = np.ptp(layer.extent.world, axis=0)[axes]
    canvas = np.array(viewer.canvas.viewbox_size(viewer.layers))
    if np.all(canvas / camera.zoom >= size):
        camera.zoom = 2 * float((canvas / size).min())  # half of both sides: a quarter of the image
