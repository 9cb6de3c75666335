"""Which step of a slice's run is shown, and where: in the mask, or as an outline over it.

What a piece of work is about: the slice it works on, a run that goes on, a run's samples.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_hidiff._qt import messages
from napari_hidiff._qt.controls.panel import Panel
from napari_hidiff._qt.layers.annotated_image import Bench
from napari_hidiff.annotation.journal import model_facts
from napari_hidiff.annotation.refinement import Settings
from napari_hidiff.annotation.session import Run, Session
from napari_hidiff.inference.stack import Stack
from napari_hidiff.masks import Index, of_mask

if TYPE_CHECKING:
    from napari_hidiff.annotation.suggestions import Alternative
    from napari_hidiff.diffusion.samplers import Step
    from napari_hidiff.inference.model import HiDiff


class Moments:
    """What the slider goes over; one step at a time is outlined, of whichever slice."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self.samples: Samples | None = None
        """The samples of the last run, once it is finished."""
        self._outlined: tuple[Bench, Index, int] | None = None

    def outlined(self, bench: Bench, index: Index) -> int | None:
        """The step of a slice that is shown over the mask."""
        if self._outlined is None or self._outlined[:2] != (bench, index):
            return None
        return self._outlined[2]

    def hide(self, bench: Bench, index: Index) -> None:
        """Outline nothing: what there is to see of the slice is in the mask."""
        self._outlined = None
        bench.preview(index, None)

    def forget(self) -> None:
        """Another run or sweep begins, or the end has come."""
        self._outlined = self.samples = None

    def leave(self, bench: Bench) -> None:
        """A bench is closed: keep nothing of it."""
        if self._outlined is not None and self._outlined[0] is bench:
            self._outlined = None
        runs = [session.run for session in bench.annotation.sessions.values()]
        if self.samples is not None and any(self.samples.run is run for run in runs):
            self.samples = None

    def show(self, bench: Bench, index: Index, step: int) -> None:
        """Show a step of the slice's run: as an outline, unless it stands in the mask."""
        session = bench.session(index)
        if session.run is None:
            return
        bench.show_probability(index, session.run.shown[step].probability)
        stands = step == session.standing
        self._outlined = None if stands else (bench, index, step)
        bench.preview(index, None if stands else step)
        self.tell(bench, index, step)

    def tell(self, bench: Bench, index: Index, step: int) -> None:
        """Set the slider to a step of the slice's run and say where the step is to be seen."""
        session = bench.session(index)
        if session.run is None:
            self._panel.show_moment(0, 0)
            return
        step = min(step, session.run.steps)
        if self.outlined(bench, index) == step:
            where = "outlined"
        else:
            where = "in the mask" if step == session.standing else "not in the mask"
        samples = self.samples
        mine = samples is not None and samples.run is session.run
        shares = samples.shares if samples is not None and mine else None
        text = messages.moment(step, session.run.total, shares, where)
        self._panel.show_moment(step, session.run.steps, text)


@dataclass(frozen=True)
class Target:
    """What to work on: a slice of an image, and whose bench it is.

    bench : gives the image's workbench and makes it where there is none, so that nothing is
    allocated before there is something to show.
    """

    bench: Callable[[], Bench]
    index: Index
    stack: Stack

    @property
    def image(self) -> np.ndarray:
        """The slice as it is stored, [H, W] or [H, W, C]."""
        return self.stack.plane(self.index)


@dataclass
class Going:
    """A run that can be continued; it keeps its place between Step, Stop and Run.

    entry : about the run in the log. writes : whether its last step is to be written into the
    mask.
    """

    bench: Bench
    index: Index
    model: "HiDiff"
    settings: Settings
    steps: "Iterator[Step]"
    entry: dict[str, Any]
    writes: bool = True


@dataclass
class Samples:
    """The samples of a finished run, and the alternatives among them once they were sought.

    each : float32 [S, K, H, W]. shares : per alternative its share of the samples, 0..1; the
    alternatives follow the last step in ``run.shown``. None = not sought yet.
    """

    run: Run
    each: np.ndarray
    shares: list[float] | None = None

    def know(self, session: Session) -> bool:
        """Whether these are several samples of the session's run, which knew all its strokes and
        frozen classes."""
        mine = session.run is self.run and len(self.each) > 1
        known = session.known(max(2, self.each.shape[1]))
        return mine and np.array_equal(self.run.fixed, known)

    def offer(self, found: "list[Alternative]") -> None:
        """Put alternatives behind the steps of the run; :func:`offered` says which."""
        from napari_hidiff.annotation.suggestions import offered

        self.shares = offered(self.run, found)

    def after(self, shown: int) -> int:
        """The entry of ``run.shown`` to show next: every alternative, then the mean, and again."""
        last = self.run.total
        return last if shown == self.run.steps else max(shown, last) + 1


def source_of(model: "HiDiff", mask: np.ndarray | None) -> dict[str, Any]:
    """What the log says of a prior: whose it is, or the mask that it was made from."""
    if mask is None:
        return model_facts(model) | {"prior": "segmentor"}
    return model_facts(model) | {"prior": "mask", "pixels": of_mask(mask)}
