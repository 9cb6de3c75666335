"""Steps of a refiner on a CUDA device as graphs: a step is one launch in place of a thousand.

A graph belongs to the shapes of its arguments. It is captured at the first step of these shapes,
reads its arguments from buffers of its own and serves every time and image from then on. Weights
and time are read from :class:`~napari_hidiff.networks.tables.Tables`.
"""

import logging
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from napari_hidiff.networks.refiner import Condition, ImageCondition, PriorCondition, Refiner
from napari_hidiff.networks.segmentor import one_line
from napari_hidiff.networks.tables import Tables

GRAPHS = 8
"""Graphs of one model; beyond, the one used longest ago goes."""
SHARE = 4
"""All graphs of a model together get one part in so many of the device's memory."""
WARM_UPS = 2
"""Steps before a capture, in which libraries choose their kernels and get their memory."""


class GraphRefiner:
    """A refiner in evaluation mode on CUDA; the interface is that of the refiner.

    Thread-safe; work is ordered by the current stream, which has to be the same in all threads.
    Weights may change between two steps: everything is then made anew.

    most : number of graphs; 0 = none, every kernel is launched by itself.
    note : is called with one line if no graph can be captured; steps run without from then on.
    """

    def __init__(
        self, refiner: Refiner, most: int = GRAPHS, note: Callable[[str], None] | None = None
    ) -> None:
        self._refiner, self._most, self._note = refiner, most, note
        self._lock = threading.Lock()
        stored = [*refiner.parameters(), *refiner.buffers()]
        self._stored = [x for x in stored if not x.is_inference()]
        self._versions: list[int] = []
        self._tables: Tables | None = None
        self._graphs: OrderedDict[Hashable, Recording] = OrderedDict()

    def condition(
        self, image: Tensor, prior: Tensor, fixed: Tensor, features: Sequence[Tensor]
    ) -> Condition:
        """:meth:`Refiner.condition`."""
        return self._refiner.condition(image, prior, fixed, features)

    def combine(self, image: ImageCondition, prior: PriorCondition) -> Condition:
        """:meth:`Refiner.combine`."""
        return self._refiner.combine(image, prior)

    def __call__(self, y_t: Tensor, t: Tensor | int, condition: Condition) -> Tensor:
        """:meth:`Refiner.forward`."""
        return self.answers(y_t, t, condition)[:, : self._refiner.classes]

    def answers(self, y_t: Tensor, t: Tensor | int, condition: Condition) -> Tensor:
        """:meth:`Refiner.answers`; with a gradient, or several times at once, that method."""
        if isinstance(t, Tensor) or torch.is_grad_enabled() or self._refiner.training:
            return self._refiner.answers(y_t, t, condition)
        with self._lock:
            tables = self._current()
            row = tables.row(t)
            graph = self._graph(tables, row, y_t, condition)
            if graph is not None:
                return graph.run(row, y_t, condition)
        return self._refiner.at(y_t, tables.at(row), condition)

    def __len__(self) -> int:
        """The number of graphs."""
        return len(self._graphs)

    @property
    def nbytes(self) -> int:
        """Bytes of all graphs on the device."""
        return sum(graph.nbytes for graph in self._graphs.values())

    def _current(self) -> Tables:
        """The tables of the weights as they are."""
        versions = [x._version for x in self._stored]
        if self._tables is None or versions != self._versions:
            self._graphs.clear()
            self._tables, self._versions = Tables(self._refiner), versions
        return self._tables

    def _graph(
        self, tables: Tables, row: Tensor, y_t: Tensor, condition: Condition
    ) -> "Recording | None":
        """The graph of these shapes; None if there is none."""
        key = tuple(_kind(x) for x in (y_t, *_parts(condition)))
        if key in self._graphs:
            self._graphs.move_to_end(key)
        elif self._most:
            while len(self._graphs) >= self._most:
                self._graphs.popitem(last=False)
            try:
                self._graphs[key] = Recording(self._refiner, tables, row, y_t, condition)
            except Exception as error:  # drivers and libraries raise many kinds
                self._give_up(one_line(error))
            else:
                self._trim(y_t.device)
        return self._graphs.get(key)

    def _trim(self, device: torch.device) -> None:
        limit = torch.cuda.get_device_properties(device).total_memory // SHARE
        while len(self._graphs) > 1 and self.nbytes > limit:
            self._graphs.popitem(last=False)

    def _give_up(self, reason: str) -> None:
        self._most = 0
        self._graphs.clear()
        line = f"the refiner runs without CUDA graphs, slower: {reason}"
        logging.getLogger(__name__).warning(line)
        if self._note is not None:
            self._note(line)


class Recording:
    """A captured step: its graph, the buffers of its arguments and its result.

    nbytes : of the device's memory that it holds.
    """

    def __init__(
        self, refiner: Refiner, tables: Tables, row: Tensor, y_t: Tensor, condition: Condition
    ) -> None:
        device = y_t.device
        with torch.inference_mode(False):  # such buffers can be written to in either mode
            self._row, self._y_t, *self._parts = (
                torch.empty_like(x) for x in (row, y_t, *_parts(condition))
            )
        static, residual, *features = self._parts
        held, time = Condition(static, features, residual), tables.at(self._row)
        self._last = _nothing
        self._write(row, y_t, condition)
        self._graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.device(device):
            aside = torch.cuda.Stream(device)
            aside.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(aside):
                for _ in range(WARM_UPS):
                    refiner.at(self._y_t, time, held)
            torch.cuda.current_stream(device).wait_stream(aside)
            # Another thread may allocate or copy meanwhile, which is none of this graph's business.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                before = torch.cuda.memory_reserved(device)
                self._out = refiner.at(self._y_t, time, held)
                after = torch.cuda.memory_reserved(device)
        own = (self._row, self._y_t, *self._parts)
        self.nbytes = after - before + sum(x.nbytes for x in own)

    def run(self, row: Tensor, y_t: Tensor, condition: Condition) -> Tensor:
        """:meth:`Refiner.answers`, a tensor of its own."""
        self._write(row, y_t, condition)
        self._graph.replay()
        return self._out.clone()

    def _write(self, row: Tensor, y_t: Tensor, condition: Condition) -> None:
        self._row.copy_(row)
        self._y_t.copy_(y_t)
        if self._last() is not condition:
            for buffer, part in zip(self._parts, _parts(condition), strict=True):
                buffer.copy_(part)
            self._last = weakref.ref(condition)


def _nothing() -> Condition | None:
    return None


def _parts(condition: Condition) -> list[Tensor]:
    return [condition.static, condition.residual, *condition.features]


def _kind(x: Tensor) -> Hashable:
    """What a graph depends on: shape, dtype, and whether channels are last in memory."""
    return tuple(x.shape), x.dtype, x.shape[1] > 1 and x.stride(1) == 1
