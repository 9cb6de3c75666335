"""The networks of HiDiff: a segmentor (any, behind an adapter) and the binarized refiner."""

from napari_hidiff.networks.refiner import Condition, Known, Refiner, Standing, probabilities
from napari_hidiff.networks.segmentor import Segmentor
from napari_hidiff.networks.segmentor_registry import SEGMENTORS, build_segmentor, segmentor_options

__all__ = [
    "SEGMENTORS",
    "Condition",
    "Known",
    "Refiner",
    "Segmentor",
    "Standing",
    "build_segmentor",
    "probabilities",
    "segmentor_options",
]
