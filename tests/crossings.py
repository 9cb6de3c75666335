"""What operations wait for a device, or copy between two, seen without a GPU: on ``meta``."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Watch(TorchDispatchMode):
    """Notes operations that read a device from the CPU or copy between devices."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        tensors = [x for x in (*args, *(kwargs or {}).values(), out) if isinstance(x, torch.Tensor)]
        name = str(function)
        if len({x.device.type for x in tensors}) > 1 or "_local_scalar_dense" in name:
            self.found.append(name)
        return out


@contextmanager
def watched() -> Iterator[list[str]]:
    watch = Watch()
    with watch:
        yield watch.found
