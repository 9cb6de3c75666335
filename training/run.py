"""What all stages of one training run share."""

from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator

from napari_hidiff.inference.card import Card
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.training.progress import Watch
from napari_hidiff.training.recipes import Recipe


@dataclass(frozen=True)
class Run:
    """Recipe and card, the run's folder, the device and its processes, what is shown, and the
    model that the networks start from, if any."""

    recipe: Recipe
    card: Card
    folder: Path
    accelerator: Accelerator
    watch: Watch
    start: HiDiff | None = None

    @property
    def main(self) -> bool:
        """Whether this process is the one that writes, validates and speaks."""
        return self.accelerator.is_main_process

    @property
    def place(self) -> dict[str, int]:
        """This process among the others, as ``crops.batches`` takes it."""
        return {
            "rank": self.accelerator.process_index,
            "processes": self.accelerator.num_processes,
        }
