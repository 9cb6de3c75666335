"""Images, volumes and masks from and to files, with what a file says about place, units, classes.

The names here are for pictures; :mod:`napari_hidiff.io.registry` reads every format there is.
"""

from napari_hidiff.io.images import read_fixed, read_image, read_labels, read_mask, sample

__all__ = ["read_fixed", "read_image", "read_labels", "read_mask", "sample"]
