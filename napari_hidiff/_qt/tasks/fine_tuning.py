"""Learning from corrections: the training set, and a fine-tuning in another process."""

from datetime import datetime
from typing import Any

import numpy as np
from napari.utils.notifications import show_info
from qtpy.QtCore import QObject, QTimer

from napari_hidiff._qt import threads
from napari_hidiff._qt.controls.sections import LearnBox
from napari_hidiff._qt.layers.layer_data import pixels
from napari_hidiff._qt.tasks.models import Models
from napari_hidiff._qt.tasks.selection import Selection
from napari_hidiff.annotation import sidecar
from napari_hidiff.annotation.fine_tuning import HELD_OUT, TrainingSet, Tuning, stopped_run
from napari_hidiff.errors import InputError
from napari_hidiff.inference import catalog
from napari_hidiff.inference.card import Card
from napari_hidiff.masks import Index, slicer

POLL = 400
"""Milliseconds between two looks at the process."""
STAGES = {
    "starting": "starting",
    "reading": "reading the images",
    "priors": "segmenting them",
    "segmentor": "training the segmentor",
    "refiner": "training the refiner",
    "scoring": "scoring before and after",
}

Example = tuple[np.ndarray, np.ndarray, Index]
"""Image [H, W] or [H, W, C], mask [H, W], and the slice."""


class Learning(QObject):
    """Fills the box; nothing is stored or trained before its button is pressed.

    device : the box of the settings that says where to train.
    """

    def __init__(self, box: LearnBox, selection: Selection, models: Models, device: Any) -> None:
        super().__init__()
        self.options: list[str] = []
        """Further options of napari-hidiff-train."""
        self.run: Tuning | None = None
        self._box, self._selection, self._models, self._device = box, selection, models, device
        self._set: TrainingSet | None = None
        self._storing = False
        self._about: tuple[str | None, bool] | None = None
        self._stopped: Tuning | None = None
        self._tuned: str | None = None
        self._job: threads.Job | None = None
        self._timer = QTimer(box)
        self._timer.setInterval(POLL)
        self._timer.timeout.connect(lambda: threads.attempt(self._look))
        for button, action in (
            (box.add, self.add),
            (box.tune, self.tune),
            (box.stop, self.stop),
            (box.go_on, self.go_on),
            (box.use, self.use),
        ):
            button.clicked.connect(lambda _=False, do=action: threads.attempt(do))

    def add(self) -> None:
        """Store every accepted slice of the chosen image; raises InputError if there is none."""
        annotated, model, kept = self._selection.annotated, self._models.loaded(), self._set
        accepted = self._accepted()
        if annotated is None or kept is None or not accepted:
            raise InputError("Tick Done first: only masks that are done are learned from.")
        for index, mask in accepted.items():
            if not np.array_equal(mask, annotated.mask.data[slicer(index)]):
                raise InputError("Please tick Done again: the mask was changed since.")
        lead = (slice(None),) * annotated.leading
        data, examples = pixels(annotated.image), []
        for index, mask in accepted.items():
            plane = np.asarray(data[lead + slicer(index)])
            plane = np.moveaxis(plane, 0, -1) if annotated.leading else plane
            examples.append((plane, mask.copy(), index))
        self._storing = True
        self._enable()
        self._job = threads.Job(
            _store,
            kept,
            data,
            examples,
            annotated.image.name,
            model.card,
            done=lambda count: show_info(f"{count} of {annotated.image.name} in the training set."),
            ended=self._stored,
        )

    def tune(self) -> None:
        """Begin a new fine-tuning of the chosen model on its set; raises InputError."""
        kept, chosen, model = self._set, self._models.chosen, self._models.loaded()
        if self.run is not None or kept is None or chosen is None:
            raise InputError("A fine-tuning is under way.")
        if not kept.stems:
            raise InputError("The training set is empty: add a mask that is done first.")
        if model.exported and not model.card.prompted:  # whose refiner stays as it is
            raise InputError(f"{model.card.name} is an export: fine-tune what it was made from.")
        path = catalog.find_model(chosen)
        name = catalog.free_name(f"{catalog.root_name(path, model.card)}-tuned")
        folder = kept.root / "runs" / f"{datetime.now():%Y%m%d-%H%M%S-%f}"
        options = ["--device", str(self._device.value), *self.options]
        self._follow(Tuning.begin(folder, kept.root, chosen, name, options))

    def go_on(self) -> None:
        """Go on with the fine-tuning that was stopped; raises InputError if there is none."""
        if self._stopped is None or self.run is not None:
            raise InputError("There is no stopped fine-tuning to resume.")
        self._stopped.go_on()
        self._follow(self._stopped)

    def stop(self) -> None:
        """Stop after the iteration under way, with a checkpoint."""
        if self.run is not None:
            self.run.stop()
            self._look()

    def use(self) -> None:
        """Choose the tuned model."""
        if self._tuned is not None:
            self._models.use(self._tuned)
            self._box.show_scores("")
            self._box.show_run(None, f"{self._tuned} is chosen; the old model stays as it is.")

    def refresh(self) -> None:
        """Bring the box up to date with the chosen image and model."""
        about = (self._models.chosen, self._models.model is not None)
        if about != self._about:
            self._about = about
            self._set = None
            if self._models.model is not None and self._models.chosen is not None:
                path = catalog.find_model(self._models.chosen)
                self._set = TrainingSet(catalog.root_name(path, self._models.model.card))
            self._count_again()
        self._enable()

    def close(self) -> None:
        """Let the process stop by itself, with a checkpoint; wait for nobody."""
        self._timer.stop()
        if self._job is not None:
            self._job.cancel()
        if self.run is not None:
            self.run.stop()

    def _stored(self) -> None:
        self._storing = False
        self._count_again()

    def _accepted(self) -> dict[Index, np.ndarray]:
        annotated = self._selection.annotated
        sessions = {} if annotated is None else annotated.annotation.sessions
        return {i: s.accepted for i, s in sessions.items() if s.accepted is not None}

    def _count_again(self) -> None:
        if self._set is None:
            self._box.contents.setText("Choose a model that is to learn.")
            self._stopped = None
        else:
            stems, images = self._set.stems, self._set.images
            self._stopped = stopped_run(self._set.root / "runs", stems) if stems else None
            self._box.contents.setText(_contents(len(stems), images, self._set))
            self._box.contents.setToolTip(str(self._set.root))
        self._enable()

    def _enable(self) -> None:
        box, idle = self._box, self.run is None
        box.add.setEnabled(not self._storing and self._set is not None and bool(self._accepted()))
        filled = self._set is not None and not self._box.contents.text().startswith("No image")
        box.tune.setEnabled(idle and filled)
        box.go_on.setVisible(idle and self._stopped is not None)
        box.stop.setEnabled(self.run is not None and not self.run.stopping)

    def _follow(self, run: Tuning) -> None:
        self.run, self._tuned = run, None
        self._box.show_scores("")
        self._timer.start()
        self._look()

    def _look(self) -> None:
        run = self.run
        if run is None:
            return
        alive = run.running  # asked first: what it said before it ended is read after
        progress = run.poll()
        self._box.curve.draw(progress.losses, progress.dice)
        steps = f" {progress.done} of {progress.total}" if progress.total else ""
        line = f"{run.name}: {STAGES.get(progress.stage, progress.stage)}{steps}"
        self._box.show_run(progress.share, "Stopping …" if run.stopping else line)
        if not alive:
            self._timer.stop()
            self.run = None
            self._ended(run)
        self._enable()

    def _ended(self, run: Tuning) -> None:
        if run.model.exists():
            self._box.show_run(1.0, f"{run.name} is trained; checking it …")
            self._job = threads.Job(
                catalog.add, run.model, run.name, done=lambda _: self._finished(run)
            )
            return
        self._count_again()
        problem = run.problem()
        if problem is not None:
            self._box.show_run(None, f"The fine-tuning failed: {problem}")
        elif self._stopped is not None:
            where = f"{run.progress.stage} {run.progress.done} of {run.progress.total}"
            self._box.show_run(None, f"Stopped at {where}, with a checkpoint: press Resume.")
        else:
            self._box.show_run(None, "Stopped before the first iteration: press Fine-tune again.")

    def _finished(self, run: Tuning) -> None:
        self._tuned = run.name
        self._models.list_again()
        self._count_again()
        self._box.show_run(None, f"{run.name} is among your models. Nothing was replaced.")
        self._box.show_scores(_table(run.report()))


