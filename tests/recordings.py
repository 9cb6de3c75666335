"""What a GPU records, checked without one: nothing waits for the device, nothing is frozen that
should change."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITING = (
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.equal.default,
    torch.ops.aten.is_nonzero.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten.multinomial.default,
    torch.ops.aten.nonzero.default,
)
"""Operations that make a GPU wait, as the program needs their result."""
INDEXED = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default)
"""Those that do with an index that is a mask: how much it holds must be known."""
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


class Watched(TorchDispatchMode):
    """Nothing more: watched by anyone, torch adds up some gradients in another way, and rounds
    them in another way. A reference for a tape is watched, too."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


class NothingWaits(TorchDispatchMode):
    """A program that waits for the device, or copies between devices, is an error."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        masked = function in INDEXED and any(x.dtype == torch.bool for x in _tensors(args[1]))
        waits = masked or function in WAITING
        assert not waits, f"{function} waits for the device"
        out = function(*args, **(kwargs or {}))
        kinds = {x.device.type for x in _tensors((args, kwargs, out))}
        assert len(kinds) < 2, f"{function} copies between devices and waits for it"
        return out


class Tape(TorchDispatchMode):
    """A recording of a GPU (``graphs._Graph``), done by the CPU: the operations of one call, with
    the memory that they read and write, and no line of Python between them."""

    def __init__(self, function, arguments, generator):
        super().__init__()
        self.arguments = tuple(None if x is None else x.clone() for x in arguments)
        self.operations = []
        self.done = True  # a GPU does not do what it records
        with self:
            self.results = function(*self.arguments)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.operations.append((function, args, kwargs or {}, out))
        return out

    @torch.no_grad()
    def __call__(self, arguments):
        if self.done:
            self.done = False
            return self.results
        for mine, new in zip(self.arguments, arguments, strict=True):
            if mine is not None:
                mine.copy_(new)
        for function, args, kwargs, out in self.operations:
            if function.is_view:
                continue  # of memory that is written anyway
            for old, new in zip(_tensors(out), _tensors(function(*args, **kwargs)), strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)
        return self.results


def _tensors(tree):
    return [x for x in tree_leaves(tree) if isinstance(x, torch.Tensor)]
