"""The key that goes over a few clearly different answers to the same strokes."""

from typing import TYPE_CHECKING

from napari.utils.notifications import show_info

from napari_hidiff._qt import messages
from napari_hidiff._qt.controls.panel import Panel
from napari_hidiff._qt.controls.settings import Settings
from napari_hidiff._qt.tasks.refinement import Refinement
from napari_hidiff._qt.tasks.runs import Samples, Target
from napari_hidiff.annotation.constraints import Guards

if TYPE_CHECKING:
    from napari_hidiff.annotation.suggestions import Alternative
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
