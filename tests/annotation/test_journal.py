"""The log's entries: their text in the sidecar, one by one, and a replay for each."""

import json
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch

from napari_hidiff.annotation.annotation import Annotation
from napari_hidiff.annotation.constraints import Guards
from napari_hidiff.annotation.entries import Entry
from napari_hidiff.annotation.journal import repeatable
from napari_hidiff.annotation.refinement import Settings
from napari_hidiff.annotation.replay import ACTIONS
from napari_hidiff.inference.card import Sampling

INDEX = (-1, -1)
TIMES = {"at", "until", "when", "version"}
SAMPLING = {"sampler": "ddim", "steps": 3, "samples": 2, "seed": 7}


@pytest.fixture
def annotation() -> Annotation:
    """One slice uint8 [4, 5] with one stroke of two parts, nothing else."""
    mask = np.zeros((4, 5), np.uint8)
    annotation = Annotation(mask.shape)
    annotation.begin(channels=1)
    annotation.session(INDEX, mask)
    mask[0, 1] = 1
    annotation.changed(mask, painted=True)
    mask[0, 2] = 1
    annotation.changed(mask, painted=True, more=True)
    return annotation


@pytest.fixture
def facts(tiny_model) -> dict[str, str]:
    """The model as an entry has it."""
    model = {"model": tiny_model.card.name, "file": tiny_model.file, "digest": tiny_model.digest}
    runs = {"engine": tiny_model.engine, "device": str(tiny_model.device)}
    return model | runs | {"threads": torch.get_num_threads()}


def text(annotation: Annotation, first: int = 0) -> str:
    """Entries as the sidecar has them, without times and the digest of the mask."""
    left_out = TIMES | {"mask"}
    log = [{k: v for k, v in entry.items() if k not in left_out} for entry in annotation.log]
    return json.dumps(log[first:])


def test_opening_and_strokes(annotation):
    assert [list(entry) for entry in annotation.log] == [
        ["action", "at", "when", "version", "channels"],
        ["action", "at", "slice", "mask"],
        ["action", "at", "pixels", "slice", "mask", "until"],
    ]
    digest = annotation.sessions[INDEX].timeline.digest
    assert annotation.log[2]["mask"] == digest != annotation.log[1]["mask"]


def test_a_run_with_its_steps(annotation, tiny_model, facts):
    settings = Settings(**SAMPLING, certain=True, firm=False)
    run = annotation.begin_run(INDEX, tiny_model, settings, Guards(3, certain=False, margin=0.5))
    guards = {"certain": False, "firm": False, "near": 3, "margin": 0.5}
    entry = {"action": "run", "fixed": 2, **facts, **SAMPLING, **guards, "slice": INDEX}
    assert text(annotation, 3) == json.dumps([entry])
    run.took(1, "torch")
    run.took(2, "other")
    run.stopped()
    entry |= {"engine": "other", "taken": 2, "stopped": True}
    assert text(annotation, 3) == json.dumps([entry])


def test_priors_and_passes(annotation, tiny_model, facts):
    journal, about = annotation.journal, {"slice": INDEX}
    journal.segment(INDEX, tiny_model)
    journal.sweep(INDEX, tiny_model, "segment", None, None)
    journal.sweep(INDEX, tiny_model, "refine", Sampling(**SAMPLING), Guards(margin=0.5))
    guards = {"near": None, "certain": False, "margin": 0.5}
    assert text(annotation, 3) == json.dumps(
        [
            {"action": "segment", **facts, "prior": "segmentor", **about},
            {"action": "sweep", **facts, "kind": "segment", **about},
            {"action": "sweep", **facts, "kind": "refine", **SAMPLING, **guards, **about},
        ]
    )
    journal.segment(INDEX, tiny_model, np.eye(4, 5, dtype=np.uint8))
    assert [*annotation.log[-1]][-4:] == ["prior", "pixels", "slice", "mask"]


def test_results_and_answers(annotation):
    journal, about = annotation.journal, {"slice": INDEX}
    journal.write_result(INDEX, "walker")
    journal.write_step(INDEX, 0)
    journal.undo(INDEX, -2)
    journal.undo(INDEX, 1)
    journal.alternatives(INDEX, [0.75, 0.25])
    journal.show(INDEX, 4)
    journal.walker(INDEX)
    journal.walker(INDEX, layers=2)
    journal.reject(INDEX)
    journal.accept(INDEX, {"fixed": 2, "model": "tiny", "step": 4, "steps": 3, "alternative": 1})
    journal.withdraw(INDEX)
    journal.take_back(5)
    accepted = {"fixed": 2, "model": "tiny", "step": 4, "steps": 3, "alternative": 1}
    assert text(annotation, 3) == json.dumps(
        [
            {"action": "write", "what": "walker", **about},
            {"action": "write", "what": "step", "step": 0, **about},
            {"action": "undo", "by": 2, **about},
            {"action": "redo", "by": 1, **about},
            {"action": "alternatives", "shares": [0.75, 0.25], **about},
            {"action": "show", "step": 4, **about},
            {"action": "walker", **about},
            {"action": "walker", "layers": 2, **about},
            {"action": "reject", **about},
            {"action": "accept", **accepted, **about},
            {"action": "withdraw", **about},
            {"action": "take_back", "slices": 5},
        ]
    )


def test_only_the_last_lock_of_a_class_has_its_pixels(annotation):
    mask = annotation.sessions[INDEX].timeline.content.copy()
    for on in (True, True, False):
        annotation.freeze(1, mask, on)
        held = ["held" in entry for entry in annotation.log if entry["action"] == "lock"]
        assert held == [False] * (len(held) - 1) + [on]
    assert list(annotation.log[-2]) == ["action", "at", "label", "on"]


def test_a_log_of_an_older_version_is_followed_by_a_snapshot(annotation):
    assert repeatable(annotation.log)
    older = annotation.log[1:]
    assert not repeatable([*older, {"action": "take_back", "at": 1.0, "slices": 3}])
    again, mask = Annotation(annotation.shape), np.zeros(annotation.shape, np.uint8)
    records = annotation.records()
    again.restore(records, mask)
    again.begin(older, records, channels=1)
    facts = ["action", "at", "when", "version", "channels", "masks"]
    assert list(again.log[-1]) == [*facts, "slices"]
    assert repeatable(again.log)
    again.begin(annotation.log, records, channels=1)
    assert list(again.log[-1]) == facts


def test_every_entry_can_be_repeated():
    actions = [get_args(get_type_hints(entry)["action"]) for entry in get_args(Entry)]
    assert {action for names in actions for action in names} == set(ACTIONS)
