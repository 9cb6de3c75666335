"""One case: the files that it comes from, and what they hold."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Case:
    """One image or volume with its truth, as files.

    ``group`` names what a split must never divide (the patient, the video sequence).
    ``images``: one file, or several (one per channel, one per slice) as the reader of the data
    set wants them.  ``mask`` may be the same file where a file holds both.
    """

    id: str
    group: str
    images: tuple[Path, ...]
    mask: Path
    field_of_view: Path | None = None
    second: Path | None = None
    """The same image as a second human observer segmented it."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that image and truth come from, each once."""
        more = (self.mask, *(path for path in (self.field_of_view,) if path is not None))
        return tuple(dict.fromkeys((*self.images, *more)))


@dataclass(frozen=True)
class Sample:
    """A case in memory.

    image: ``[H, W, C]``, or ``[D, H, W, C]`` for a volume, in the file's dtype and range.
    mask: uint8 ``[H, W]`` or ``[D, H, W]``, values ``0..labels-1`` with 0 the background.
    field_of_view: bool like the mask, the pixels that count in a score; None where all do.
    spacing: physical size of a pixel per axis of the mask (mm), None where nothing says it.
    """

    case: Case
    image: np.ndarray
    mask: np.ndarray
    field_of_view: np.ndarray | None = None
    spacing: tuple[float, ...] | None = None

    @property
    def volume(self) -> bool:
        """Whether the case is a volume [D, H, W]."""
        return self.mask.ndim == 3
