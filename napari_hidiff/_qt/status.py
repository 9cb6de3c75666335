"""What can be done now, and what the lines of the panel say."""

from typing import TYPE_CHECKING

from napari_hidiff._qt import messages

if TYPE_CHECKING:
    from napari_hidiff._qt.widget import HiDiffWidget


def show(widget: "HiDiffWidget") -> None:
    """Bring buttons and lines up to date with the chosen image, its bench and the shown slice."""
    widget.learning.refresh()
    panel, bench, session, work = widget.panel, widget.bench, widget.session, widget.work
    ready = widget.fit.problem is None and not work.busy
    prior = session is not None and (session.begun or session.prior is not None)
    for button in (panel.segment, panel.step, panel.run):
        button.setEnabled(ready)
    panel.stop.setEnabled(work.stoppable)
    panel.rerefine.setEnabled(ready and prior)
    panel.alternatives.setEnabled(ready and prior)
    panel.next_place.setEnabled(prior)
    panel.place.setText(widget.tour.line(session if prior else None))
    panel.accept.setEnabled(session is not None and not work.busy)
    panel.export.setEnabled(bench is not None)
    panel.new_mask.setEnabled(widget.image is not None and bench is None)
    panel.complete.setEnabled(session is not None and not work.busy)
    for button in widget.volume.buttons[:4]:
        button.setEnabled(ready)
    widget.volume.take_back.setEnabled(not work.busy and widget.sweeps.can_take_back(bench))
    kept = widget.benches.offer(widget.image)
    panel.offer(messages.offer(kept) if kept else None)
    panel.counts.setText(
        messages.counts(
            bench.changes_in(widget.chosen.target().index) if bench and session else None,
            bench.annotation if bench else None,
        )
    )
    widget.classes.refresh()
    panel.reject.setEnabled(False)
    if bench is None or session is None:
        panel.show_moment(0, 0)
    elif not work.busy:
        index = widget.chosen.target().index
        panel.reject.setEnabled(bench.link.rejectable == index)
        work.moments.tell(bench, index, panel.steps_slider.value())
