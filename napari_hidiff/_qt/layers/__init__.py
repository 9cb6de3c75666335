"""Layers of napari and the annotation behind them."""
