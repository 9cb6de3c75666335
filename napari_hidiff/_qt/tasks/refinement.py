"""The work under way: a segmentation, the steps of a run, or a completion; one at a time."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject

from napari_hidiff._qt import threads
from napari_hidiff._qt.controls.panel import Panel
from napari_hidiff._qt.layers.annotated_image import Bench
from napari_hidiff._qt.tasks.run_view import Going, Moments, Samples, Target, source_of
from napari_hidiff.annotation import refinement
from napari_hidiff.annotation.constraints import Guards
from napari_hidiff.annotation.journal import model_facts
from napari_hidiff.annotation.refinement import Settings, SliceResult
from napari_hidiff.annotation.session import Prior, Session
from napari_hidiff.annotation.suggestions import random_walk
from napari_hidiff.errors import InputError
from napari_hidiff.masks import Index, check_labels

if TYPE_CHECKING:
    from napari_hidiff.annotation.suggestions import Alternative
    from napari_hidiff.diffusion.samplers import Step
    from napari_hidiff.inference.model import HiDiff


class Refinement(QObject):
    """Runs one thing at a time and shows it in the panel.

    refresh : called whenever something begins, moves on or ends.
    """

    def __init__(self, panel: Panel, refresh: Callable[[], None]) -> None:
        super().__init__()
        self._panel, self._refresh = panel, refresh
        self._job: threads.Job | None = None
        self._working_on: Bench | None = None
        self._going: Going | None = None
        self.moments = Moments(panel)
        """What is shown of the run, and its samples."""
        self._then: Callable[[], None] | None = None
        self._sweeping = False

    @property
    def busy(self) -> bool:
        """Whether something is under way in a thread."""
        return self._job is not None

    @property
    def stoppable(self) -> bool:
        """Whether it is a run or a sweep, which can be stopped between two steps or slices."""
        return self.busy and (self._going is not None or self._sweeping)

    def segment(
        self,
        target: Target,
        model: "HiDiff",
        mask: np.ndarray | None,
        then: Callable[[], None] | None = None,
    ) -> None:
        """Show the segmentor's prior, or start from ``mask`` [H, W] of the user.

        then : what to go on with. Raises InputError for a label that the model does not know.
        """
        if mask is not None:
            check_labels(mask, model.labels, "The mask to start from")
            mask = mask.copy()
        self._going, self._then = None, then

        def done(prior: Prior) -> None:
            bench = target.bench()
            session = bench.session(target.index)
            session.begin(mask, prior)
            bench.annotation.note("segment", slice=target.index, **source_of(model, mask))
            bench.show_probability(target.index, prior.probability)
            self.moments.hide(bench, target.index)
            bench.link.write(target.index, prior.mask, what="prior")

        self._start(refinement.segment, model, target.stack, target.index, mask, done=done)

    def prime(
        self, target: Target, model: "HiDiff", mask: np.ndarray | None, then: Callable[[], None]
    ) -> None:
        """Make the prior of a slice again, from ``mask`` or the segmentor; the slice stays as it
        is. then : what to go on with."""
        self._going, self._then = None, then

        def done(prior: Prior) -> None:
            bench = target.bench()
            bench.session(target.index).begin(mask, prior)
            bench.annotation.note("segment", slice=target.index, **source_of(model, mask))

        self._start(refinement.segment, model, target.stack, target.index, mask, done=done)

    def sweep(
        self,
        bench: Bench,
        slices: Callable[..., Iterator[SliceResult]],
        *args: Any,
        each: Callable[[SliceResult], None],
        ended: Callable[[], None],
    ) -> None:
        """Go over many slices, ``slices(*args)``.

        each : called with every slice. ended : called at last, also after a stop.
        """
        self._going, self._then, self._working_on = None, ended, bench
        self._sweeping = True
        self.moments.forget()
        # No napari progress bar: it handles events in each update, one slice within the other.
        self._start(slices, *args, step=each)

    def progressed(self, share: float) -> None:
        """Say how far a sweep is, 0..1."""
        self._panel.show_progress(share)

    def advance(
        self,
        target: Target,
        model: "HiDiff",
        settings: Settings,
        single: bool = False,
        restart: Guards | None = None,
        then: Callable[[], None] | None = None,
    ) -> None:
        """One step (``single``) or all that remain; with ``restart`` from the prior again.

        restart : what a new run may change in the mask. then : called once every step is taken, in
        place of writing the last one into the mask.

        Raises InputError, before anything starts, for strokes that the model does not know.
        """
        bench = target.bench()
        session = bench.session(target.index)
        going = self._going
        same = (bench, target.index, model, settings)
        if (
            restart is not None
            or going is None
            or (going.bench, going.index, going.model, going.settings) != same
            or session.run is None
            or session.run.finished
        ):
            run = session.start(settings.passes, model.labels, restart)
            if session.prior is None:
                raise InputError("Segment first: there is nothing to refine yet.")
            prior = session.prior.given
            steps = refinement.steps(
                model, target.stack, target.index, prior, run, settings.sampling
            )
            entry = bench.annotation.note(
                "run",
                slice=target.index,
                fixed=session.timeline.fixed_count,
                **model_facts(model) | vars(settings) | vars(run.guards),
            )
            going = Going(bench, target.index, model, settings, steps, entry)
            self._going = going
            self.moments.forget()
            self.moments.hide(bench, target.index)
            self._panel.show_moment(0, 0)
        going.writes, self._then, self._working_on = then is None, then, bench
        self._start(
            threads.advance,
            going.steps,
            single,
            step=self._on_step,
            progress={"total": settings.passes, "desc": "HiDiff refine"},
        )

    def complete(self, target: Target) -> None:
        """Let the strokes of the slice grow by the random walker; raises InputError."""
        bench = target.bench()
        fixed = bench.session(target.index).timeline.fixed
        self._going, self._working_on = None, bench

        def done(mask: np.ndarray) -> None:
            then = self._written(bench, target.index)
            bench.link.write(target.index, mask, then=then, rejectable=True, what="walker")

        bench.annotation.note("walker", slice=target.index, **target.stack.facts)
        self._start(random_walk, np.array(target.image), fixed, done=done)

    def accept(self, target: Target, model: "HiDiff | None") -> None:
        """Take the mask for final, with the step in it that is outlined; raises InputError."""
        bench, index = target.bench(), target.index
        session = bench.session(index)
        outlined = self.moments.outlined(bench, index)
        step = session.standing if outlined is None else outlined

        def final(*_: np.ndarray) -> None:
            facts: dict[str, Any] = {"fixed": session.timeline.fixed_count}
            if step is not None and session.run is not None and model is not None:
                from napari_hidiff.masks import entropy

                uncertainty = entropy(session.run.shown[step].probability)
                bench.show_uncertainty(index, uncertainty, model.labels)
                number, steps = session.run.number(step), session.run.asked or session.run.total
                facts |= {"model": model.card.name, "step": number, "steps": steps}
                if number > steps:
                    facts["alternative"] = number - steps
            bench.accept(index, facts)
            self.moments.hide(bench, index)
            self._refresh()

        if outlined is not None and session.run is not None:
            bench.link.write(index, session.run.shown[outlined].mask, outlined, then=final)
        else:
            final()

    def reject(self, bench: Bench, index: Index) -> None:
        """Take the last result back; raises InputError if something else happened since."""
        bench.reject(index)
        self._going = None  # its guards compare with the mask that is gone
        self._refresh()

    def seek(self, each: np.ndarray, done: "Callable[[list[Alternative]], None]") -> None:
        """Find the alternatives among samples float32 [S, K, H, W]."""
        self._going = None
        self._start(threads.alternatives, each, done=done)

    def stop(self) -> None:
        """Stop after the step or slice under way; a run can be continued."""
        if not self._sweeping:
            self._then = None
        if self._job is not None:
            self._job.stop()
            if self._going is not None:
                self._going.entry["stopped"] = True

    def abandon(self, bench: Bench) -> bool:
        """Forget the work on a bench, and tell whether there was some."""
        if bench not in (self._working_on, self._going.bench if self._going else None):
            self.moments.leave(bench)
            return False
        was_busy = self.busy
        self.close()
        self._panel.show_progress(None)
        return was_busy

    def close(self) -> None:
        """Stop whatever is under way, and touch nothing any more."""
        if self._job is not None:
            self._job.cancel()
        self._job = self._going = self._working_on = self._then = None
        self.moments.forget()
        self._sweeping = False

    def _start(self, function: Callable[..., Any], *args: Any, **callbacks: Any) -> None:
        self._panel.show_progress(-1)
        self._job = threads.Job(function, *args, ended=self._on_ended, **callbacks)
        self._refresh()

    def _on_step(self, step: "Step") -> None:
        going = self._going
        if going is None:
            return
        session = going.bench.session(going.index)
        session.add_step(step.mask, step.probability)
        going.entry |= {"taken": step.index, "engine": step.engine}
        if session.run is not None and session.run.finished:
            self.moments.samples = Samples(session.run, step.each)
        self.moments.show(going.bench, going.index, step.index)
        self._panel.show_progress(step.index / step.total)

    def _on_ended(self) -> None:
        self._job = self._working_on = None
        self._sweeping = False
        self._panel.show_progress(None)
        then, self._then = self._then, None
        going = self._going
        if going is not None:
            session = going.bench.session(going.index)
            if session.run is not None and session.run.finished:
                self._going = None
                if going.writes:
                    self._write_last(going, session)
            else:
                then = None
        self._refresh()
        if then is not None:
            then()

    def _write_last(self, going: Going, session: Session) -> None:
        if session.run is not None:
            last = session.run.steps
            going.bench.link.write(
                going.index,
                session.run.shown[last].mask,
                last,
                then=self._written(going.bench, going.index),
                rejectable=True,
            )

    def _written(self, bench: Bench, index: Index) -> Callable[[np.ndarray, np.ndarray], None]:
        def then(before: np.ndarray, after: np.ndarray) -> None:
            self.moments.hide(bench, index)
            bench.show_changes(index, before, after)
            bench.reveal(self._panel.changes.isChecked())
            self._refresh()

        return then
