"""The page *Annotate*: find, correct, update, save, top to bottom in the order of the work."""

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QButtonGroup, QProgressBar, QPushButton, QSlider, QVBoxLayout, QWidget

from napari_hidiff._qt import preferences
from napari_hidiff._qt.controls import elements
from napari_hidiff._qt.controls.class_list import ClassesBox
from napari_hidiff._qt.controls.elements import Line, button, check_box

FIND, SLICES = "Find", "All slices"

DOUBT = "#d98324"
"""The colour of a line that is worth a second look, in either theme."""

TOOL = "QPushButton:checked { background: #3f6fd1; color: white; font-weight: bold; }"
"""The look of Paint and Erase; the one in hand stands out in either theme."""


class AnnotatePage(QWidget):
    """What is needed for every image. It knows no image, no model and no session.

    model : the magicgui box of the models.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.image_name = Line("image_name")
        self.open_sample = button(
            "open_sample", "Open a sample", "A fundus photograph, its vessels as a hidden layer."
        )
        self.message = Line("message", 2)
        self.kept = Line("kept", 2)
        self.go_on = button("go_on", "Resume", "Bring the earlier strokes and masks back.")
        self.start_anew = button("start_anew", "Start over", "Keep the old file aside.")
        self._offer = elements.group(self.kept, elements.row(self.go_on, self.start_anew))
        self.new_mask = button("new_mask", "New mask", "An empty mask to paint strokes on.")
        self.complete = button(
            "complete", "Complete strokes", "Random walker: strokes grow to a mask; no model."
        )
        self._without_model = elements.group(
            Line(
                "without_model",
                2,
                "Work without: a random walker completes strokes inside and outside of the object.",
            ),
            elements.row(self.new_mask, self.complete),
        )
        self.segment = button(
            "segment", FIND, "A first mask by the model, refined, in the shown slice."
        )
        self.new_object = button(
            "new_object", "New object", "Paint another object, with the next label (napari's M)."
        )
        for first in (self.segment, self.new_object):
            first.setMinimumHeight(30)
        self.classes = ClassesBox()
        self.paint, self.erase, self.box = _tools()
        self.rerefine = button(
            "rerefine", "Update", "Refine again with your corrections. Painted pixels never change."
        )
        self.after_stroke = check_box(
            "after_stroke", "after every stroke", "Update as soon as a stroke ends."
        )
        self.next_place = button(
            "next_place", "Next doubtful place", "Go where the model is least sure."
        )
        self.place = Line("place")
        self._places = elements.row(self.next_place, self.place)
        self.counts = Line("counts")
        self.refine_slices = button(
            "refine_slices", "Update all", "Find or update every slice of the range in Settings."
        )
        self.carry = button(
            "carry",
            "Carry",
            "Carry what you corrected in this slice to the slices before and behind it, one by "
            "one, until one hardly changes.",
        )
        self.slices_line = Line("slices")
        self._slices_heading = elements.heading(SLICES)
        self._volume = elements.group(
            self._slices_heading,
            elements.row(self.refine_slices, self.carry),
            self.slices_line,
        )
        self.accept = check_box("accept", "Done", "This mask is final; it can be learned from.")
        self.export = button("export", "Save mask …", "Write the mask to a file.")
        self.next_image = button(
            "next_image", "Next image", "Save this mask as done, and open the next image."
        )
        self.queue_line = Line("queue_line")
        self._queue = elements.row(self.next_image, self.queue_line)
        self.stop = button("stop", "Stop", "Stop after the step or slice under way.")
        self.progress = QProgressBar()
        self.progress.setObjectName("progress")
        self.next_line = Line("next", 2)
        self.next_line.setStyleSheet("padding: 0; font-style: italic")
        self._steps = self._steps_box()
        self._area = elements.page(
            self.image_name,
            self.open_sample,
            elements.form(model),
            self.message,
            self._offer,
            self._without_model,
            self.segment,
            self.new_object,
            self._steps,
            elements.heading("Correct", "Ctrl+Z undoes"),
            self.classes,
            elements.row(self.paint, self.erase, self.box),
            elements.row(self.rerefine, self.after_stroke),
            self._places,
            self.counts,
            self._volume,
            elements.row(self.accept, self.export),
            self._queue,
            self._working(),
            self.next_line,
        )
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._area)
        self.offer(None)
        self.say("")
        self.show_steps(False)
        self.show_volume(False)
        self.show_prompts(False)
        self.show_queue(None)
        self.show_moment(0, 0)
        self.show_progress(None)

    @property
    def area(self) -> Any:
        """What scrolls where the window is too small."""
        return self._area

    def offer(self, text: str | None) -> None:
        """Offer to resume what was kept, described by ``text``; None takes the offer away."""
        self.kept.setText(text or "")
        self._offer.setVisible(text is not None)

    def say(self, text: str, without_model: bool = False, doubtful: bool = False) -> None:
        """The line on top; with ``without_model`` the random walker is offered below it; doubtful :
        it is worth a second look."""
        self.message.setText(text)
        self.message.setStyleSheet(f"padding: 0; color: {DOUBT}" if doubtful else "padding: 0")
        self._without_model.setVisible(without_model)

    @property
    def works_without_model(self) -> bool:
        """Whether the random walker is offered."""
        return not self._without_model.isHidden()

    def show_steps(self, shown: bool) -> None:
        """Show or hide what goes over the steps of a run."""
        self._steps.setVisible(shown)

    @property
    def steps_shown(self) -> bool:
        """Whether steps can be looked at."""
        return not self._steps.isHidden()

    def show_prompts(self, shown: bool) -> None:
        """Show what points a prompted model at objects, in the place of what finds and doubts
        classes; keys go on to do the latter."""
        self.segment.setVisible(not shown)
        self._places.setVisible(not shown)
        self.new_object.setVisible(shown)
        self.box.setVisible(shown)

    def show_volume(self, shown: bool) -> None:
        """Show or hide what is done to many slices."""
        self._volume.setVisible(shown)
        self.accept.setText(f"{'Slice done' if shown else 'Done'}  [{preferences.key('accept')}]")

    def show_queue(self, done: tuple[int, int] | None, ready: bool = False) -> None:
        """Say how many images of the queue are done, of how many; None = no folder is open.

        ready : whether another image can be opened now.
        """
        self._queue.setVisible(done is not None)
        self.next_image.setEnabled(ready)
        self.queue_line.setText("" if done is None else f"{done[0]:,} of {done[1]:,} done")

    def count_slices(self, done: int, total: int) -> None:
        """How many slices are done."""
        hint = f"{done} of {total} done" if done else ""
        self._slices_heading.setText(elements.heading_text(SLICES, hint))

    def show_moment(self, step: int, steps: int, text: str = "no steps yet") -> None:
        """Set the slider to a step of 0..steps, and say what it is."""
        self.steps_slider.blockSignals(True)
        self.steps_slider.setMaximum(steps)
        self.steps_slider.setValue(step)
        self.steps_slider.blockSignals(False)
        self.steps_slider.setEnabled(steps > 0)
        self.moment.setText(text)

    def show_progress(self, done: float | None, text: str = "") -> None:
        """0..1 of the work under way and a word about it; negative: nobody knows how far it is;
        None: idle."""
        self.progress.setUpdatesEnabled(False)  # or Qt draws the whole window at once, every time
        self.progress.setRange(0, 0 if done is not None and done < 0 else 1000)
        self.progress.setValue(0 if done is None else int(1000 * done))
        self.progress.setFormat(text)
        self.progress.setUpdatesEnabled(True)
        for part in (self.progress, self.stop):
            part.setVisible(done is not None)

    def _steps_box(self) -> QWidget:
        self.step = button("step", "Step", "One step of the refinement, then wait.")
        self.run = button("run", "Run", "All (remaining) steps; what you paint meanwhile stays.")
        self.steps_slider = QSlider(Qt.Orientation.Horizontal)
        self.steps_slider.setObjectName("steps_slider")
        keys = f"[{preferences.key('back')}] and [{preferences.key('forth')}]"
        self.steps_slider.setToolTip(f"Look at any step, also with {keys}; 0 is the first mask.")
        self.steps_slider.setPageStep(1)
        self.moment = Line("moment")
        self.alternatives = _narrow(
            "alternatives", "Other answer", "Outline clearly different answers in turn."
        )
        self.use_this = _narrow("use_this", "Use this", "Write what is outlined into the mask.")
        self.reject = _narrow(
            "reject", "Drop", "Drop what is outlined; else take the last result back."
        )
        return elements.group(
            elements.row(self.step, self.run),
            self.steps_slider,
            self.moment,
            elements.row(self.alternatives, self.use_this, self.reject),
        )

    def _working(self) -> QWidget:
        """Bar and Stop; their place stays theirs while nothing is under way."""
        for part in (self.progress, self.stop):
            policy = part.sizePolicy()
            policy.setRetainSizeWhenHidden(True)
            part.setSizePolicy(policy)
        return elements.row(self.progress, self.stop)


def _narrow(name: str, text: str, tip: str) -> QPushButton:
    """One of three in a row: its key is in the tooltip."""
    key = preferences.key(name)
    made = button(name, text, f"{tip} [{key}]" if key else tip)
    made.setText(text)
    return made


def _tools() -> tuple[QPushButton, QPushButton, QPushButton]:
    """Paint, erase and box; at most one is down."""
    paint = button("paint", "Paint", "Paint what is missing, with the brush of the mask layer.")
    erase = button("erase", "Erase", "Erase what is wrong; that stays background.")
    box = button("box", "Box", "Draw a box around the object; it is found in it.")
    tools = QButtonGroup(paint)
    tools.setExclusive(False)  # none is down while the view is moved
    for tool in (paint, erase, box):
        tool.setCheckable(True)
        tool.setStyleSheet(TOOL)
        tools.addButton(tool)
    return paint, erase, box
