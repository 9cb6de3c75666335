"""One answer to one stroke, small enough to be kept for a picture."""

import base64
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_hidiff.annotation.undo import FREE


@dataclass
class Moment:
    """number : of the stroke, 0 before the first.  before, after : uint8 [H, W], the mask with
    the stroke and after the answer.  fixed : int [H, W], all strokes so far.  where : bool
    [H, W], the last of them.  gain : of Dice by the answer."""

    number: int
    before: np.ndarray
    after: np.ndarray
    fixed: np.ndarray
    where: np.ndarray
    gain: float = 0.0

    def packed(self) -> dict[str, Any]:
        """As JSON-able data."""
        planes = np.stack([self.before, self.after, self.fixed - FREE, self.where])
        text = base64.b64encode(zlib.compress(planes.astype(np.uint8).tobytes(), 9)).decode()
        shape = [int(side) for side in self.before.shape]
        return {"number": self.number, "gain": self.gain, "shape": shape, "planes": text}

    @classmethod
    def unpacked(cls, packed: dict[str, Any]) -> "Moment":
        """The inverse of :meth:`packed`."""
        raw = zlib.decompress(base64.b64decode(packed["planes"]))
        planes = np.frombuffer(raw, np.uint8).reshape(4, *packed["shape"])
        fixed = planes[2].astype(np.int32) + FREE
        gain, where = packed["gain"], planes[3].astype(bool)
        return cls(packed["number"], planes[0], planes[1], fixed, where, gain)
