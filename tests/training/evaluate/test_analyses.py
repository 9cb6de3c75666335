"""Steps, small objects, other data sets: figures by hand, going on after a kill, refusals."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import message
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import write_chase
from PIL import Image
from printed import shown
from volume_layouts import SPACING, write_msd

from napari_hidiff.inference import volumes
from napari_hidiff.masks import dice
from napari_hidiff.surfaces import hd95, nsd
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.evaluate import study
from napari_hidiff.training.evaluate.analyses import cross_dataset, small_objects, steps
from napari_hidiff.training.evaluate.experiments import EXPERIMENTS, run_experiment
from napari_hidiff.training.evaluate.metrics import paired_bootstrap
from napari_hidiff.training.evaluate.study import Options, Records

ARMS = ("one-step", "ddim-2x1", "ancestral-10x1")
NAMES = ("steps", "small-objects", "cross-dataset")
RUNS = dict(zip(NAMES, (steps.run, small_objects.run, cross_dataset.run), strict=True))
OPTIONS = {
    "steps": Options(arms=ARMS, seeds=(0, 1)),
    "small-objects": Options(arms=("one-step",), seeds=(0, 1)),
    "cross-dataset": Options(sampler="ddim", steps=2, samples=1, seeds=(0, 1)),
}


@pytest.fixture(scope="module")
def chase(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chase(tmp_path_factory.mktemp("data") / "CHASEDB1", 14, 40, 44)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task of the Decathlon: organ and tumour."""
    return write_msd(tmp_path_factory.mktemp("data") / "Task01_Thing", ("MRI",))


@pytest.fixture
def forwards(tiny: Any) -> Iterator[list[int]]:
    """How often the networks of the tiny models really ran, as a list that grows."""
    seen: list[int] = []
    hooks = [
        module.register_forward_pre_hook(lambda *_: seen.append(1))
        for model in (tiny(), tiny(3, 1))
        for module in (model.segmentor, model.refiner)
    ]
    yield seen
    for hook in hooks:
        hook.remove()


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch) -> list[Records]:
    """Every store that an experiment opens."""
    opened: list[Records] = []

    class TiledDenoiser(Records):
        def __init__(self, folder: Path) -> None:
            super().__init__(folder)
            opened.append(self)

    monkeypatch.setattr(study, "Records", TiledDenoiser)
    return opened


def case_of(name: str, tiny: Any, chase: Path, task: Path) -> tuple[Any, Any, Sequence[Any]]:
    """Model, data set and two cases for an experiment: volumes for small objects."""
    if name == "small-objects":
        dataset = open_dataset("msd", task)
        return tiny(3, 1), dataset, dataset.split("train")[:2]
    dataset = open_dataset("chase", chase)
    return tiny(), dataset, dataset.split("test")[:2]


def without_times(content: dict[str, Any]) -> dict[str, Any]:
    plain = json.loads(json.dumps(content))
    for arm in plain.get("arms", {}).values():
        arm.pop("seconds", None)
    return plain


@pytest.mark.parametrize("name", NAMES)
def test_a_second_call_does_no_work_and_a_killed_one_goes_on(
    name, tiny, chase, task, tmp_path, forwards, stores
):
    model, dataset, cases = case_of(name, tiny, chase, task)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir(), parts.mkdir()
    full = RUNS[name](model, dataset, cases, OPTIONS[name], whole)
    assert json.loads(json.dumps(full, allow_nan=False)) == full
    assert stores[-1].computed == len(list(whole.glob("*.json"))) > 0
    assert {path.name for path in whole.glob("*.png")} == set(full["pictures"])
    before = len(forwards), {path: path.read_bytes() for path in whole.iterdir()}
    assert before[0] > 0
    assert RUNS[name](model, dataset, cases, OPTIONS[name], whole) == full
    assert stores[-1].computed == 0
    assert (len(forwards), {path: path.read_bytes() for path in whole.iterdir()}) == before

    def stop(done: float, what: Any) -> None:
        if done > 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RUNS[name](model, dataset, cases, OPTIONS[name], parts, stop)
    kept = sorted(parts.glob("*.json"))
    assert 0 < len(kept) < len(list(whole.glob("*.json")))
    kept[-1].write_text(kept[-1].read_text()[:-9])  # torn
    resumed = RUNS[name](model, dataset, cases, OPTIONS[name], parts)
    assert without_times(resumed) == without_times(full)
    assert stores[-1].computed == len(list(whole.glob("*.json"))) - len(kept) + 1
    for picture in full["pictures"]:
        assert Image.open(parts / picture).size == Image.open(whole / picture).size


