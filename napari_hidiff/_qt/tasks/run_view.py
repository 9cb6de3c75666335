"""Which step of a slice's run is shown, and where: in the mask, or as an outline over it."""

from napari_hidiff._qt import messages
from napari_hidiff._qt.controls.panel import Panel
from napari_hidiff._qt.layers.annotated_image import Bench
from napari_hidiff._qt.tasks.runs import Samples
from napari_hidiff.annotation.session import Index


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
