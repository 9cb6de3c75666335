"""The generative studies on pictures and volumes: views of cases, whole runs, what resumes."""

import json
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from cases import message
from layouts import write_chase, write_drive
from PIL import Image
from rich.console import Console
from volume_layouts import write_msd

from napari_hidiff.inference import volumes
from napari_hidiff.masks import dice, entropy
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.evaluate.generative import alternatives, uncertainty
from napari_hidiff.training.evaluate.generative.figures import (
    auroc,
    energy_distance,
    overlap_distance,
)
from napari_hidiff.training.evaluate.generative.views import SAMPLES, last_step, views_of
from napari_hidiff.training.evaluate.scoring import foreground_slices
from napari_hidiff.training.evaluate.study import Options

OPTIONS = Options(seeds=(0,), slices=2)


@pytest.fixture(scope="module")
def chase(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chase(tmp_path_factory.mktemp("data") / "CHASEDB1", 9, 40, 44)


def test_slices_are_the_middles_of_equal_parts_of_the_foreground():
    mask = np.zeros((12, 4, 4), np.uint8)
    mask[2:11, 1, 1] = 1
    assert foreground_slices(mask, 1) == [6]
    assert foreground_slices(mask, 3) == [3, 6, 9]
    assert foreground_slices(mask, 100) == list(range(2, 11))
    mask[5] = 0
    assert 5 not in foreground_slices(mask, 100)
    assert foreground_slices(np.zeros_like(mask), 3) == []


def test_views_of_a_picture_have_both_observers(chase, tiny):
    dataset = open_dataset("chase", chase)
    (view,) = views_of(tiny(), dataset, dataset.split("val")[0], 3)
    sample = dataset.load(dataset.split("val")[0])
    np.testing.assert_array_equal(view.truth, sample.mask)
    np.testing.assert_array_equal(view.observers[1], dataset.load_second(sample))
    assert view.inside.all()
    # The model sees what it would see of the raw image.
    np.testing.assert_array_equal(
        tiny().prior(view.image, normalised=True), tiny().prior(sample.image)
    )


def test_what_lies_outside_the_field_of_view_does_not_count(tmp_path, tiny):
    dataset = open_dataset("drive", write_drive(tmp_path / "DRIVE"))
    case = next(case for case in dataset.split("test") if case.second is not None)
    (view,) = views_of(tiny(), dataset, case, 1)
    assert not view.inside.all()
    assert not any(mask[~view.inside].any() for mask in view.observers)
    everywhere = np.ones_like(view.truth)
    np.testing.assert_array_equal(view.cut(everywhere), view.inside)


def test_views_of_a_volume_are_slices_normalised_together(tmp_path, tiny):
    dataset = open_dataset("msd", write_msd(tmp_path / "Task01_Thing"))
    model = tiny(len(dataset.classes), 1)
    case = dataset.split("train")[0]
    views = views_of(model, dataset, case, 2)
    sample = dataset.load(case)
    planes = volumes.normalise(model, sample.image)
    chosen = foreground_slices(sample.mask, 2)
    assert len(views) == len(chosen) == 2
    for view, index in zip(views, chosen, strict=True):
        np.testing.assert_array_equal(view.image, planes[index])
        np.testing.assert_array_equal(view.truth, sample.mask[index])
        assert view.truth.any()


@pytest.fixture(scope="module")
def told(chase, tiny):
    """CHASE with one validation truth that is exactly the model's own first mask."""
    dataset, model = open_dataset("chase", chase), tiny()
    case = dataset.split("val")[0]
    view = views_of(model, dataset, case, 1)[0]
    mine = model.mask_of(model.prior(view.image, normalised=True))
    assert 0 < mine.mean() < 1
    Image.fromarray(mine.astype(bool)).save(case.mask)
    return dataset, model


@pytest.fixture
def forwards(tiny):
    """How often the networks of the tiny model really ran, as a list that grows."""
    seen = []
    model = tiny()
    hooks = [
        module.register_forward_pre_hook(lambda *_: seen.append(1))
        for module in (model.segmentor, model.refiner)
    ]
    yield seen
    for hook in hooks:
        hook.remove()


def shown(study, content) -> str:
    console = Console(file=StringIO(), width=140)
    study.print_tables(content, console)
    return console.file.getvalue()


def test_alternatives_run(told, tmp_path, forwards):
    dataset, model = told
    cases = dataset.split("val")[:2]
    met = []
    content = alternatives.run(
        model, dataset, cases, OPTIONS, tmp_path, lambda done, case: met.append((done, case.id))
    )
    assert met == [(0, cases[0].id), (1, cases[1].id)]
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    row = content["cases"][cases[0].id]
    assert row["dice"]["prior"] == 1  # its truth is the model's own first mask
    assert row["cldice"]["prior"] == 1
    assert row["components"]["prior"] == 0

    view = views_of(model, dataset, cases[1], 1)[0]
    once = last_step(model, view, "one-step").probability
    each = last_step(model, view, "ddim").each
    assert len(each) == SAMPLES
    row = content["cases"][cases[1].id]
    assert row["dice"]["one-step"] == pytest.approx(dice(once[0] >= 0.5, view.truth), abs=1e-6)
    assert row["dice"]["ddim mean"] == pytest.approx(
        dice(each.mean(0)[0] >= 0.5, view.truth), abs=1e-6
    )
    levels = [dice(once[0] >= level, view.truth) for level in (0.3, 0.5, 0.7)]
    assert row["dice"]["levels best of 3"] == pytest.approx(max(levels), abs=1e-6)
    drawn = list((each[:, 0] >= 0.5).astype(np.uint8))
    assert row["ged"]["ddim"] == pytest.approx(energy_distance(drawn, view.observers, 2), abs=1e-6)
    assert row["observers"] == pytest.approx(overlap_distance(*view.observers, 2), abs=1e-6)
    assert 1 <= row["found"]["ddim best of clear"] <= row["found"]["ddim best of 3"] <= 3
    assert content["pictures"] == ["alternatives.png"]
    pair = content["differences"]["ged"]["ddim - one-step"]
    ged = [case["ged"] for case in content["cases"].values()]
    assert pair["mean"] == pytest.approx(
        np.mean([g["ddim"] - g["one-step"] for g in ged]), abs=2e-6
    )
    assert "ddim best of 3 - levels best of 3" in shown(alternatives, content)
    with Image.open(tmp_path / "alternatives.png") as picture:
        assert picture.format == "PNG"

    forwards.clear()
    assert alternatives.run(model, dataset, cases, OPTIONS, tmp_path) == content
    assert not forwards


def test_uncertainty_run_resumes_and_mends(told, tmp_path, forwards):
    dataset, model = told
    cases = dataset.split("val")[:2]
    uncertainty.run(model, dataset, cases[:1], OPTIONS, tmp_path)
    forwards.clear()
    content = uncertainty.run(model, dataset, cases, OPTIONS, tmp_path)
    once = len(forwards)
    perfect, row = (content["cases"][case.id] for case in cases)
    assert set(perfect["auroc"]["prior"].values()) == {None}  # no error to find
    assert set(perfect["area"]["prior"].values()) == {None}
    assert content["differences"]["auroc"]["prior"]["segmentor - samples"]["n"] == 1
    assert content["differences"]["auroc"]["one-step"]["segmentor - samples"]["n"] == 2

    view = views_of(model, dataset, cases[1], 1)[0]
    prior = model.prior(view.image, normalised=True)
    wanted = auroc(entropy(prior).ravel(), (model.mask_of(prior) != view.truth).ravel())
    assert row["auroc"]["prior"]["segmentor"] == pytest.approx(wanted, abs=1e-6)
    for mask in ("prior", "one-step"):
        for name, curve in row["found"][mask].items():
            assert len(curve) == uncertainty.VISITS
            assert curve == sorted(curve)
            assert row["area"][mask][name] == pytest.approx(np.mean(curve), abs=2e-6)
        assert row["area"][mask]["ideal"] >= max(
            share for name, share in row["area"][mask].items() if name != "ideal"
        )
    text = shown(uncertainty, content)
    assert "mutual information" in text
    assert "AUROC of the errors of the one-step mask" in text
    with Image.open(tmp_path / "uncertainty.png") as picture:
        assert picture.format == "PNG"

    first, second = sorted(tmp_path.glob("uncertainty-*.json"))
    second.write_text(second.read_text()[:-20])  # torn
    (tmp_path / "uncertainty-other.json").write_text("{}")
    forwards.clear()
    assert uncertainty.run(model, dataset, cases, OPTIONS, tmp_path) == content
    assert 0 < len(forwards) <= once + 2
    assert json.loads(second.read_text())["record"]["figures"] == row

    kept = json.loads(first.read_text())
    first.write_text(json.dumps(kept | {"key": "of another model"}))
    forwards.clear()
    assert uncertainty.run(model, dataset, cases, OPTIONS, tmp_path) == content
    assert forwards


def test_uncertainty_of_volumes_pools_slices(tmp_path, tiny):
    dataset = open_dataset("msd", write_msd(tmp_path / "Task01_Thing"))
    model = tiny(len(dataset.classes), 1)
    case = dataset.split("train")[0]
    content = uncertainty.run(model, dataset, [case], OPTIONS, tmp_path / "state")
    views = views_of(model, dataset, case, 2)
    priors = [model.prior(view.image, normalised=True) for view in views]
    scores = np.concatenate([entropy(p).ravel() for p in priors])
    wrong = np.concatenate(
        [(p.argmax(0) != v.truth).ravel() for p, v in zip(priors, views, strict=True)]
    )
    assert content["cases"][case.id]["auroc"]["prior"]["segmentor"] == pytest.approx(
        auroc(scores, wrong), abs=1e-6
    )
    assert "-" in shown(uncertainty, content)


def test_settings_that_cannot_be_are_one_line(chase, tiny, tmp_path):
    dataset = open_dataset("chase", chase)
    cases = dataset.split("val")[:1]
    for study in (alternatives, uncertainty):
        assert "slices" in message(
            study.run, tiny(), dataset, cases, Options(slices=0), tmp_path / "state"
        )
        assert "seed" in message(study.run, tiny(), dataset, cases, Options(()), tmp_path)
        assert "no case" in message(study.run, tiny(), dataset, [], OPTIONS, tmp_path)
        assert "classes" in message(study.run, tiny(3), dataset, cases, OPTIONS, tmp_path)
    assert not list(tmp_path.iterdir())
