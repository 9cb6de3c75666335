"""What a piece of work is about: the slice it works on, a run that goes on, a run's samples."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_hidiff._qt.controls.settings import Settings
from napari_hidiff._qt.layers.annotated_image import Bench
from napari_hidiff.annotation.journal import model_facts
from napari_hidiff.annotation.session import Index, Run, Session
from napari_hidiff.inference.stack import Stack
from napari_hidiff.masks import of_mask

if TYPE_CHECKING:
    from napari_hidiff.annotation.suggestions import Alternative
    from napari_hidiff.diffusion.samplers import Step
    from napari_hidiff.inference.model import HiDiff


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
