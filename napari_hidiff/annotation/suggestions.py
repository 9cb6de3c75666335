"""Suggestions beside the result itself.

Alternatives: a few clearly different masks among the samples of one run. Uncertain places: where
to look next. Completion: strokes grown to a mask without a model, by the random walker of
Grady (2006) in scikit-image.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from scipy import ndimage

from napari_hidiff.annotation.session import Run, Session, Shown
from napari_hidiff.errors import InputError
from napari_hidiff.masks import EPSILON, FREE, entropy, mask_of

DISTINCT = 0.02
"""Masks closer than this (1 - Dice) count as one answer: their difference is hard to see."""
CLEAR = 1.25
"""A ratio for ``clear`` that clusters of pure noise do not reach
(tests/annotation/test_suggestions_alternatives.py)."""
LEAST = 1e-3
"""Nats; the smallest uncertainty of a place."""
BETA = 130.0
"""The penalty for crossing an edge; scikit-image's default."""


class Alternative(NamedTuple):
    """One answer of a refinement: a cluster of samples.

    mask : uint8 [H, W]; probability : float32 [K, H, W], the mean of the cluster; share : of all
    samples, in (0, 1].
    """

    mask: np.ndarray
    probability: np.ndarray
    share: float


def alternatives(each: np.ndarray, count: int = 3, clear: float = 0) -> list[Alternative]:
    """At most ``count`` masks that represent the samples, the most frequent first.

    each : float [S, K, H, W], the probability of every sample (``Step.each``).

    clear : how many times as far apart as the samples within clusters those of two clusters have
        to be, on average; 0 asks for no more than ``DISTINCT``.

    The samples' masks are clustered by 1 - Dice (average linkage). Clusters are merged as long as
    the masks of two are closer than ``DISTINCT``, or too close to be ``clear``: clustering divides
    noise, too, and then splits off single samples. Of equally frequent ones the one closer to the
    mean of all samples comes first.

    Raises
    ------
    InputError : no sample, another number of axes, or a count below 1.
    """
    if each.ndim != 4 or not len(each):
        raise InputError(f"alternatives need samples [S, K, H, W], not an array {each.shape}")
    if count < 1:
        raise InputError(f"the number of alternatives must be at least 1, not {count}")
    labels = max(2, each.shape[1])
    between = distances(mask_of(each), labels)
    groups, means = _merged(_clusters(between, count), each, between, labels, clear)
    overall = each.mean(0)
    apart = [float(np.square(mean - overall).mean()) for mean in means]
    order = sorted(range(len(groups)), key=lambda i: (-len(groups[i]), apart[i], groups[i][0]))
    return [Alternative(mask_of(means[i]), means[i], len(groups[i]) / len(each)) for i in order]


def offered(run: Run, found: list[Alternative]) -> list[float]:
    """Append alternatives to the steps of a run, if they still differ under its guards.

    The guard on toss-ups is off: toss-ups are the choice to offer. Returns the share of each, 0..1;
    a single alternative is the mean, and not appended.
    """
    guards = replace(run.guards, margin=0.0)
    distinct: list[Alternative] = []
    for one in found:
        whole = run.whole(one.mask)
        mask = guards(run.before, whole, run.strokes, run.believed, one.probability)
        twins = [i for i, other in enumerate(distinct) if np.array_equal(other.mask, mask)]
        if twins:
            share = distinct[twins[0]].share + one.share
            distinct[twins[0]] = distinct[twins[0]]._replace(share=share)
        else:
            distinct.append(one._replace(mask=mask.astype(one.mask.dtype)))
    if len(distinct) > 1:
        run.shown.extend(Shown(one.mask, one.probability) for one in distinct)
    return [one.share for one in distinct]


@dataclass
class RunSamples:
    """The samples of a finished run, and the alternatives among them.

    each : float32 [S, K, H, W]. shares : per alternative its share of the samples, 0..1; the
    alternatives follow the last step in ``run.shown``. None = not computed yet.
    """

    run: Run
    each: np.ndarray
    shares: list[float] | None = None

    def are_of(self, session: Session) -> bool:
        """Whether these are several samples of the session's run, newer than all strokes and frozen
        classes."""
        mine = session.run is self.run and len(self.each) > 1
        known = session.known(max(2, self.each.shape[1]))
        return mine and np.array_equal(self.run.fixed, known)

    def offer(self, alternatives: list[Alternative]) -> None:
        """Append alternatives to the steps of the run (:func:`offered`)."""
        self.shares = offered(self.run, alternatives)

    def after(self, shown: int) -> int:
        """The entry of ``run.shown`` to show next: every alternative, then the mean, and again."""
        last = self.run.total
        return last if shown == self.run.steps else max(shown, last) + 1


