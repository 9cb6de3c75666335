"""Whether the model can run on the shown slice, and what a run would take."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer

from napari_hidiff._qt import messages, preferences, threads
from napari_hidiff._qt.controls.panel import Panel
from napari_hidiff._qt.tasks.models import Models
from napari_hidiff.annotation.refinement import Settings
from napari_hidiff.errors import InputError
from napari_hidiff.inference.preprocessing import SMALLEST, check_pixels

if TYPE_CHECKING:
    from napari_hidiff.inference.cost import Estimate
    from napari_hidiff.inference.model import HiDiff

WAITING = "Loading the model …"
AT_ONCE = 0.5
"""Seconds; where an update takes less, it follows every stroke unless the user says otherwise."""
COST = "Measured on this machine, segmentation included; memory at its peak."
SETTLE = 150
"""Milliseconds without a change of choice or settings before the fit is checked again."""


class ModelFit:
    """Keeps the line on top of the panel and the cost of a run up to date.

    shown : gives the slice on display, [H, W] or [H, W, C], or raises InputError.
    settings : gives how to refine. changed : called after every verdict.
    """

    def __init__(
        self,
        panel: Panel,
        models: Models,
        shown: Callable[[], np.ndarray],
        settings: Callable[[], Settings],
        changed: Callable[[], None],
    ) -> None:
        self.seconds: float | None = None
        """What a run on the shown slice takes here, once that is known."""
        self.problem: str | None = WAITING
        """Why nothing can be run now; None when it can."""
        self._page, self._cost, self._models = panel.annotate, panel.settings.cost, models
        self._shown, self._settings, self._changed = shown, settings, changed
        self._about: Any = None  # what the verdict is about: model, kind of image
        self._job: threads.Job | None = None
        self._closed = False
        self._readable = False
        self._chosen = preferences.after_stroke()
        if self._chosen is not None:
            self._page.after_stroke.setChecked(self._chosen)
        self._timer = QTimer(panel)  # which lives until the widget was told of its end
        self._timer.setSingleShot(True)
        self._timer.setInterval(SETTLE)
        self._timer.timeout.connect(self._check)

    def check_soon(self) -> None:
        """Something was chosen or set; look again when the hand rests."""
        if not self._closed:
            self._timer.start()

    def keep_choice(self, checked: bool) -> None:
        """The user said whether to update after every stroke: so it stays."""
        self._chosen = checked

    @property
    def readable(self) -> bool:
        """Whether the shown slice can be painted on, with or without a model."""
        return self._readable

    @property
    def looking(self) -> bool:
        """Whether a look at image and model is due or under way."""
        return self._timer.isActive() or self._job is not None

    def close(self) -> None:
        """Look no more."""
        self._closed = True
        self._timer.stop()
        if self._job is not None:
            self._job.cancel()

    def _check(self) -> None:
        if self._closed:
            return
        model = self._models.model
        if model is None:
            self._cost.setText("")
        try:
            image = self._shown()
        except InputError as error:
            self._readable = False
            self._judge(None, str(error), str(error))
            return
        self._readable = True
        try:
            check_pixels(image)
        except InputError as error:
            line = messages.unreadable(str(error), min(image.shape[:2]) < SMALLEST)
            self._judge(None, str(error), line)
            return
        if model is not None:
            # A verdict stands while only settings, or slices of the same kind, change.
            about = (id(model), image.shape, image.dtype)
            if about != self._about:
                self._judge(about, WAITING, WAITING)
            if self._job is not None:
                self._job.cancel()
            how = self._settings()
            self._job = threads.Job(
                threads.describe,
                model,
                image,
                how,
                done=lambda found: self._described(about, model, how.scale or 1.0, found),
                ended=self._looked,
            )
        elif self._models.none_known:
            line = messages.no_model(bool(self._models.names))
            self._judge(None, line, line, without_model=True)
        else:
            self._judge(None, WAITING, WAITING)

    def _described(
        self,
        about: Any,
        model: "HiDiff",
        scale: float,
        found: "tuple[str | None, Estimate | None, list[str]]",
    ) -> None:
        if about != self._about or model is not self._models.model:  # chosen no longer
            return
        problem, estimate, doubts = found
        self.seconds = estimate.seconds if estimate else None
        if self._chosen is None and self.seconds is not None:
            self._page.after_stroke.setChecked(self.seconds < AT_ONCE)
        self._cost.setText(messages.cost(estimate, model.backend) if estimate else "")
        self._cost.setToolTip(model.backend.note or COST)
        if problem is None:
            line = messages.fits(model.card, doubts, scale)
            self._judge(self._about, None, line, doubtful=bool(doubts))
        else:
            line = messages.no_fit(model.card.name, problem)
            self._judge(self._about, problem, line, without_model=True)

    def _looked(self) -> None:
        self._job = None

    def _judge(
        self,
        about: Any,
        problem: str | None,
        line: str,
        without_model: bool = False,
        doubtful: bool = False,
    ) -> None:
        self._about, self.problem = about, problem
        self._page.say(line, without_model, doubtful)
        self._changed()