def test_another_seed_computes_only_itself_and_other_settings_anew(tiny, chase, tmp_path, stores):
    dataset = open_dataset("chase", chase)
    cases = dataset.split("test")[:1]
    one = steps.run(tiny(), dataset, cases, Options(arms=ARMS, seeds=(0,)), tmp_path)
    assert stores[-1].computed == 2 + 3  # truth and prior, and every way
    two = steps.run(tiny(), dataset, cases, Options(arms=ARMS, seeds=(0, 1)), tmp_path)
    assert stores[-1].computed == 2  # one pass has no seeds
    assert two["arms"]["one-step"]["mean"] == one["arms"]["one-step"]["mean"]
    assert two["arms"]["ddim-2x1"]["mean"] != one["arms"]["ddim-2x1"]["mean"]
    steps.run(tiny(), replace(dataset, longest_side=30), cases, Options(arms=ARMS[:1]), tmp_path)
    assert stores[-1].computed == 3


def test_steps_by_hand(tiny, chase, tmp_path):
    dataset, model = open_dataset("chase", chase), tiny()
    cases = dataset.split("test")[:3]
    met: list[float] = []
    content = steps.run(
        model, dataset, cases, OPTIONS["steps"], tmp_path, lambda done, case: met.append(done)
    )
    assert met == sorted(met)
    assert set(range(3)) < set(met)
    assert max(met) < 3
    assert list(content["arms"]) == ["prior", *ARMS]
    assert [content["arms"][arm]["passes"] for arm in ARMS] == [1, 2, 10]
    sample = dataset.load(cases[1])
    truth = sample.mask.astype(bool)
    found = []
    for seed in (0, 1):
        mask = model.refine(sample.image, sampler="ddim", steps=2, samples=1, seed=seed).mask
        found.append((dice(mask, truth), hd95(mask > 0, truth), nsd(mask > 0, truth)))
    row = content["images"][1]
    assert row["id"] == cases[1].id
    assert list(row["ddim-2x1"].values()) == pytest.approx(np.mean(found, 0), abs=2e-6)
    prior = model.mask_of(model.prior(sample.image))
    assert row["prior"]["dice"] == pytest.approx(dice(prior, truth), abs=2e-6)

    for arm, figures in content["arms"].items():  # the table from the rows alone
        for figure in ("dice", "hd95", "nsd"):
            each = {a: np.array([r[a][figure] for r in content["images"]]) for a in content["arms"]}
            assert figures["mean"][figure] == pytest.approx(each[arm].mean(), abs=2e-6)
            for other, key in (("prior", "minus_prior"), ("one-step", "minus_one_step")):
                if key in figures:
                    again = paired_bootstrap(each[arm] - each[other])
                    assert list(figures[key][figure].values()) == pytest.approx(again, abs=4e-6)
        assert ("minus_prior" in figures) == (arm != "prior")
        assert ("minus_one_step" in figures) == (arm not in ("prior", "one-step"))
    assert content["surface"] == {"unit": "pixels", "tolerance": 1.0}
    text = shown("steps", content)
    assert "Dice - one pass" in text
    assert f"{content['arms']['ddim-2x1']['mean']['dice']:.4f}" in text
    with Image.open(tmp_path / "curve.png") as curve:
        assert curve.size == (990, 360)


def test_the_card_says_which_way_is_shown(tiny, chase, tmp_path):
    dataset = open_dataset("chase", chase)
    cases = dataset.split("test")[:1]
    options = Options(arms=("ddim-3x5", "one-step"), seeds=(0,))
    content = steps.run(tiny(), dataset, cases, options, tmp_path)
    assert content["recommended"] is None  # two steps and two samples: no way is called so
    assert content["shown"] == "ddim-3x5"
    card = tiny().with_card(defaults={"sampler": "one-step", "steps": 3, "samples": 5})
    content = steps.run(card, dataset, cases, options, tmp_path)
    assert content["recommended"] == content["shown"] == "one-step"
    assert "card recommends one-step" in shown("steps", content)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(st.text("abcd", min_size=1, max_size=3), st.integers(1, 6)))
def test_quarters(sizes):
    parts = small_objects.quarters_of(sizes)
    rising = [id_ for size in range(7) for id_ in sorted(sizes) if sizes[id_] == size]
    assert [id_ for part in parts for id_ in part] == rising
    numbers = [len(part) for part in parts]
    assert len(parts) == 4
    assert numbers == sorted(numbers, reverse=True)
    assert max(numbers) - min(numbers) <= 1