def distances(masks: np.ndarray, labels: int) -> np.ndarray:
    """1 - Dice of every two of the masks [S, H, W], float64 [S, S], mean over the classes.

    labels : how many label values there are, background included. Two empty sets are equal.
    """
    flat = masks.reshape(len(masks), -1)
    varied = (flat != flat[0]).any(0)  # constant pixels add the same to every pair
    alike, flat = flat[0][~varied], flat[:, varied]
    total = np.zeros((len(masks), len(masks)))
    for label in range(1, labels):
        inside = (flat == label).astype(np.float64)
        common = int((alike == label).sum())
        shared = inside @ inside.T + common
        size = shared.diagonal()
        both = size[:, None] + size[None]
        total += np.where(both > 0, 1 - 2 * shared / np.maximum(both, 1), 0)
    return total / (labels - 1)


def _clusters(between: np.ndarray, count: int) -> list[np.ndarray]:
    """Indices of the samples in each of at most ``count`` clusters, by their distances [S, S]."""
    from scipy.cluster.hierarchy import fcluster, linkage  # a tenth of a second to import
    from scipy.spatial.distance import squareform

    if len(between) == 1:
        return [np.array([0])]
    names = fcluster(linkage(squareform(between, checks=False), "average"), count, "maxclust")
    return [np.flatnonzero(names == name) for name in np.unique(names)]


