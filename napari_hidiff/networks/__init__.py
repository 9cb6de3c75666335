"""The networks of HiDiff: a segmentor (any, behind an adapter) and the binarized refiner."""

from napari_hidiff.networks.refiner import (
    Condition,
    ImageCondition,
    PriorCondition,
    Refiner,
    probabilities,
)
from napari_hidiff.networks.segmentor import Segmentor
from napari_hidiff.networks.segmentor_registry import SEGMENTORS, build_segmentor, segmentor_options

__all__ = [
    "SEGMENTORS",
    "Condition",
    "ImageCondition",
    "PriorCondition",
    "Refiner",
    "Segmentor",
    "build_segmentor",
    "probabilities",
    "segmentor_options",
]
