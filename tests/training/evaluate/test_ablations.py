"""Studies that train: their rows, their figures, what they refuse."""

import dataclasses
import json

import layouts
import numpy as np
import pytest
import torch
from commands import evaluate as run_command

from napari_hidiff.errors import InputError
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import Label
from napari_hidiff.training.cli import resolved
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.evaluate.ablations.report import report
from napari_hidiff.training.evaluate.ablations.run import table
from napari_hidiff.training.evaluate.ablations.trainings import TrainedModels
from napari_hidiff.training.evaluate.ablations.variants import ABLATIONS, Ablation, Variant
from napari_hidiff.training.evaluate.metrics import paired_bootstrap
from napari_hidiff.training.evaluate.output import page, plain, verdict
from napari_hidiff.training.evaluate.samplers import (
    SETTINGS,
    focal_link_undone,
    inverse_focal_link,
    setting_of,
)
from napari_hidiff.training.losses import focal
from napari_hidiff.training.run import blank_card, check_recipe


def test_the_link_is_where_the_focal_loss_is_least():
    """Searched on a fine grid; the three pairs are those of the prototype."""
    p = torch.linspace(1e-4, 1 - 1e-4, 200_001, dtype=torch.float64)
    one, zero = (focal(p, torch.full_like(p, eps)) for eps in (1.0, 0.0))
    for q, known in ((0.01, 0.154), (0.05, 0.250), (0.10, 0.306), (0.5, 0.5), (0.9, 0.694)):
        best = p[(q * one + (1 - q) * zero).argmin()]
        assert float(best) == pytest.approx(known, abs=6e-4)
        assert float(inverse_focal_link(best)) == pytest.approx(q, abs=1e-3)


@pytest.mark.parametrize("classes", [1, 3])
def test_an_unlinked_model_says_less_of_rare_flips(classes):
    names = ("background", "a", "b")[: max(2, classes)]
    labels = tuple(Label(name, "#ffffff") for name in names)
    card = Card("one", labels, ("grey",), refiner={"width": 32, "stem": 2, "output": "eps"})
    model = HiDiff.create(card)
    torch.nn.init.constant_(model.refiner.head.bias, -1.0)  # every flip has p = .27
    image = np.random.default_rng(0).normal(size=(40, 40, 1)).astype(np.float32)
    mask = np.zeros((40, 40), np.uint8)
    mask[10:20, 10:30] = 1
    ways = {"prior": mask, "sampler": "ddim", "steps": 3, "normalised": True}
    plain = model.refine(image, **ways)
    mended = focal_link_undone(model).refine(image, **ways)
    np.testing.assert_allclose(mended.probability.sum(0) if classes > 1 else 1.0, 1.0, atol=1e-5)
    moved = [np.abs(step.each - step.sample).mean() for step in (plain.steps[0], mended.steps[0])]
    assert moved[1] < 0.5 * moved[0]


def test_every_row_is_a_recipe_that_can_be_trained(tmp_path):
    dataset = open_dataset("kvasir", layouts.write_kvasir(tmp_path / "Kvasir-SEG"))
    base = resolved("kvasir", "quick", False, {})
    met = {}
    for ablation in ABLATIONS.values():
        names = [row.name for row in ablation.variants]
        assert len(set(names)) == len(names)
        assert ablation.against in names
        for row in ablation.variants:
            recipe = row.recipe(base, 1)
            check_recipe(recipe, blank_card(recipe, dataset, ""))
            assert met.setdefault(row.name, recipe) == recipe or "segmentors" in ablation.title
            assert (recipe.seed, recipe.width, recipe.stem) == (1, base.width, base.stem)
            assert recipe.iterations == base.iterations * row.longer
            assert all(setting_of(name) for name in row.settings)
    assert met["paper-longer"].iterations >= 4 * met["paper"].iterations
    assert {one.forwards for one in SETTINGS.values()} >= {1, 2, 3, 5, 10, 15, 50}


FIRST, SECOND = (
    Variant("first", "the first", settings=("one-step",)),
    Variant("second", "the second"),
)
SMALL = Ablation("a question", "none", (FIRST, SECOND, Variant("third", "the third")), "first")