def _merged(
    groups: list[np.ndarray], each: np.ndarray, between: np.ndarray, labels: int, clear: float
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Groups, and the mean probability of each, after merging groups that are not distinct."""
    while True:
        means = [each[group].mean(0, dtype=np.float32) for group in groups]
        masks = distances(mask_of(np.stack(means)), labels)
        noise = clear * _within(groups, between)
        close = []
        for a, b in combinations(range(len(groups)), 2):
            apart = float(between[np.ix_(groups[a], groups[b])].mean())
            if apart < noise or masks[a, b] < DISTINCT:
                close.append((apart, a, b))
        if not close:
            return groups, means
        _, a, b = min(close)
        groups[a] = np.sort(np.concatenate([groups[a], groups.pop(b)]))


def _within(groups: list[np.ndarray], between: np.ndarray) -> float:
    """The mean distance of two samples of one group; 0 where no group has two."""
    pairs = [between[i, j] for group in groups for i, j in combinations(group, 2)]
    return float(np.mean(pairs)) if pairs else 0.0


class Place(NamedTuple):
    """A pixel to look at, and the uncertainty around it in the unit of the map."""

    row: int
    column: int
    uncertainty: float


def look_radius(shape: tuple[int, ...]) -> float:
    """Radius in pixels of the region around a place, for an image [H, W]."""
    return min(shape[:2]) / 16


def uncertain_places(
    uncertainty: np.ndarray, count: int = 20, fixed: np.ndarray | None = None
) -> list[Place]:
    """At most ``count`` places, the most uncertain first, no two within :func:`look_radius`.

    uncertainty : float [H, W], 0 = certain (entropy in nats, say). It is averaged with a Gaussian,
        so that an uncertain region comes before a single pixel.
    fixed : int [H, W], -1 = free; a fixed pixel is certain and never a place.

    Places below ``LEAST`` are left out.

    Raises
    ------
    InputError : not an image [H, W] of finite values, or a fixed map of another shape.
    """
    if uncertainty.ndim != 2 or not np.isfinite(uncertainty).all():
        raise InputError(f"wanted finite uncertainty [H, W], got an array {uncertainty.shape}")
    free = np.ones(uncertainty.shape, bool) if fixed is None else fixed < 0
    if free.shape != uncertainty.shape:
        raise InputError(f"the fixed map has shape {free.shape}, not {uncertainty.shape}")
    sigma = max(1.0, min(uncertainty.shape) / 64)
    left = ndimage.gaussian_filter(np.where(free, uncertainty, 0).astype(np.float64), sigma)
    left[~free] = 0
    places: list[Place] = []
    while left.size and len(places) < count:
        row, column = (int(at) for at in np.unravel_index(left.argmax(), left.shape))
        if left[row, column] < LEAST:
            break
        places.append(Place(row, column, float(left[row, column])))
        reach = int(look_radius(left.shape))
        top, first = max(row - reach, 0), max(column - reach, 0)
        near = left[top : row + reach + 1, first : column + reach + 1]
        near[_within_radius(near.shape, row - top, column - first, look_radius(left.shape))] = 0
    return places


def disc(shape: tuple[int, ...], row: int, column: int) -> np.ndarray:
    """bool [H, W], the pixels within :func:`look_radius` of a pixel."""
    return _within_radius(shape, row, column, look_radius(shape))


def _within_radius(shape: tuple[int, ...], row: int, column: int, radius: float) -> np.ndarray:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.asarray((rows - row) ** 2 + (columns - column) ** 2 <= radius**2)


def leaning(probability: np.ndarray, place: Place) -> np.ndarray:
    """What the model leans to round a place where it is unsure: the mean of a probability float32
    [K, H, W] within half of :func:`look_radius`, weighted by the entropy; float64 [K]."""
    radius = look_radius(probability.shape[1:]) / 2
    rows, columns = (
        slice(max(at - int(radius), 0), at + int(radius) + 1) for at in (place.row, place.column)
    )
    there = probability[:, rows, columns]
    centre = place.row - rows.start, place.column - columns.start
    weight = _within_radius(there.shape[1:], *centre, radius) * (entropy(there) + EPSILON)
    return np.asarray((there * weight).sum((1, 2), dtype=np.float64) / weight.sum(dtype=np.float64))


def uncertainty_map(current: np.ndarray, prior: np.ndarray | None) -> np.ndarray:
    """The uncertainty that ranks places, float32 [H, W] in nats.

    It is the mean entropy of the current result and of the first mask, probabilities float32
    [K, H, W]: of the maps compared in docs/generative.md near the best for every kind of error.
    """
    return entropy(current) if prior is None else (entropy(current) + entropy(prior)) / 2


class TourProgress(NamedTuple):
    """Progress of a tour: the last place, the number of visited places, the number of all."""

    place: Place
    visited: int
    total: int


@dataclass
class TourRound:
    """The places of a slice after one result.

    probability : float32 [K, H, W], that result's; visited : how many places were.
    """

    probability: np.ndarray
    places: list[Place]
    visited: int = 0


class UncertaintyTour:
    """The uncertain places of every slice, each visited once after each result."""

    def __init__(self) -> None:
        self._rounds: WeakKeyDictionary[Session, TourRound] = WeakKeyDictionary()

    def begun(self, session: Session) -> bool:
        """Whether the places of a slice are known since the last result."""
        tour = self._rounds.get(session)
        return tour is not None and tour.probability is session.current_probability

    def search(self, session: Session) -> Callable[[], TourRound]:
        """What finds the places of a slice; it may be called in a thread, for a large image takes
        seconds. InputError if there is no first mask."""
        current, prior = session.current_probability, session.prior
        fixed = session.known(max(2, len(current)))  # nothing to decide in a frozen class

        def find() -> TourRound:
            uncertainty = uncertainty_map(current, None if prior is None else prior.probability)
            return TourRound(current, uncertain_places(uncertainty, fixed=fixed))

        return find

    def begin(self, session: Session, found: TourRound) -> None:
        """Visit these places from now on."""
        self._rounds[session] = found

    def next(self, session: Session) -> Place:
        """The most uncertain place that was not visited or painted since :meth:`begin`.

        Raises
        ------
        InputError : nothing is uncertain, or every place was visited; the tour then restarts.
        """
        tour, labels = self._rounds[session], max(2, len(session.current_probability))
        fixed = session.known(labels)
        while tour.visited < len(tour.places):
            place = tour.places[tour.visited]
            tour.visited += 1
            if fixed[place.row, place.column] == FREE:
                return place
        del self._rounds[session]
        if not tour.places:
            raise InputError("No place is uncertain.")
        raise InputError("Every uncertain place was visited: the tour begins again.")

    def progress(self, session: Session) -> TourProgress | None:
        """The progress in a slice; None before its first place and after a new result."""
        tour = self._rounds.get(session)
        if not (tour and tour.visited) or (session.run is None and session.prior is None):
            return None
        if tour.probability is not session.current_probability:
            return None
        return TourProgress(tour.places[tour.visited - 1], tour.visited, len(tour.places))


def random_walk(image: np.ndarray, fixed: np.ndarray, beta: float = BETA) -> np.ndarray:
    """Give every free pixel the label whose strokes a random walker from there meets first.

    image : [H, W] or [H, W, C], any real dtype; scaled to 0..1 by its own range.
    fixed : integer [H, W], the label of every painted pixel (0 = background), -1 where free.
    beta : the weight between neighbours falls with beta times their squared difference.

    Returns the mask, uint8 [H, W]; painted pixels keep their label. The same input gives the
    same mask.

    Raises
    ------
    InputError : the shapes differ, fewer than two labels are painted, or the image holds NaN or
        infinite values.
    """
    from skimage.segmentation import random_walker

    if image.shape[:2] != fixed.shape:
        raise InputError(f"The strokes have shape {fixed.shape}, the image {image.shape[:2]}.")
    labels = np.unique(fixed[fixed != FREE])
    if labels.size < 2:
        missing = "Erase on the background" if (labels > 0).any() else "Paint inside the object"
        raise InputError(f"{missing} first: completing takes both kinds of strokes.")
    pixels = np.asarray(image, np.float64)
    if not np.isfinite(pixels).all():
        raise InputError("The image holds NaN or infinite values.")
    low, high = float(pixels.min()), float(pixels.max())
    pixels = (pixels - low) / ((high - low) or 1.0)
    seeds = np.zeros(fixed.shape, np.int32)  # for scikit-image 0 means free
    for number, label in enumerate(labels, start=1):
        seeds[fixed == label] = number
    if np.any(seeds == 0):
        axis = -1 if pixels.ndim == 3 else None
        seeds = random_walker(pixels, seeds, beta, mode="cg_mg", tol=1e-5, channel_axis=axis)
    return labels[np.asarray(seeds) - 1].astype(np.uint8)
