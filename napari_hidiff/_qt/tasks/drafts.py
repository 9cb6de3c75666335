"""Drafts for the waiting images of a folder, made in another process while the user works."""

from qtpy.QtCore import QObject, QTimer

from napari_hidiff._qt import messages, preferences, threads
from napari_hidiff._qt.controls.queue_page import QueuePage
from napari_hidiff._qt.tasks.models import Models
from napari_hidiff._qt.tasks.queue import QueueTask
from napari_hidiff.annotation.folder.drafts import Drafting, finds_by_itself
from napari_hidiff.annotation.folder.queue import Queue

POLL = 400
"""Milliseconds between two looks at the process."""


class Drafts(QObject):
    """Has drafts made by the chosen model as long as a folder is open and the box is ticked.

    Another model, or another folder, ends the process and begins a new one, which makes drafts
    anew where nobody looked at them. A model that needs a prompt makes none; one that was not
    chosen by the user makes none of images unlike those that it was trained on.
    """

    def __init__(self, page: QueuePage, models: Models, task: QueueTask) -> None:
        super().__init__()
        self.process: Drafting | None = None
        self._page, self._models, self._task = page, models, task
        self._about: tuple[Queue, str] | None = None  # with the digest of the model
        self._made, self._left, self._why = 0, 0, ""
        self._jobs: set[threads.Job] = set()
        self._timer = QTimer(self)
        self._timer.setInterval(POLL)
        self._timer.timeout.connect(self._look)
        for changed in (task.changed, models.changed):
            changed.connect(self.follow)
        for box in (page.drafts, page.useful):
            box.clicked.connect(self._choose)

    def follow(self) -> None:
        """Begin, go on or stop, as folder, model and box are now."""
        queue, model, name = self._task.queue, self._models.model, self._models.chosen
        if not self._page.drafts.isChecked() or queue is None or name is None:
            self._end()
        elif model is not None and not finds_by_itself(model.card):
            self._end(messages.no_drafts(model.card.name))
        elif model is None or self._task.item is None:
            return  # not yet
        elif self._about != (queue, model.digest):
            self._end()
            self._begin(queue, name, model.digest)

    def close(self) -> None:
        """Let the process end; wait for nobody."""
        self._end()
        for job in self._jobs:
            job.cancel()

    def _choose(self) -> None:
        preferences.remember_queue(self._page.drafts.isChecked(), self._page.useful.isChecked())
        self.follow()

    def _begin(self, queue: Queue, model: str, digest: str) -> None:
        self._about = queue, digest
        self._made, self._left, self._why = 0, 0, ""
        images = queue.wanted(digest)
        if images:
            self.process = Drafting(model, images, alike=not self._models.chosen_by_user)
            self._timer.start()
            self._tell()

    def _end(self, said: str = "") -> None:
        """End the process; what it made so far is kept."""
        if self.process is not None:
            self._take(self.process)
            self.process.stop()
        self._timer.stop()
        self.process = self._about = None
        self._page.drafts_line.setText(said)

    def _look(self) -> None:
        process = self.process
        if process is None:
            return
        running = process.running  # asked first: what it said before it ended is read after
        self._take(process)
        if not running:
            self._timer.stop()
            self.process = None
            if problem := process.problem:
                self._page.drafts_line.setText(problem)

    def _take(self, process: Drafting) -> None:
        """Keep among the states, in a thread, what the process made."""
        made = process.poll()
        drafts = [one for one in made if not one.left]
        if drafts and self._about is not None:
            job = threads.Job(
                self._about[0].take_drafts,
                drafts,
                done=lambda _: self._task.refresh(),
                ended=lambda: self._jobs.discard(job),
            )
            self._jobs.add(job)
        if made:
            self._made += len(drafts)
            self._left += len(made) - len(drafts)
            self._why = next((one.left for one in reversed(made) if one.left), self._why)
            self._tell()

    def _tell(self) -> None:
        if self.process is not None:
            total = self.process.total
            line = messages.drafts(self._made, self._left, total, self._why)
            self._page.drafts_line.setText(line)