def made_up(row, seeds, cases=6, lift=0.0):
    """seed -> case -> record, of scores drawn at random."""
    found = {}
    for seed in seeds:
        rng = np.random.default_rng([seed, len(row.name)])
        found[seed] = {
            f"case{i}": {
                way: {
                    "dice": float(rng.uniform(0.5, 0.8) + lift * (way != "prior")),
                    "hd95": float(rng.uniform(1, 9)),
                    "nsd": float(rng.uniform()),
                    "seconds": 0.5,
                }
                for way in ("prior", *row.settings)
            }
            for i in range(cases)
        }
    return found


def test_the_figures_are_those_of_a_few_lines():
    scores = {"first": made_up(FIRST, (0, 1)), "second": made_up(SECOND, (1, 2), lift=0.1)}
    content = table(SMALL, scores)
    first, second, third = content["rows"]
    assert third["cells"] == {}
    assert (first["seeds"], second["seeds"]) == ([0, 1], [1, 2])
    ids = [f"case{i}" for i in range(6)]
    mine = {s: np.array([scores["second"][s][c]["ddim-3x5"]["dice"] for c in ids]) for s in (1, 2)}
    prior = {s: np.array([scores["second"][s][c]["prior"]["dice"] for c in ids]) for s in (1, 2)}
    theirs = np.array([scores["first"][1][c]["one-step"]["dice"] for c in ids])
    cell = second["cells"]["ddim-3x5"]
    assert cell["dice"] == pytest.approx((mine[1] + mine[2]).mean() / 2)
    gain = (mine[1] - prior[1] + mine[2] - prior[2]) / 2
    assert cell["to_prior"] == pytest.approx(paired_bootstrap(gain)._asdict())
    apart = paired_bootstrap(mine[1] - theirs)._asdict()  # seed 1 is what both have
    assert cell["to_reference"] == pytest.approx(apart)
    assert first["cells"]["one-step"]["to_reference"] is None
    assert content["images"]["second"]["case3"]["ddim-3x5"] == [
        scores["second"][s]["case3"]["ddim-3x5"]["dice"] for s in (1, 2)
    ]


def test_a_seed_with_a_missing_case_does_not_count():
    scores = made_up(FIRST, (0, 1))
    del scores[1]["case2"]
    (row, *_) = table(SMALL, {"first": scores})["rows"]
    assert row["seeds"] == [0]


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(-0.1, 0.1, "not significantly different from"), (0.01, 0.1, "above"), (-0.2, -0.1, "below")],
)
def test_a_verdict_goes_by_the_interval(low, high, words):
    difference = {"mean": (low + high) / 2, "low": low, "high": high}
    assert verdict(difference, "x").startswith(f"{words} x, ")


def test_a_single_case_has_no_interval():
    content = table(SMALL, {"first": made_up(FIRST, (0,), cases=1)})
    cell = plain(content["rows"][0]["cells"]["one-step"])
    assert cell["to_prior"]["low"] is None
    assert verdict(cell["to_prior"], "x").startswith("not significantly different from x")


@pytest.fixture(scope="module")
def kvasir(tmp_path_factory):
    return layouts.write_kvasir(tmp_path_factory.mktemp("studies") / "Kvasir-SEG")


def asked(kvasir, tmp_path, *more):
    base = ["--experiment", "refiner-control", "--dataset", "kvasir", "--data", kvasir]
    return [*base, "--state", tmp_path / "state", "--limit", 2, *more]


