"""The work under way: a segmentation, the steps of a run, or a completion; one at a time."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_hidiff._qt import messages, threads
from napari_hidiff._qt.controls.annotate_page import AnnotatePage
from napari_hidiff._qt.layers.annotated_image import AnnotatedImage
from napari_hidiff._qt.tasks.progress import WorkProgress
from napari_hidiff._qt.tasks.run_view import ActiveRun, RunPreview, Target
from napari_hidiff.annotation import refinement
from napari_hidiff.annotation.constraints import Guards
from napari_hidiff.annotation.entries import AcceptFacts
from napari_hidiff.annotation.refinement import Settings, SliceResult
from napari_hidiff.annotation.session import Prior, Session
from napari_hidiff.annotation.suggestions import RunSamples, random_walk
from napari_hidiff.errors import InputError
from napari_hidiff.masks import Box, Index, check_labels

if TYPE_CHECKING:
    from napari_hidiff.diffusion.samplers import Step
    from napari_hidiff.inference.model import HiDiff


class Refinement(QObject):
    """Runs one thing at a time and shows how far it is.

    reveal_changes : whether what a result changes is outlined. expected : gives the seconds that
    a run was found to take here, or None.
    """

    changed = Signal()
    """Something began, moved on or ended."""
    ended = Signal()
    """The work is over, whatever became of it, and nothing follows from it."""

    def __init__(
        self,
        page: AnnotatePage,
        reveal_changes: Callable[[], bool],
        expected: Callable[[], float | None],
    ) -> None:
        super().__init__()
        self._reveal_changes = reveal_changes
        self._progress = WorkProgress(page, expected)
        self._job: threads.Job | None = None
        self._working_on: AnnotatedImage | None = None
        self._active: ActiveRun | None = None
        self.preview = RunPreview(page)
        """What is shown of the run, and its samples."""
        self._then: Callable[[], None] | None = None
        self._sweeping = self._seeking = False

    @property
    def busy(self) -> bool:
        """Whether something is under way in a thread."""
        return self._job is not None

    def segment(
        self,
        target: Target,
        model: "HiDiff",
        mask: np.ndarray | None,
        scale: float | None,
        then: Callable[[], None] | None = None,
    ) -> None:
        """Show the segmentor's prior, or start from ``mask`` [H, W] of the user.

        scale : by which the slice is resampled for the segmentor. then : what to go on with.
        Raises InputError for a label that the model does not know.
        """
        if mask is not None:
            check_labels(mask, model.labels, "The mask to start from")
            mask = mask.copy()
        self._active, self._then = None, then

        def done(prior: Prior) -> None:
            annotated = target.annotated()
            session = annotated.session(target.index)
            session.begin(mask, prior)
            annotated.annotation.journal.segment(target.index, model, mask, scale=scale)
            annotated.show_maps(target.index, prior.probability)
            self.preview.hide(annotated, target.index)
            annotated.link.write(target.index, prior.mask, what="prior")

        text = messages.in_slice("first mask", target.index)
        args = model, target.stack, target.index, mask, scale
        self._start(text, refinement.segment, *args, done=done)

    def point(
        self,
        target: Target,
        model: "HiDiff",
        label: int,
        given: np.ndarray | Box | None,
        by_user: bool,
        then: Callable[[], None],
        labels: np.ndarray | None = None,
    ) -> None:
        """Point a prompted model at an object: at its mask [H, W], at a box around it, or (None) at
        its strokes alone. The slice stays as it is, unless it begins with the user's ``labels``
        [H, W]. by_user : whether the user gave it now. then : what to go on with."""
        self._active, self._then = None, then

        def done(found: tuple[np.ndarray | None, Prior]) -> None:
            annotated = target.annotated()
            session = annotated.session(target.index)
            if labels is not None:
                annotated.link.write(target.index, labels)
            session.begin(*found, label)
            if by_user and found[0] is not None:
                session.point_at(label, found[0])
            annotated.annotation.journal.segment(target.index, model, found[0], label)
            self.preview.hide(annotated, target.index)

        text = messages.in_slice("first mask", target.index)
        self._start(text, refinement.point, model, target.stack, target.index, given, done=done)

    def prime(
        self,
        target: Target,
        model: "HiDiff",
        mask: np.ndarray | None,
        scale: float | None,
        then: Callable[[], None],
    ) -> None:
        """Make the prior of a slice again, from ``mask`` or the segmentor; the slice stays as it
        is. scale, then : as for :meth:`segment`."""
        self._active, self._then = None, then

        def done(prior: Prior) -> None:
            annotated = target.annotated()
            annotated.session(target.index).begin(mask, prior)
            annotated.annotation.journal.segment(target.index, model, mask, scale=scale)

        text = messages.in_slice("first mask", target.index)
        args = model, target.stack, target.index, mask, scale
        self._start(text, refinement.segment, *args, done=done)

    def sweep(
        self,
        annotated: AnnotatedImage,
        slices: Callable[..., Iterator[SliceResult]],
        *args: Any,
        each: Callable[[SliceResult], None],
        ended: Callable[[], None],
    ) -> None:
        """Go over many slices, ``slices(*args)``.

        each : called with every slice. ended : called at last, also after a stop.
        """
        self._active, self._then, self._working_on = None, ended, annotated
        self._sweeping = True
        self.preview.forget()
        self._start("slices", slices, *args, step=each)

    def progressed(self, share: float) -> None:
        """Say how far a pass over slices is, 0..1."""
        self._progress.advance(share)

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
        annotated = target.annotated()
        session = annotated.session(target.index)
        active = self._active
        same = (annotated, target.index, model, settings)
        if (
            restart is not None
            or active is None
            or (active.annotated, active.index, active.model, active.settings) != same
            or session.run is None
            or session.run.finished
        ):
            run = session.start(settings.passes, model.labels, restart)
            if session.prior is None:
                raise InputError("Press Find first: there is nothing to refine yet.")
            prior = session.prior.given
            steps = refinement.steps(
                model, target.stack, target.index, prior, run, settings.sampling
            )
            entry = annotated.annotation.begin_run(target.index, model, settings, run.guards)
            active = ActiveRun(annotated, target.index, model, settings, steps, entry)
            self._active = active
            self.preview.begin()
            self.preview.hide(annotated, target.index)
        active.writes, self._then, self._working_on = then is None, then, annotated
        self._start(
            messages.in_slice("refining", target.index),
            threads.advance,
            active.steps,
            single,
            step=self._on_step,
        )
        if not single:
            QTimer.singleShot(0, partial(self._prepare, annotated))

    def complete(self, target: Target) -> None:
        """Let the strokes of the slice grow by the random walker; raises InputError."""
        annotated = target.annotated()
        fixed = annotated.session(target.index).timeline.fixed
        self._active, self._working_on = None, annotated

        def done(mask: np.ndarray) -> None:
            then = self._written(annotated, target.index)
            annotated.link.write(target.index, mask, then=then, rejectable=True, what="walker")

        annotated.annotation.journal.walker(target.index, **target.stack.facts)
        self._start("completing", random_walk, np.array(target.image), fixed, done=done)

    def accept(self, target: Target, model: "HiDiff | None") -> None:
        """Take the mask as it is for final; no pixel changes. Raises InputError."""
        annotated, index = target.annotated(), target.index
        session = annotated.session(index)
        step = session.standing
        facts: AcceptFacts = {"fixed": session.timeline.fixed_count}
        if step is not None and session.run is not None and model is not None:
            number, steps = session.run.number(step), session.run.asked or session.run.total
            facts |= {"model": model.card.name, "step": number, "steps": steps}
            if number > steps:
                facts["alternative"] = number - steps
        annotated.accept(index, facts)
        self.preview.hide(annotated, index)
        self.changed.emit()

    def use_outlined(self, target: Target) -> None:
        """Write the step or the answer that is outlined into the mask; raises InputError."""
        annotated, index = target.annotated(), target.index
        run, outlined = annotated.session(index).run, self.preview.outlined(annotated, index)
        if run is None or outlined is None:
            raise InputError("Nothing is outlined: move the slider, or press Other answer.")
        then = self._written(annotated, index)
        mask = run.shown[outlined].mask
        annotated.link.write(index, mask, outlined, then=then, rejectable=True)

    def reject(self, annotated: AnnotatedImage, index: Index) -> bool:
        """Drop what is outlined, or else take the last result back; returns which: True for a
        result. Raises InputError if something else happened to the mask since."""
        if self.preview.outlined(annotated, index) is not None:
            self.preview.hide(annotated, index)
            self.changed.emit()
            return False
        annotated.reject(index)
        self._active = None  # its guards compare with the mask that is gone
        self.changed.emit()
        return True

    def seek(
        self, what: str, function: Callable[..., Any], *args: Any, done: Callable[[Any], None]
    ) -> None:
        """Find something out by ``function(*args)``, named ``what``; no mask changes, and a run
        that was stopped can still be resumed."""
        self._seeking = True
        self._start(what, function, *args, done=done)

    def stop(self) -> None:
        """Stop after the step or slice under way, which a run can be resumed from; what has no
        steps is left out when it is ready."""
        if not self._sweeping:
            self._then = None
        if self._job is None:
            return
        if self._seeking or (self._active is None and not self._sweeping):
            self._job.cancel()
            self._on_ended()
            return
        self._job.stop()
        if self._active is not None:
            self._active.entry.stopped()

    def abandon(self, annotated: AnnotatedImage) -> bool:
        """Forget the work on an image, and tell whether there was some."""
        if annotated not in (self._working_on, self._active.annotated if self._active else None):
            self.preview.leave(annotated)
            return False
        was_busy = self.busy
        self.close()
        self._progress.end()
        return was_busy

    def close(self) -> None:
        """Stop whatever is under way, and touch nothing any more."""
        if self._job is not None:
            self._job.cancel()
        self._progress.end()
        self._job = self._active = self._working_on = self._then = None
        self.preview.forget()
        self._sweeping = self._seeking = False

    def _start(self, text: str, function: Callable[..., Any], *args: Any, **callbacks: Any) -> None:
        self._progress.begin(text)
        self._job = threads.Job(function, *args, ended=self._on_ended, **callbacks)
        self.changed.emit()

    def _prepare(self, annotated: AnnotatedImage) -> None:
        """While a thread works: the layer for what the result will change."""
        if self._working_on is annotated:
            annotated.prepare_changes()

    def _on_step(self, step: "Step") -> None:
        active = self._active
        if active is None:
            return
        session = active.annotated.session(active.index)
        session.add_step(step.mask, step.probability)
        active.entry.took(step.index, step.engine)
        if session.run is not None and session.run.finished:
            self.preview.samples = RunSamples(session.run, step.each)
        active.annotated.show_maps(active.index, step.probability)
        self.preview.show(active.annotated, active.index, step.index)
        text = messages.in_slice(f"step {step.index} of {step.total}", active.index)
        self._progress.advance(step.index / step.total, text)

    def _on_ended(self) -> None:
        self._job = self._working_on = None
        self._sweeping = self._seeking = False
        self._progress.end()
        then, self._then = self._then, None
        active = self._active
        if active is not None:
            session = active.annotated.session(active.index)
            if session.run is not None and session.run.finished:
                self._active = None
                if active.writes:
                    self._write_last(active, session)
            else:
                then = None
        self.changed.emit()
        if then is not None:
            then()
        if not self.busy:
            self.ended.emit()

    def _write_last(self, active: ActiveRun, session: Session) -> None:
        if session.run is not None:
            last = session.run.steps
            active.annotated.link.write(
                active.index,
                session.run.shown[last].mask,
                last,
                then=self._written(active.annotated, active.index),
                rejectable=True,
            )

    def _written(
        self, annotated: AnnotatedImage, index: Index
    ) -> Callable[[np.ndarray, np.ndarray], None]:
        def then(before: np.ndarray, after: np.ndarray) -> None:
            self.preview.hide(annotated, index)
            annotated.show_changes(index, before, after)
            annotated.reveal(self._reveal_changes())
            self.changed.emit()

        return then
