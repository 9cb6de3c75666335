"""Which engine runs a refiner: packed kernels where they can, else torch."""

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from napari_hidiff.errors import InputError, Unpackable
from napari_hidiff.networks.refiner import ImageCondition, PriorCondition, Refiner
from napari_hidiff.networks.segmentor import one_line

ENGINES = ("auto", "packed", "torch")


class Steps(Protocol):
    """What both engines can do; see :class:`napari_hidiff.networks.refiner.Refiner`."""

    def condition(
        self, image: Tensor, prior: Tensor, fixed: Tensor, features: Sequence[Tensor]
    ) -> Any: ...

    def combine(self, known: ImageCondition, standing: PriorCondition) -> Any: ...

    def __call__(self, y_t: Tensor, t: Tensor | int, condition: Any) -> Tensor: ...

    def answers(self, y_t: Tensor, t: Tensor | int, condition: Any) -> Tensor: ...


class Backend(NamedTuple):
    """An engine for one refinement: its name, ``packed`` or ``torch``, and the refiner in it."""

    name: str
    refiner: Steps


class Engine:
    """A refiner, and the kernels that it is compiled to once :meth:`prepare` was called.

    wanted : ``auto`` (packed on the CPU where that is possible), ``packed`` or ``torch``. Both give
    the same signs in every layer, so that a run may begin on one and the next go on with the other.
    binary : whether y_t holds nothing but 0 and 1. Sums of other y_t round in the order in which an
    engine adds, and signs would differ: such a refiner runs on torch.
    """

    def __init__(
        self, refiner: Refiner, device: torch.device, wanted: str = "torch", binary: bool = True
    ) -> None:
        if wanted not in ENGINES:
            raise InputError(f"the engine must be one of {', '.join(ENGINES)}, not {wanted!r}")
        self.refiner, self.wanted = refiner, wanted
        self.note = ""
        """Why torch runs where packed kernels were hoped for: one line, or empty."""
        self._binary = binary
        self._on_cpu = device.type == "cpu"
        self._packed: Steps | None = None
        self._lock = threading.Lock()
        self.preparing = False
        """Whether another thread is compiling at this moment."""
        if wanted == "packed" and not self._on_cpu:
            raise InputError(f"the packed engine runs on the CPU, not on {device}")

    @property
    def name(self) -> str:
        """The engine that the next refinement runs on."""
        return self.pick().name

    def pick(self) -> Backend:
        """The engine for a refinement that starts now; never waits for :meth:`prepare`."""
        packed = self._packed
        return Backend("torch", self.refiner) if packed is None else Backend("packed", packed)

    def prepare(self) -> None:
        """Compile the refiner, as it is now, if packed kernels are wanted: seconds, or on a machine
        that has not compiled them before about ten. Another thread may refine meanwhile.

        Raises
        ------
        InputError : ``packed`` is wanted and impossible; with ``auto`` that becomes the note.
        """
        with self._lock:
            if self._packed is not None or self.wanted == "torch" or not self._on_cpu or self.note:
                return
            self.preparing = True
            try:
                if not self._binary:
                    raise Unpackable("its noise is real-valued, not 0 and 1")
                packed = compiled(self.refiner)
            except Exception as error:  # a compiler that does not know this machine has many ways
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


def compiled(refiner: Refiner) -> Steps:
    """The refiner as packed kernels, all of them ready."""
    from napari_hidiff.engine.packed_refiner import compile_refiner

    packed = compile_refiner(refiner)
    packed.warm_up()
    return packed
