"""A model on another data set than its own: classes by name, figures by hand, the card's scores."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cases import message
from layouts import write_drive
from printed import shown
from volume_layouts import write_btcv, write_msd

from napari_hidiff.inference import volumes
from napari_hidiff.masks import Label, dice
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.evaluate.analyses import cross_dataset
from napari_hidiff.training.evaluate.analyses.cross_dataset import match, narrowed
from napari_hidiff.training.evaluate.experiments import run_experiment
from napari_hidiff.training.evaluate.metrics import paired_bootstrap
from napari_hidiff.training.evaluate.study import Options


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task of the Decathlon: organ and tumour."""
    return write_msd(tmp_path_factory.mktemp("data") / "Task01_Thing", ("MRI",))


def test_classes_are_matched_by_name():
    found = match(
        ("background", "Spleen", "liver", "Gallbladder"), ("bg", "Liver", "aorta", "spleen")
    )
    assert found.pairs == ((1, 3), (2, 1))
    assert found.only_dataset == ("Gallbladder",)
    assert found.only_model == ("aorta",)
    assert found.labels(4) == [0, 2, 0, 1]
    assert match(("background", "polyp"), ("background", "lesion")).pairs == ((1, 1),)
    text = message(match, ("background", "polyp"), ("background", "liver", "spleen"))
    assert "the model has liver, spleen; the data set polyp" in text
    # Names that are the background's are no class.
    assert "no class" in message(match, ("x", "a", "b"), ("a", "x", "c"))


def test_a_narrowed_data_set_has_the_common_classes_only(task, tmp_path):
    dataset = open_dataset("msd", task)
    matched = match(dataset.classes, ("background", "tumour", "spleen"))
    common = narrowed(dataset, matched)
    assert common.classes == ("background", "tumour")
    assert common.colors == (dataset.colors[0], dataset.colors[2])
    case = dataset.split("train")[0]
    np.testing.assert_array_equal(common.load(case).mask, dataset.load(case).mask == 2)
    # Codes of the files that differ from the classes (BTCV) stay codes.
    synapse = open_dataset("synapse", write_btcv(tmp_path / "btcv"))
    matched = match(synapse.classes, ("background", "liver", "SPLEEN", "tumour"))
    common = narrowed(synapse, matched)
    assert {name.casefold() for name in common.classes[1:]} == {"liver", "spleen"}
    case = next(case for cases in synapse.splits.values() for case in cases)
    before, after = synapse.load(case).mask, common.load(case).mask
    for label, name in enumerate(common.classes):
        if label:
            np.testing.assert_array_equal(after == label, before == synapse.classes.index(name))


def test_regions_stay_where_all_their_classes_do(task):
    dataset = replace(open_dataset("msd", task), regions={"whole": (1, 2), "core": (2,)})
    assert narrowed(dataset, match(dataset.classes, ("b", "tumour", "x"))).regions == {"core": (1,)}
    both = narrowed(dataset, match(dataset.classes, ("b", "tumour", "organ")))
    assert both.regions == {"whole": (1, 2), "core": (2,)}


def test_a_model_of_other_classes_by_hand(tiny, task, tmp_path):
    """Four classes in another order, two of which the data set knows."""
    names = ("background", "tumour", "spleen", "ORGAN")
    model = tiny(4, 1).with_card(
        classes=tuple(Label(name, "#ff4040") for name in names), dataset="elsewhere"
    )
    dataset = open_dataset("msd", task)
    cases = dataset.split("train")[:2]
    options = Options(sampler="one-step")
    content = run_experiment(
        "cross-dataset", model, dataset, cases, options, tmp_path, lambda *_: None
    )
    assert content["classes"] == {"organ": "ORGAN", "tumour": "tumour"}
    assert content["left_out"] == {"dataset": [], "model": ["spleen"]}
    assert "only tiny has spleen: not scored" in content["notes"]
    assert any("channels are matched by place" in note for note in content["notes"])
    assert content["own"] is None
    for case, row in zip(cases, content["images"], strict=True):
        sample = dataset.load(case)
        planes = volumes.normalise(model, sample.image)
        prior = volumes.prior(model, planes)
        once = volumes.refine(model, planes, prior, sampling=model.sampling("one-step"))
        for arm, probability in (("prior", prior), ("refined", once)):
            mask = probability.argmax(0)
            pairs = ((3, 1), (1, 2))  # label of the model, of the data set
            wanted = np.mean([dice(mask == own, sample.mask == here) for own, here in pairs])
            assert row[arm]["dice"] == pytest.approx(wanted, abs=2e-6)
    for figure in ("dice", "hd95", "nsd"):
        apart = [row["refined"][figure] - row["prior"][figure] for row in content["images"]]
        again = paired_bootstrap(apart)
        assert list(content["minus_prior"]["refined"][figure].values()) == pytest.approx(
            again, abs=4e-6
        )
    assert set(content["per_class"]) == {"organ", "tumour"}
    text = shown("cross-dataset", content)
    assert "trained on elsewhere" in text
    other = ("steps", model, dataset, cases, options, tmp_path, lambda *_: None)
    assert "knows the classes" in message(run_experiment, *other)


def test_scores_of_the_card_stand_beside(tiny, tmp_path):
    dataset = open_dataset("drive", write_drive(tmp_path / "DRIVE", range(1, 22)))
    mean = {"prior": {"dice": 0.7, "hd95": 9.0}, "refined": {"dice": 0.75, "hd95": 8.0}}
    scores = {"dataset": "chase", "split": "test", "n": 8, "mean": mean | {"ddim": {"dice": 0.1}}}
    model = tiny().with_card(scores=scores, dataset="chase")
    (tmp_path / "state").mkdir()
    run = (dataset, dataset.split("test")[:2], Options(sampler="one-step"), tmp_path / "state")
    content = cross_dataset.run(model, *run)
    assert content["own"]["mean"]["refined"] == {"dice": 0.75, "hd95": 8.0, "nsd": None}
    assert set(content["own"]["mean"]) == {"prior", "refined"}
    sample = dataset.load(dataset.split("test")[0])
    mask = model.refine(sample.image, sampler="one-step").mask
    inside = sample.field_of_view
    assert not inside.all()
    wanted = dice(mask[inside], sample.mask[inside])
    assert content["images"][0]["refined"]["dice"] == pytest.approx(wanted, abs=2e-6)
    text = shown("cross-dataset", content)
    assert "its own: chase (test, n = 8)" in text
    assert "0.7500" in text
    val = model.with_card(scores=scores | {"split": "val"})
    assert cross_dataset.run(val, *run)["own"] is None
    same = cross_dataset.run(model.with_card(dataset="drive"), *run)
    assert any("trained on a data set of this name" in note for note in same["notes"])
