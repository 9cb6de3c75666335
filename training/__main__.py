"""``python -m napari_hidiff.training``, and ``accelerate launch -m napari_hidiff.training``."""

from napari_hidiff.training.cli import main

main()
