"""An image as a model looks at it."""

import hashlib
from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from napari_hidiff.networks.segmentor import margins, pad_to_multiple


class Picture:
    """An image float32 [H, W, C], normalised and padded only when somebody needs it so.

    source : the array it was made from, of any dtype, which is quicker to recognise.
    normalise : the model's intensity rule, or None where the values went through it already.
    """

    def __init__(
        self,
        image: np.ndarray,
        source: np.ndarray,
        normalise: Callable[[np.ndarray], np.ndarray] | None,
        device: torch.device,
    ) -> None:
        self._image: np.ndarray | None = image
        self._normalise, self._device = normalise, device
        self.size: tuple[int, int] = image.shape[:2]
        kind = f"{source.dtype} {source.shape} {normalise is None}"
        digest = hashlib.blake2b(np.ascontiguousarray(source).data, digest_size=16)
        digest.update(kind.encode())
        self.digest = digest.digest()
        """Equal for equal images that are to be normalised alike."""

    @property
    def padded_size(self) -> tuple[int, int]:
        """Height and width as multiples of 32."""
        height, width = (side + sum(margins(side)) for side in self.size)
        return height, width

    @cached_property
    def padded(self) -> Tensor:
        """float32 [1, C, H', W'] on the device."""
        image, self._image = self._image, None  # large images would be there twice
        assert image is not None
        scaled = image if self._normalise is None else self._normalise(image)
        tensor = torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)))[None]
        return pad_to_multiple(tensor.to(self._device))
