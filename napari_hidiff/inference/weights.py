"""A model file: weights and a card as safetensors, the weights in one of two forms.

``latent`` holds learned parameters as float16; training can go on from them. ``bits`` is an export
for inference. In place of the weight of a binary convolution NAME it holds

NAME.bits : uint8 [outputs, ceil(inputs * k * k / 8)], the signs of every output channel in the
    order of its weights [inputs, k, k]; 1 for +1, the first in the lowest bit of the first byte.
NAME.scale : float32 [outputs], mean |W| of the float16 weights, as the CPU sums them up.

All else is as in ``latent``: an export gives, bit for bit, what the latent file gives.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from napari_hidiff.errors import InputError, first_line
from napari_hidiff.inference.card import Card
from napari_hidiff.io.storage import atomic_write
from napari_hidiff.networks.binary import BinaryConv2d, weight_scale

if TYPE_CHECKING:
    pass

LATENT, BITS = "latent", "bits"
"""Forms of the weights, named in a file's metadata; latent by default."""

Parts = Mapping[str, nn.Module]
"""The networks of a model by the prefix of their tensors: segmentor, refiner."""


@dataclass(frozen=True)
class Stored:
    """The content of a model file: its card, the form of its weights, its tensors by name."""

    path: Path
    card: Card
    form: str
    tensors: dict[str, Tensor]

    def fill(self, parts: Parts) -> None:
        """Load the weights into networks of the card's architecture.

        Raises
        ------
        InputError : tensors are missing, too many, of another shape, or no bits and scales.
        """
        try:
            for part, module in parts.items():
                prefix = f"{part}."
                own = {
                    name.removeprefix(prefix): tensor
                    for name, tensor in self.tensors.items()
                    if name.startswith(prefix)
                }
                module.load_state_dict(self._unpacked(own, module) if self.form == BITS else own)
        except (KeyError, RuntimeError) as error:
            raise InputError(f"the weights in {self.path} do not fit the card") from error

    def _unpacked(self, tensors: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
        """Latent names and shapes; the convolutions of ``module`` get their scales here."""
        latent = dict(tensors)
        for name, convolution in _binary(module):
            bits, scale = latent.pop(f"{name}.bits"), latent.pop(f"{name}.scale")
            outputs, size = convolution.weight.shape[0], convolution.weight[0].numel()
            self._check(f"bits of {name}", bits, torch.uint8, (outputs, -(-size // 8)))
            self._check(f"scales of {name}", scale, torch.float32, (outputs,))
            if not (scale.isfinite().all() and (scale >= 0).all()):
                raise InputError(f"{self.path}: the scales of {name} are no magnitudes")
            signs = np.unpackbits(bits.numpy(), axis=1, count=size, bitorder="little")
            shape = convolution.weight.shape
            convolution.set_signs(torch.from_numpy(signs).view(shape).bool(), scale)
            latent[f"{name}.weight"] = convolution.weight.detach()
        return latent

    def _check(self, what: str, found: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
        if found.dtype != dtype or found.shape != shape:
            raise InputError(
                f"{self.path}: the {what} are {_kind(found.dtype, found.shape)}, "
                f"not {_kind(dtype, shape)}"
            )


def read(path: Path) -> Stored:
    """Read a model file without building its networks.

    Raises
    ------
    InputError : it cannot be read, has no card, or was written by another version.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a readable model file ({first_line(error)})") from error
    if "card" not in metadata:
        raise InputError(f"{path} holds weights but no card; it is not a model of napari-hidiff")
    form = metadata.get("weights", LATENT)
    if form not in (LATENT, BITS):
        raise InputError(
            f"{path} holds weights as {form!r}, which this version of napari-hidiff cannot read"
        )
    return Stored(path, Card.from_json(metadata["card"]), form, tensors)


def write(path: Path | str, card: Card, parts: Parts, export: bool = False) -> None:
    """Write a model file atomically; an older file is replaced.

    export : in the form ``bits``; always so for networks loaded from an export.

    Raises
    ------
    InputError : the file cannot be written, or an export has no binary layer.
    """
    path, metadata = Path(path), {"card": card.to_json()}
    export = export or any(map(is_export, parts.values()))
    if export:
        if not any(any(_binary(module)) for module in parts.values()):
            raise InputError(
                f"{card.name} has no binary layers: there are no weights to store as bits"
            )
        metadata["weights"] = BITS
    form = _as_bits if export else _as_latent
    tensors = {
        f"{part}.{name}": tensor.cpu().contiguous()
        for part, module in parts.items()
        for name, tensor in form(module).items()
    }
    with atomic_write(path) as (part,):
        part.write_bytes(save(tensors, metadata=metadata))


def is_export(module: nn.Module) -> bool:
    """Whether the binary weights of a network were loaded from bits."""
    return any(convolution.stored_scale is not None for _, convolution in _binary(module))


def _binary(module: nn.Module) -> Iterator[tuple[str, BinaryConv2d]]:
    """The binary convolutions of a network by name."""
    for name, part in module.named_modules():
        if isinstance(part, BinaryConv2d):
            yield name, part


def _as_latent(module: nn.Module) -> dict[str, Tensor]:
    """The state of a network, learned parameters as float16."""
    learned = dict(module.named_parameters())
    state = module.state_dict()
    return {name: value.half() if name in learned else value for name, value in state.items()}


def _as_bits(module: nn.Module) -> dict[str, Tensor]:
    """The same with bits and scales in place of binary weights."""
    tensors = _as_latent(module)
    for name, convolution in _binary(module):
        weight, scale = tensors.pop(f"{name}.weight").float().cpu(), convolution.stored_scale
        if scale is None:
            scale = weight_scale(weight)
        else:  # not by way of float16, in which a small negative number is -0, and that counts as +
            weight = convolution.weight.detach().cpu()
        signs = (weight >= 0).flatten(1).numpy()
        tensors[f"{name}.bits"] = torch.from_numpy(np.packbits(signs, axis=1, bitorder="little"))
        tensors[f"{name}.scale"] = scale.float()
    return tensors


def _kind(dtype: torch.dtype, shape: tuple[int, ...]) -> str:
    return f"{str(dtype).removeprefix('torch.')} {list(shape)}"
