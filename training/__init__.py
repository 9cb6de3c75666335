"""Training and evaluation of HiDiff models; imports :mod:`napari_hidiff`, never the other way."""
