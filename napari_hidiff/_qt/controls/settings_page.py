"""The page *Settings*: what is set now and then, and what is done now and then."""

from typing import Any

from qtpy.QtWidgets import QLabel, QSpinBox, QVBoxLayout, QWidget

from napari_hidiff._qt.controls import elements
from napari_hidiff._qt.controls.elements import Line, check_box
from napari_hidiff._qt.controls.sections import ChannelBox, LearnBox, SliceRange
from napari_hidiff.annotation.brush import SHARE


class SettingsPage(QWidget):
    """It knows no image, no model and no session.

    choose, how : the two magicgui boxes of :mod:`napari_hidiff._qt.controls.settings`.
    near : whether updates stay near strokes to begin with.
    """

    def __init__(self, choose: Any, how: Any, near: bool) -> None:
        super().__init__()
        self.channels, self.volume, self.learn = ChannelBox(), SliceRange(), LearnBox()
        self.show_steps = check_box(
            "show_steps",
            "Show the steps",
            "Put Step, Run and the slider over the steps on Annotate, and other answers to "
            "choose from. Find then stops at the first mask.",
        )
        self.no_mask = elements.text("no_mask")
        self.no_mask.hide()
        self.steps_line = Line("steps_line", 2)
        self.cost = Line("cost", 2)
        self.near = check_box(
            "near", "Near my strokes", "Update changes only what lies near new strokes.", near
        )
        self.changes = check_box(
            "changes", "Outline changes", "Green added, pink removed, orange relabelled.", True
        )
        self.strokes = check_box(
            "strokes", "Outline my strokes", "What you painted, on background too: it stays."
        )
        self.maps = check_box(
            "maps", "Probability and uncertainty", "Two more layers, filled by every result."
        )
        self.similar = check_box(
            "similar",
            "Similar pixels only",
            "The brush leaves out pixels whose grey values or colours are unlike those under its "
            "centre.",
        )
        self.alike = QSpinBox()
        self.alike.setObjectName("alike")
        self.alike.setRange(5, 100)
        self.alike.setSingleStep(5)
        self.alike.setValue(round(100 * SHARE))
        self.alike.setSuffix(" %")
        self.alike.setToolTip(
            "How much a pixel may differ: a share of the contrast round the brush."
        )
        self.sizes = elements.button(
            "sizes", "Sizes …", "How large every class and object of the mask is: mm2, or ml."
        )
        self.compare = elements.button(
            "compare", "Compare …", "How far two masks of one image agree, and where they do not."
        )
        guards = (how.certain, how.firm)
        rest = [how.sampler, how.steps, how.samples, how.seed, how.device]
        self._area = elements.page(
            elements.heading("Image"),
            elements.form(choose.image, choose.prior),
            self.no_mask,
            how.resample.native,
            self.channels,
            elements.heading("Refinement"),
            elements.form(*rest),
            self.cost,
            self.show_steps,
            self.steps_line,
            elements.heading("Brush"),
            self.similar,
            elements.row(QLabel("May differ by"), self.alike),
            elements.heading("Update"),
            self.near,
            *(guard.native for guard in guards),
            elements.heading("Show"),
            self.changes,
            self.strokes,
            self.maps,
            elements.row(self.sizes, self.compare),
            self.volume,
            self.learn,
        )
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._area)

    @property
    def share(self) -> float | None:
        """How like the centre of the brush painted pixels are, 0..1; None = all are painted."""
        return self.alike.value() / 100 if self.similar.isChecked() else None

    @property
    def area(self) -> Any:
        """What scrolls where the window is too small."""
        return self._area
