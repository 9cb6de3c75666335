"""Which engine runs a refiner, and on how many threads: packed kernels where they can, else torch.

Torch rounds sums by the number of its threads, so all threads of a program use one number.
"""

import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from napari_hidiff.engine.graphs import GraphRefiner
from napari_hidiff.errors import InputError, Unpackable
from napari_hidiff.networks.refiner import ImageCondition, PriorCondition, Refiner
from napari_hidiff.networks.segmentor import one_line

ENGINES = ("auto", "packed", "torch")

torch.set_num_threads(torch.get_num_threads())
# Said once, it holds in every thread; otherwise a thread asks the system for a number of its own.


class Steps(Protocol):
    """The interface of both engines; see :class:`napari_hidiff.networks.refiner.Refiner`."""

    def condition(
        self, image: Tensor, prior: Tensor, fixed: Tensor, features: Sequence[Tensor]
    ) -> Any: ...

    def combine(self, image: ImageCondition, prior: PriorCondition) -> Any: ...

    def __call__(self, y_t: Tensor, t: Tensor | int, condition: Any) -> Tensor: ...

    def answers(self, y_t: Tensor, t: Tensor | int, condition: Any) -> Tensor: ...


class Backend(NamedTuple):
    """An engine for one refinement: its name, ``packed`` or ``torch``, and the refiner in it."""

    name: str
    refiner: Steps


class Engine:
    """A refiner, and its packed kernels after :meth:`prepare`.

    wanted : ``auto`` (packed on the CPU if possible), ``packed`` or ``torch``. Both give the same
    signs in every layer, so two runs on different engines agree.
    binary : whether y_t is only 0 and 1. Sums of other y_t are rounded in an order that depends on
    the engine, and signs would differ: such a refiner runs on torch.
    """

    def __init__(
        self, refiner: Refiner, device: torch.device, wanted: str = "torch", binary: bool = True
    ) -> None:
        if wanted not in ENGINES:
            raise InputError(f"the engine must be one of {', '.join(ENGINES)}, not {wanted!r}")
        self.refiner, self.wanted = refiner, wanted
        self.note = ""
        """Why packed kernels or CUDA graphs are wanted and do not run: one line, or empty."""
        self._binary = binary
        self._on_cpu = device.type == "cpu"
        self._packed: Steps | None = None
        self._torch: Steps = refiner
        if device.type == "cuda":
            self._torch = GraphRefiner(refiner, note=_loosely(self))
        self._lock = threading.Lock()
        self.preparing = False
        """Whether another thread is compiling now."""
        if wanted == "packed" and not self._on_cpu:
            raise InputError(f"the packed engine runs on the CPU, not on {device}")

    @property
    def name(self) -> str:
        """The engine of the next refinement."""
        return self.pick().name

    def pick(self) -> Backend:
        """The backend of a refinement that starts now; never waits for :meth:`prepare`."""
        packed = self._packed
        return Backend("torch", self._torch) if packed is None else Backend("packed", packed)

    def prepare(self) -> None:
        """Compile the refiner's present weights, if packed kernels are wanted: seconds, ten for
        the first time on a machine. Another thread may refine meanwhile.

        Raises
        ------
        InputError : ``packed`` is wanted and impossible; with ``auto`` the reason becomes ``note``.
        """
        with self._lock:
            if self._packed is not None or self.wanted == "torch" or not self._on_cpu or self.note:
                return
            self.preparing = True
            try:
                if not self._binary:
                    raise Unpackable("its noise is real-valued, not 0 and 1")
                packed = compiled(self.refiner)
            except Exception as error:  # a compiler on an unknown machine raises many kinds
                reason = str(error)
                if not isinstance(error, Unpackable):
                    reason = f"numba does not compile here ({one_line(error)})"
                if self.wanted == "packed":
                    raise InputError(f"the packed engine cannot run this: {reason}") from error
                self.note = f"torch runs the refiner, slower than packed kernels: {reason}"
            else:
                self._packed = packed
            finally:
                self.preparing = False


def _loosely(engine: Engine) -> Callable[[str], None]:
    """What sets the note of an engine without keeping it, and its graphs, in memory."""
    held = weakref.ref(engine)

    def note(line: str) -> None:
        if (there := held()) is not None:
            there.note = line

    return note


def compiled(refiner: Refiner) -> Steps:
    """The refiner as packed kernels, all of them ready."""
    from napari_hidiff.engine.packed_refiner import compile_refiner

    packed = compile_refiner(refiner)
    packed.warm_up()
    return packed
