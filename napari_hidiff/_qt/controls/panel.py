"""What the widget looks like. It knows no image, no model and no session: it shows and asks."""

from typing import Any

from magicgui.widgets import CheckBox
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QFormLayout,
    QFrame,
    QGridLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QSlider,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_hidiff._qt.controls import elements
from napari_hidiff._qt.controls.class_list import ClassesBox
from napari_hidiff._qt.controls.elements import KEYS
from napari_hidiff.annotation.refinement import NEAR

WIDTH = 300


class Panel(QScrollArea):
    """The controls, top to bottom in the order of the work.

    choose, settings : the two magicgui boxes of :mod:`napari_hidiff._qt.controls.settings`.
    channels, volume : which layer is which channel, and what to do with many slices.
    hint, classes : what stands on top for the first time, and the class list.
    """

    def __init__(
        self,
        choose: Any,
        settings: Any,
        channels: QWidget,
        volume: QWidget,
        hint: QWidget,
        classes: ClassesBox,
    ) -> None:
        super().__init__()
        self._classes = classes
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)

        self.message = elements.text("message")
        self.segment = _button("segment", "Segment", "The model's first mask, at once.")
        self.step = _button("step", "Step", "One step of the refinement, then wait.")
        self.run = _button("run", "Run", "All (remaining) steps; what you paint meanwhile stays.")
        self.stop = _button("stop", "Stop", "Stop after the step under way; Run goes on.")
        self.steps_slider = QSlider(Qt.Orientation.Horizontal)
        self.steps_slider.setObjectName("steps_slider")
        self.steps_slider.setToolTip("Look at any step of the run; 0 is the prior.")
        self.steps_slider.setPageStep(1)
        self.moment = elements.text("moment")
        self.progress = QProgressBar()
        self.progress.setObjectName("progress")
        self.progress.setTextVisible(False)
        self.progress.setFixedHeight(6)
        self.cost = elements.text("cost")
        self.next_place = _button(
            "next_place", "Next place", "Go where the model is least sure and you have not been."
        )
        self.place = elements.text("place")
        self.rerefine = _button(
            "rerefine", "Re-refine", "Start again with everything you painted; it stays as it is."
        )
        self.near = QCheckBox("Near my strokes")
        self.near.setObjectName("near")
        self.near.setChecked(NEAR)
        self.near.setToolTip(
            "Re-refine changes only what touches or lies near the strokes since the last result."
        )
        self.alternatives = _button(
            "alternatives",
            "Alternatives",
            "Outline clearly different answers in turn; Accept takes the shown one. "
            "Draws samples where the last run has none.",
        )
        self.reject = _button(
            "reject", "Reject", "Take the last result back, in one undo step; strokes stay."
        )
        self.changes = QCheckBox(f"Show what changed  [{KEYS['changes']}]")
        self.changes.setObjectName("changes")
        self.changes.setChecked(True)
        self.changes.setToolTip("Outlines: green added, pink removed, orange relabelled.")
        self.counts = elements.text("counts")
        self.accept = _button("accept", "Accept", "Take the mask (at the shown step) for final.")
        self.export = _button("export", "Export …", "Write the mask to a png or tif file.")
        self.new_mask = _button("new_mask", "New mask", "An empty mask to paint strokes on.")
        self.complete = _button(
            "complete", "Complete strokes", "Random walker: strokes grow to a mask; no model."
        )
        self.go_on = _button("go_on", "Go on", "Bring the kept strokes and masks back.")
        self.start_anew = _button("start_anew", "Start anew", "Keep the old file aside.")
        self.kept = elements.text("kept")

        self._without_model = elements.group(
            elements.text(
                "", "Without a model: paint object and background (label 0), then complete."
            ),
            elements.row(self.new_mask, self.complete),
        )
        self._offer = elements.group(self.kept, elements.row(self.go_on, self.start_anew))
        more = QCollapsible("Settings")
        more.setObjectName("more")
        more.addWidget(_form(settings))
        self._lay_out(
            hint,
            _form(choose),
            channels,
            self.message,
            self._offer,
            self._without_model,
            self.segment,
            elements.heading("Refine"),
            elements.row(self.step, self.run, self.stop),
            self.progress,
            self._slider_row(),
            self.cost,
            elements.heading("Correct: paint on the mask"),
            classes,
            elements.row(self.next_place, self.place),
            elements.row(self.rerefine, self.near),
            elements.row(self.alternatives, self.reject),
            self.changes,
            self.counts,
            volume,
            elements.heading("Finish"),
            elements.row(self.accept, self.export),
            more,
        )
        self.offer(None)
        self.show_moment(0, 0)
        self.show_progress(None)

    def resizeEvent(self, event: Any) -> None:  # Qt's name
        """The class list gives way on a small screen."""
        self._classes.fit(self.height())
        super().resizeEvent(event)

    def offer(self, text: str | None) -> None:
        """Offer to go on from kept strokes, described by ``text``; None takes the offer away."""
        self.kept.setText(text or "")
        self._offer.setVisible(text is not None)

    def say(self, text: str, without_model: bool = False) -> None:
        """The line on top; with ``without_model`` the random walker is offered below it."""
        self.message.setText(text)
        self._without_model.setVisible(without_model)

    def show_moment(self, step: int, steps: int, text: str = "no steps yet") -> None:
        """Set the slider to a step of 0..steps, and say what it is."""
        self.steps_slider.blockSignals(True)
        self.steps_slider.setMaximum(steps)
        self.steps_slider.setValue(step)
        self.steps_slider.blockSignals(False)
        self.steps_slider.setEnabled(steps > 0)
        self.moment.setText(text)

    def show_progress(self, done: float | None) -> None:
        """0..1 of the work under way; negative: busy, nobody knows how long; None: idle."""
        self.progress.setRange(0, 0 if done is not None and done < 0 else 1000)
        self.progress.setValue(0 if done is None else int(1000 * done))
        policy = self.progress.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        self.progress.setSizePolicy(policy)
        self.progress.setVisible(done is not None)

    def append(self, section: QWidget) -> None:
        """Put a section of someone else's at the end."""
        self._column.insertWidget(self._column.count() - 1, section)

    def _slider_row(self) -> QWidget:
        back, forth = QLabel(f"[{KEYS['back']}]"), QLabel(f"[{KEYS['forth']}]")
        box = QWidget()
        grid = QGridLayout(box)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(0)
        grid.addWidget(back, 0, 0)
        grid.addWidget(self.steps_slider, 0, 1)
        grid.addWidget(forth, 0, 2)
        grid.addWidget(self.moment, 1, 0, 1, 3)
        self.moment.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        return box

    def _lay_out(self, *sections: Any) -> None:
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(6, 4, 6, 4)
        column.setSpacing(4)
        for section in sections:
            column.addWidget(section)
        column.addStretch()
        self._column = column
        self.setWidget(inside)
        bar = self.verticalScrollBar().sizeHint().width()
        self.setMinimumWidth(max(WIDTH, inside.minimumSizeHint().width() + bar))


def _form(box: Any) -> QWidget:
    """The widgets of a magicgui box as rows whose labels line up."""
    rows = QWidget()
    form = QFormLayout(rows)
    form.setContentsMargins(0, 0, 0, 0)
    form.setVerticalSpacing(4)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    for widget in box:
        named = isinstance(widget, CheckBox)  # a box that says itself what it is
        form.addRow("" if named else widget.label, widget.native)
    return rows


def _button(name: str, text: str, tip: str) -> QPushButton:
    key = KEYS.get(name)
    gap = " " * (1 if key and len(key) > 1 else 2)  # as wide as two of them may be in a row
    return elements.button(name, f"{text}{gap}[{key}]" if key else text, tip)
