"""A trained refiner on torch or as packed XNOR-popcount kernels on the CPU."""

from napari_hidiff.engine.engine import ENGINES, Engine

__all__ = ["ENGINES", "Engine"]
