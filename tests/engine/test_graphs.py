"""Graphs of a step: what can be known without a GPU, and on one the same logits."""

import gc
import weakref

import pytest
import torch
from crossings import watched
from refiners import make, scene

from napari_hidiff.engine.engine import Engine
from napari_hidiff.engine.graphs import GRAPHS, GraphRefiner
from napari_hidiff.networks.refiner import Condition

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


def step(refiner, device, samples=2):
    """y_t, condition."""
    y_t, (image, prior, fixed, features) = scene(refiner, 64, 96, samples=samples)
    given = [x.to(device) for x in (image, prior, fixed)]
    return y_t.to(device), refiner.condition(*given, [x.to(device) for x in features])


@pytest.mark.parametrize("convolution", ["binary", "real"])
def test_nothing_in_a_step_leaves_the_device(convolution):
    refiner = make(convolution=convolution)
    y_t, condition = step(refiner.to("meta"), "meta")
    graphs = GraphRefiner(refiner, most=0)
    with torch.inference_mode(), watched() as found:
        first = graphs(y_t, 10, condition)
        graphs(y_t[:1], 4, condition)
        refiner(y_t, 3, condition)
        assert found == []
        y_t.copy_(torch.zeros(y_t.shape, device="cpu"))
    assert first.shape == y_t.shape
    assert found == ["aten.copy_.default"], "it does watch"


def test_without_graphs_the_logits_are_those_of_the_refiner():
    refiner = make()
    graphs = GraphRefiner(refiner, most=0)
    y_t, condition = step(refiner, "cpu")
    for t in (10, 3, torch.tensor([3, 5])):
        with torch.inference_mode():
            assert torch.equal(graphs(y_t, t, condition), refiner(y_t, t, condition))
            assert graphs.answers(y_t, t, condition).shape == y_t.shape
    assert len(graphs) == graphs.nbytes == 0


def test_changed_weights_are_read_anew():
    refiner = make()
    graphs = GraphRefiner(refiner, most=0)
    y_t, condition = step(refiner, "cpu")
    with torch.inference_mode():
        before = graphs(y_t, 5, condition)
    with torch.no_grad():
        refiner.middle.convolution.weight.neg_()
        refiner.up[0].join.norm.running_mean.add_(30)
    with torch.inference_mode():
        after = graphs(y_t, 5, condition)
        assert torch.equal(after, refiner(y_t, 5, condition))
    assert not torch.equal(after, before)


def test_where_no_graph_can_be_captured_steps_go_on_with_one_line(caplog):
    refiner = make()
    said = []
    graphs = GraphRefiner(refiner, note=said.append)
    y_t, condition = step(refiner, "cpu")  # no graph is captured on a CPU
    if torch.cuda.is_available():
        pytest.skip("a CUDA device captures this")
    with torch.inference_mode():
        for _ in range(2):
            assert torch.equal(graphs(y_t, 5, condition), refiner(y_t, 5, condition))
    (line,) = said
    assert line.startswith("the refiner runs without CUDA graphs, slower: ")
    assert "\n" not in line
    assert [record.message for record in caplog.records] == said


@GPU
@pytest.mark.parametrize("options", [{}, {"stem": 1}, {"width": 128}, {"convolution": "real"}])
def test_a_graph_gives_what_every_step_gives(options):
    refiner = make(**options).cuda()
    graphs, eager = GraphRefiner(refiner), GraphRefiner(refiner, most=0)
    for samples in (1, 5, 1):
        y_t, condition = step(refiner, "cuda", samples)
        other = Condition(condition.static + 1, condition.features, condition.residual)
        for t, given in ((10, condition), (10, other), (3, condition), (3, condition)):
            with torch.inference_mode():
                assert torch.equal(graphs(y_t, t, given), eager(y_t, t, given))
    assert len(graphs) == 2


@GPU
def test_graphs_are_bounded_and_go_with_the_model():
    refiner = make().cuda()
    engine = Engine(refiner, torch.device("cuda"))
    graphs = engine.pick().refiner
    y_t, condition = step(refiner, "cuda", 1)
    with torch.inference_mode():
        for samples in range(1, GRAPHS + 3):
            graphs(y_t.expand(samples, -1, -1, -1), 5, condition)
    assert len(graphs) == GRAPHS
    assert graphs.nbytes > 0
    gone = weakref.ref(next(iter(graphs._graphs.values())))
    del engine, graphs
    gc.collect()
    assert gone() is None
