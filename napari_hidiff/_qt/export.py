"""The dialog that asks where a mask is written."""

from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QWidget

from napari_hidiff._qt.files import FILTERS, suggestion
from napari_hidiff._qt.layers.annotated_image import Bench
from napari_hidiff.errors import InputError


def ask_where(parent: QWidget, bench: Bench) -> Path | None:
    """Ask for a file, beside the image and in its format unless told otherwise; None: cancelled.

    A name without a suffix gets that of the chosen format; InputError where such a file exists
    already, for the dialog has asked about another name.
    """
    proposed = suggestion(bench.image, bench.mask)
    suffix = next(suffix for suffix in FILTERS if proposed.name.endswith(suffix))
    given, chosen = QFileDialog.getSaveFileName(
        parent, "Export the mask", str(proposed), ";;".join(FILTERS.values()), FILTERS[suffix]
    )
    if not given:
        return None
    wanted = next((suffix for suffix, text in FILTERS.items() if text == chosen), suffix)
    known = (*FILTERS, ".nii", ".tiff")
    if given.lower().endswith(known):
        return Path(given)
    path = Path(f"{given}{wanted}")
    if path.exists():
        raise InputError(f"{path} exists already: choose it by its whole name to replace it.")
    return path
