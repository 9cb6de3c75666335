"""What a piece of work is about: the slice it works on, a run that goes on, a run's samples."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_hidiff._qt.bench import Bench
from napari_hidiff._qt.choices import Settings
from napari_hidiff.session import Index, Run, Session, Shown

if TYPE_CHECKING:
    from napari_hidiff.alternatives import Alternative
    from napari_hidiff.model import HiDiff
    from napari_hidiff.refine import Step


@dataclass(frozen=True)
class Target:
    """What to work on: a slice [H, W] or [H, W, C], where it lies, and whose bench it is.

    bench : gives the image's workbench and makes it where there is none, so that nothing is
    allocated before there is something to show.
    """

    bench: Callable[[], Bench]
    index: Index
    image: np.ndarray


@dataclass
class Going:
    """A run that can be continued; it keeps its place between Step, Stop and Run.

    writes : whether its last step is to be written into the mask.
    """

    bench: Bench
    index: Index
    model: "HiDiff"
    settings: Settings
    steps: "Iterator[Step]"
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
        """Put alternatives behind the steps of the run, as far as its guards tell them apart.

        Toss-ups may differ in them: they are what there is to choose from.
        """
        run = self.run
        guards = replace(run.guards, margin=0.0)
        kept: list[Alternative] = []
        for one in found:
            mask = guards(run.before, one.mask, run.strokes, run.believed, one.probability)
            twins = [i for i, other in enumerate(kept) if np.array_equal(other.mask, mask)]
            if twins:
                share = kept[twins[0]].share + one.share
                kept[twins[0]] = kept[twins[0]]._replace(share=share)
            else:
                kept.append(one._replace(mask=mask.astype(one.mask.dtype)))
        self.shares = [one.share for one in kept]
        if len(kept) > 1:
            run.shown.extend(Shown(one.mask, one.probability) for one in kept)

    def after(self, shown: int) -> int:
        """The entry of ``run.shown`` to show next: every alternative, then the mean, and again."""
        last = self.run.total
        return last if shown == self.run.steps else max(shown, last) + 1
