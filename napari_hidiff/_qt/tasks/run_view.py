"""The run under way, and the preview of its steps: in the mask, or as an outline over it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_hidiff._qt import messages
from napari_hidiff._qt.controls.annotate_page import AnnotatePage
from napari_hidiff._qt.layers.annotated_image import AnnotatedImage
from napari_hidiff.annotation.journal import LoggedRun
from napari_hidiff.annotation.refinement import Settings
from napari_hidiff.annotation.suggestions import RunSamples
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.stack import Stack
from napari_hidiff.masks import Index

if TYPE_CHECKING:
    from napari_hidiff.diffusion.samplers import Step
    from napari_hidiff.inference.model import HiDiff


class RunPreview:
    """What the slider goes over; one step at a time is outlined, of whichever slice."""

    def __init__(self, page: AnnotatePage) -> None:
        self._page = page
        self.samples: RunSamples | None = None
        """The samples of the last run, once it is finished."""
        self._outlined: tuple[AnnotatedImage, Index, int] | None = None

    def outlined(self, annotated: AnnotatedImage, index: Index) -> int | None:
        """The step of a slice that is shown over the mask."""
        if self._outlined is None or self._outlined[:2] != (annotated, index):
            return None
        return self._outlined[2]

    def hide(self, annotated: AnnotatedImage, index: Index) -> None:
        """Outline nothing: what there is to see of the slice is in the mask."""
        self._outlined = None
        annotated.preview(index, None)

    def begin(self) -> None:
        """A run begins: there is nothing to look at yet."""
        self.forget()
        self._page.show_moment(0, 0)

    def forget(self) -> None:
        """Another run or sweep begins, or the end has come."""
        self._outlined = self.samples = None

    def leave(self, annotated: AnnotatedImage) -> None:
        """An image is closed: keep nothing of it."""
        if self._outlined is not None and self._outlined[0] is annotated:
            self._outlined = None
        runs = [session.run for session in annotated.annotation.sessions.values()]
        if self.samples is not None and any(self.samples.run is run for run in runs):
            self.samples = None

    def show(self, annotated: AnnotatedImage, index: Index, step: int) -> None:
        """Show a step of the slice's run: as an outline, unless it stands in the mask."""
        session = annotated.session(index)
        if session.run is None:
            return
        if not self._page.steps_shown:
            return
        annotated.show_maps(index, session.run.shown[step].probability)
        stands = step == session.standing
        self._outlined = None if stands else (annotated, index, step)
        annotated.preview(index, None if stands else step)
        self.tell(annotated, index, step)

    def tell(self, annotated: AnnotatedImage, index: Index, step: int, idle: bool = False) -> None:
        """Set the slider to a step of the slice's run and say where the step is to be seen; idle :
        nothing is under way, so a run with steps left was stopped."""
        session = annotated.session(index)
        if session.run is None:
            self._page.show_moment(0, 0)
            return
        step = min(step, session.run.steps)
        if self.outlined(annotated, index) == step:
            where = "outlined"
        else:
            where = "in the mask" if step == session.standing else "not in the mask"
        samples = self.samples
        mine = samples is not None and samples.run is session.run
        shares = samples.shares if samples is not None and mine else None
        text = messages.moment(step, session.run.total, shares, where)
        if idle and step == session.run.steps and not session.run.finished:
            text = messages.stopped(text)
        self._page.show_moment(step, session.run.steps, text)


@dataclass(frozen=True)
class Target:
    """What to work on: a slice of an image, and the image that it is of.

    annotated : gives the annotated image and makes it where there is none, so that nothing is
    allocated before there is something to show.
    """

    annotated: Callable[[], AnnotatedImage]
    index: Index
    stack: Stack

    @property
    def image(self) -> np.ndarray:
        """The slice as it is stored, [H, W] or [H, W, C]."""
        return self.stack.plane(self.index)

    def settings(self, how: Settings, card: Card) -> Settings:
        """Settings with the factor by which this slice is resampled for a model."""
        if how.scale is not None:
            return how
        return replace(how, scale=self.stack.scale(card, self.index))


@dataclass
class ActiveRun:
    """A run that can be continued; it keeps its place between Step, Stop and Run.

    entry : about the run in the log. writes : whether its last step is to be written into the
    mask.
    """

    annotated: AnnotatedImage
    index: Index
    model: "HiDiff"
    settings: Settings
    steps: "Iterator[Step]"
    entry: LoggedRun
    writes: bool = True