def _store(
    kept: TrainingSet, data: np.ndarray, examples: list[Example], name: str, card: Card
) -> str:
    key = sidecar.image_key(data)
    for image, mask, index in examples:
        kept.add(image, mask, name, key, index, card)
    return f"{len(examples)} slice{'s' * (len(examples) > 1)}" if data.ndim > 3 else "The mask"


def _contents(stems: int, images: int, kept: TrainingSet) -> str:
    where = str(kept.root).replace("/", "/\u200b").replace("\\", "\\\u200b")  # where it may wrap
    if not stems:
        return f"No image in the training set yet ({where})."
    slices = f" ({stems} slices)" if stems != images else ""
    held = images // HELD_OUT
    rest = f"{held} of them held out for scores" if held else "none held out: that takes 4"
    return f"{images} image{'s' * (images > 1)}{slices} in {where}; {rest}."


def _table(report: dict[str, Any]) -> str:
    if report["mean"] is None:
        return f"<i>No scores: {report['note']}.</i>"
    count = len(report["cases"])
    rows = "".join(
        f"<tr><td>{mask}&nbsp;&nbsp;</td>"
        + "".join(f"<td>{report['mean'][when][mask]:.3f}&nbsp;&nbsp;</td>" for when in WHEN)
        + "</tr>"
        for mask in report["mean"]["after"]
    )
    return (
        f"Dice on {count} held-out image{'s' * (count > 1)}, never trained on:"
        f"<table><tr><td></td><td>before&nbsp;&nbsp;</td><td>after</td></tr>{rows}</table>"
    )


WHEN = ("before", "after")