def test_a_given_run_serves_the_rows_that_share_its_segmentor(kvasir, tmp_path, monkeypatch):
    dataset = open_dataset("kvasir", kvasir)
    base = resolved("kvasir", "quick", False, {"iterations": 2})
    run = tmp_path / "run"
    (run / "priors").mkdir(parents=True)
    given = resolved("kvasir", "quick", False, {"pretrain_iterations": 7})
    (run / "recipe.json").write_text(json.dumps(dataclasses.asdict(given)))
    for name in ("segmentor.pt", "fold0.pt", "last.pt", "priors/a.npy"):
        (run / name).write_text(name)
    models = TrainedModels(tmp_path / "models", dataset, base, first_stage=run)
    trained = []
    monkeypatch.setattr(
        TrainedModels, "_train", lambda self, recipe, run, resume: trained.append(recipe)
    )
    ours, paper = ABLATIONS["output"].variants[0], ABLATIONS["output"].variant("paper")
    other = ABLATIONS["segmentors"].variant("segresnet")
    for row in (ours, paper):
        models.train(row, 3)
        assert trained.pop() == models.recipe(row, 3)
        assert not trained, "the segmentor was given"
    assert models.recipe(ours, 3).pretrain_iterations == 7
    kept = sorted(f.name for f in models.run(ours, 3).rglob("*") if f.is_file())
    assert kept == ["a.npy", "fold0.pt", "recipe.json", "segmentor.pt"]
    kept = sorted(f.name for f in models.run(paper, 3).rglob("*") if f.is_file())
    assert kept == ["recipe.json", "segmentor.pt"]
    assert models._first_stage(models.recipe(other, 3)) != run
    assert (trained[0].segmentor, trained[0].seed, trained[0].iterations) == ("segresnet", 0, 1)
    models.check(ours, 3)
    (run / "segmentor.pt").unlink()
    (run / "segmentor.pt").write_text("trained anew")
    with pytest.raises(InputError, match="was trained on another first stage than"):
        models.check(ours, 3)
    models.check(other, 3)  # has a segmentor of its own


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--model", "chase-vessels"], "--model does not go with --experiment refiner-control"),
        (["--arms", "paint"], "--arms does not go with --experiment refiner-control"),
        (["--damage"], "--damage does not go with --experiment"),
        (["--rows", "ours,theirs"], "no row 'theirs' in this study; its rows are ours, control"),
        (["--set", "speed=3"], "--set speed=3: wanted NAME=VALUE"),
        (["--set", "iterations=many"], "'many' is no int"),
        (["--set", "flips=maybe"], "'maybe' is no bool"),
        (["--size", "huge"], "no size 'huge'"),
        (["--first-stage", "nowhere"], "nowhere: not the folder of a run"),
        (["--set", "loss=mse"], "loss must be one of"),
    ],
)
def test_what_is_wrong_is_one_line_and_trains_nothing(
    kvasir, tmp_path, capsys, monkeypatch, more, line
):
    status, out, err = run_command(capsys, monkeypatch, *asked(kvasir, tmp_path, *more))
    assert (status, out) == (2, "")
    assert line in err.splitlines()[-1]
    assert not list(tmp_path.glob("state/*/model.safetensors"))


def test_options_of_studies_need_one(kvasir, capsys, monkeypatch):
    model = ["--model", "chase-vessels", "--dataset", "kvasir", "--data", kvasir]
    for more, line in (
        (["--rows", "ours"], "--rows needs --experiment"),
        (["--experiment", "interactive", "--kept"], "--kept does not go with --experiment int"),
        (["--experiment", "mood"], "choose one of interactive, "),
    ):
        status, _, err = run_command(capsys, monkeypatch, *model, *more)
        assert status == 2
        assert line in err


def test_the_experiments_are_listed(capsys, monkeypatch):
    status, out, _ = run_command(capsys, monkeypatch, "--list-experiments")
    assert status == 0
    for name in ("interactive", "refiner-control", "output", "ablation", "segmentors"):
        assert name in out


def test_nothing_kept_is_an_empty_table_with_commands(kvasir, tmp_path, capsys, monkeypatch):
    more = ["--kept", "--json", "--seeds", 1]
    status, out, err = run_command(capsys, monkeypatch, *asked(kvasir, tmp_path, *more))
    assert status == 0, err
    content = json.loads(out)
    assert [row["cells"] for row in content["rows"]] == [{}, {}]
    assert "not run: `--rows control`" in page(content, report(content))
    assert not list(tmp_path.glob("state/*/recipe.json"))
