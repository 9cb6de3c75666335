"""From one uncertain place to the next, and the camera that goes there."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Layer

from napari_hidiff.annotation.session import Index, Session
from napari_hidiff.annotation.undo import FREE
from napari_hidiff.errors import InputError

if TYPE_CHECKING:
    from napari_hidiff.annotation.places import Place


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
    from napari_hidiff.probability import entropy

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
        from napari_hidiff.annotation.places import uncertain_places

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
