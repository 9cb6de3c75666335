"""A segmentor of one's own, offered after some finished images of a folder."""

import re
from datetime import datetime
from typing import Any

from qtpy.QtCore import QObject, QTimer

from napari_hidiff._qt import messages, threads
from napari_hidiff._qt.controls.own_box import OwnBox
from napari_hidiff._qt.tasks.fine_tuning import POLL
from napari_hidiff._qt.tasks.models import Models
from napari_hidiff._qt.tasks.queue import QueueTask
from napari_hidiff.annotation.fine_tuning import TrainingSet, Tuning
from napari_hidiff.annotation.folder.own_model import (
    EVERY,
    counted,
    fill,
    finished,
    learned,
    training_set,
)
from napari_hidiff.annotation.folder.queue import Queue
from napari_hidiff.errors import InputError
from napari_hidiff.inference import catalog

SHARES = {"reading": 0.05, "segmentor": 0.95}
"""The stages of a training, each with its approximate share of the time."""


class OwnModel(QObject):
    """Offers to train once enough images are done; nothing starts by itself.

    The trained model is chosen where it is better than none on the images held out.
    """

    def __init__(self, box: OwnBox, queue: QueueTask, models: Models, device: Any) -> None:
        super().__init__()
        self.options: list[str] = []
        """Further options of napari-hidiff-train."""
        self.run: Tuning | None = None
        self._box, self._queue, self._models, self._device = box, queue, models, device
        self._said = ""
        self._known: tuple[Queue | None, int] = (None, 0)  # images of the last training, as counted
        self._job: threads.Job | None = None
        self._timer = QTimer(box)
        self._timer.setInterval(POLL)
        self._timer.timeout.connect(lambda: threads.attempt(self._look))
        for button, action in ((box.train, self.train), (box.stop, self.stop)):
            button.clicked.connect(lambda _=False, do=action: threads.attempt(do))
        queue.changed.connect(self.refresh)
        models.changed.connect(self.refresh)

    def train(self) -> None:
        """Begin to train on the finished images; raises InputError where that cannot be."""
        queue, model, chosen = self._queue.queue, self._models.loaded(), self._models.chosen
        if queue is None or chosen is None or self.run is not None or self._job is not None:
            raise InputError("Open a folder first; one training at a time.")
        count, card = counted(finished(queue)), model.card

        def begin(kept: TrainingSet) -> None:
            self._known = queue, count
            name = re.sub(r"[^A-Za-z0-9._-]+", "-", queue.folder.name).strip("-.") or "own"
            folder = kept.root / "runs" / f"{datetime.now():%Y%m%d-%H%M%S-%f}"
            options = ["--device", str(self._device.value), *self.options]
            name = catalog.free_name(f"{name}-own")
            self.run = Tuning.begin(folder, kept.root, chosen, name, options)
            self.run.progress.shares = SHARES
            self._timer.start()

        self._said = "Collecting the done images …"
        self._job = threads.Job(fill, queue, card, done=begin, ended=self._job_ended)
        self.refresh()

    def stop(self) -> None:
        """End the training; the model stays as it is."""
        if self.run is not None:
            self.run.stop()
            self._look()

    def refresh(self) -> None:
        """Bring the box up to date with the folder and the model."""
        run = self.run
        if run is not None:
            share = run.poll().share
            line = "Stopping …" if run.stopping else messages.own_training(share)
            self._box.show_state(line, offered=False, share=share)
        elif self._job is not None:
            self._box.show_state(self._said, offered=False, share=None)
        else:
            count = self._offered()
            offer = messages.own_offer(count) if count else ""
            self._box.show_state(" ".join(filter(None, (self._said, offer))), bool(count), None)

    def close(self) -> None:
        """Let the process stop by itself; wait for nobody."""
        self._timer.stop()
        if self._job is not None:
            self._job.cancel()
        if self.run is not None:
            self.run.stop()

    def _offered(self) -> int:
        """How many images can be learned from, where a training is offered; else 0."""
        queue, model = self._queue.queue, self._models.model
        if queue is None or model is None or not model.card.prompted:
            return 0
        done = finished(queue)
        if self._known[0] is None or self._known[0].folder != queue.folder:
            known = min(learned(training_set(queue)), counted(done))  # a TIFF may hold a stack
            self._known, self._said = (queue, known), ""
        return len(done) if counted(done) >= self._known[1] + EVERY else 0

    def _look(self) -> None:
        run = self.run
        if run is None:
            return
        alive = run.running  # asked first: what it said before it ended is read after
        run.poll()
        if not alive:
            self._timer.stop()
            self.run = None
            self._ended(run)
        self.refresh()

    def _ended(self, run: Tuning) -> None:
        if not run.model.exists():
            problem = run.problem()
            self._known = self._known[0], 0
            self._said = f"The training failed: {problem}." if problem else "Stopped."
            return
        report = run.report()
        self._said = messages.own_result(report)
        if report["better"]:
            self._job = threads.Job(
                catalog.add,
                run.model,
                run.name,
                done=lambda _: self._use(run.name),
                ended=self._job_ended,
            )

    def _use(self, name: str) -> None:
        self._models.list_again()
        self._models.use(name)

    def _job_ended(self) -> None:
        self._job = None
        self.refresh()