def test_small_objects_by_hand(tiny, task, tmp_path, monkeypatch):
    model = tiny(3, 1)
    dataset = open_dataset("msd", task)
    cases = [case for split in ("train", "val", "test") for case in dataset.splits[split]]
    load = type(dataset).load

    def erased(self, case):  # sizes that differ, and one case without tumour
        sample = load(self, case)
        mask, number = sample.mask.copy(), cases.index(case)
        organ = np.flatnonzero(mask == 1)
        mask.flat[organ[: 11 * ((number * 3) % 7)]] = 0
        if number == 2:
            mask[mask == 2] = 0
        return replace(sample, mask=mask)

    monkeypatch.setattr(type(dataset), "load", erased)
    options = Options(sampler="one-step", arms=("ddim-2x1",), seeds=(0,))
    content = small_objects.run(model, dataset, cases, options, tmp_path)
    voxel = float(np.prod(SPACING))
    assert content["unit"] == "mm3"
    truths, masks = {}, {}
    for case in cases:
        sample = dataset.load(case)
        planes = volumes.normalise(model, sample.image)
        prior = volumes.prior(model, planes)
        once = volumes.refine(model, planes, prior, sampling=model.sampling("one-step"))
        truths[case.id] = sample.mask
        masks[case.id] = [p.argmax(0) for p in (prior, once)]
    gains: dict[str, list[float]] = {}
    for label, name in enumerate(("organ", "tumour"), 1):
        sizes = {id_: int((truth == label).sum()) for id_, truth in truths.items()}
        there = sorted((size, id_) for id_, size in sizes.items() if size)
        part = content["classes"][name]
        assert (part["n"], part["without"]) == (len(there), len(cases) - len(there))
        assert part["without"] == (name == "tumour")
        start = 0
        for index, quarter in enumerate(part["quarters"].values()):
            count = len(there) // 4 + (index < len(there) % 4)
            ids = [id_ for _, id_ in there[start : start + count]]
            start += count
            assert quarter["n"] == count
            assert quarter["from"] == pytest.approx(sizes[ids[0]] * voxel)
            assert quarter["to"] == pytest.approx(sizes[ids[-1]] * voxel)
            before, after = (
                np.array([dice(masks[i][arm] == label, truths[i] == label) for i in sorted(ids)])
                for arm in (0, 1)
            )
            assert quarter["dice"]["prior"] == pytest.approx(before.mean(), abs=2e-6)
            assert quarter["dice"]["refined"] == pytest.approx(after.mean(), abs=2e-6)
            gain = quarter["minus_prior"]["refined"]
            assert gain["mean"] == pytest.approx((after - before).mean(), abs=2e-6)
            if count > 1:
                assert gain["low"] <= gain["mean"] <= gain["high"]
            if index == 0:
                for id_, value in zip(sorted(ids), after - before, strict=True):
                    gains.setdefault(id_, []).append(value)
    lowest = content["lowest"]
    assert lowest["n"] == len(gains)
    assert any(len(own) > 1 for own in gains.values()) or len(gains) == 4
    mean = np.mean([np.mean(own) for own in gains.values()])
    assert lowest["minus_prior"]["refined"]["mean"] == pytest.approx(mean, abs=2e-6)
    without = next(row for row in content["images"] if row["id"] == cases[2].id)
    assert without["classes"]["tumour"] == {"size": 0}
    text = shown("small-objects", content)
    assert "1 cases without it are left out" in text
    assert "smallest" in text


def test_fewer_cases_than_quarters_and_pixels_without_spacing(tiny, chase, tmp_path):
    dataset = open_dataset("chase", chase)
    content = small_objects.run(
        tiny(), dataset, dataset.split("test")[:2], Options(sampler="one-step"), tmp_path
    )
    quarters = list(content["classes"]["vessel"]["quarters"].values())
    assert [quarter["n"] for quarter in quarters] == [1, 1, 0, 0]
    assert quarters[0]["minus_prior"]["refined"]["low"] is None
    assert quarters[2]["dice"] is None
    assert content["unit"] == "pixels"
    assert shown("small-objects", content)


@pytest.mark.parametrize(
    ("name", "options", "part"),
    [
        ("steps", Options(arms=("ddim-3",)), "unknown arm 'ddim-3': choose among one-step"),
        ("steps", Options(sampler="ddim"), "--arms chooses among them"),
        ("steps", Options(arms=()), "no arm is named"),
        ("small-objects", Options(arms=("paint",)), "unknown arm 'paint'"),
        ("small-objects", Options(seeds=()), "at least one seed"),
        ("cross-dataset", Options(arms=("ddim-3x5-unlinked-twice",)), "unknown arm"),
    ],
)
def test_bad_options_get_one_line(name, options, part, tiny, chase, tmp_path):
    dataset = open_dataset("chase", chase)
    cases = dataset.split("test")[:1]
    assert part in message(RUNS[name], tiny(), dataset, cases, options, tmp_path)
    assert not list(tmp_path.iterdir())


def test_channels_that_differ_in_number_are_refused(tiny, chase, tmp_path):
    dataset = open_dataset("chase", chase)
    run = (dataset, dataset.split("test")[:1], Options(), tmp_path, lambda *_: None)
    assert "1 channels" in message(run_experiment, "cross-dataset", tiny(2, 1), *run)
    assert not list(tmp_path.iterdir())


def test_every_experiment_says_its_section_of_the_paper():
    for experiment in EXPERIMENTS.values():
        assert experiment.section.strip()
        assert "\n" not in experiment.section
    other = {name for name, experiment in EXPERIMENTS.items() if not experiment.same_classes}
    assert other == {"cross-dataset", "foreign-priors"}
