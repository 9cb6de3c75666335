"""What docs/own-model.md says about strokes saved, against the result file and its runs."""

import json

import numpy as np
import pytest
from paths import ROOT

from napari_hidiff.training.evaluate.interactive.first_images import TARGETS
from napari_hidiff.training.evaluate.interactive.first_images_report import report

TEXT = (ROOT / "docs" / "own-model.md").read_text(encoding="utf-8")


def read(name):
    return json.loads((ROOT / "results" / f"{name}.json").read_text(encoding="utf-8"))


FOUND = read("first-images")
SETS = FOUND["sets"]


def test_the_page_has_the_table_of_the_file():
    assert report(FOUND).table.markdown() in TEXT
    assert f"{len(FOUND['met'])} of {len(SETS)} sets" in TEXT


def test_the_page_has_the_table_of_two_orders_and_the_dice_of_vessels():
    assert report(read("first-images-seeds")).table.markdown() in TEXT
    arms = read("first-images-vessels")["sets"]["chasedb1_2raters"]["arms"]
    assert {arm["reached"] for arm in arms.values()} == {0}
    alone, own = (f"{arms[arm]['dice']:.2f}".lstrip("0") for arm in ("refine", "own"))
    assert f"is {alone} with *universal* alone and {own} with the segmentor" in TEXT


def test_the_command_is_on_the_page():
    words = FOUND["command"].split(" --data ")[0]
    assert words in TEXT
    assert f"--longest-side {FOUND['longest_side']}" in TEXT
    assert f"at most {FOUND['strokes']} strokes" in TEXT


@pytest.mark.parametrize("name", SETS)
def test_sums_curves_and_shares_agree(name):
    one = SETS[name]
    for arm in one["arms"].values():
        assert len(arm["strokes"]) == len(FOUND["seeds"])
        assert len(arm["curve"]) == one["n"]
        assert arm["curve"][-1] == pytest.approx(np.mean(arm["strokes"]), abs=1e-4)
        assert (arm["low"], arm["high"]) == (min(arm["strokes"]), max(arm["strokes"]))
        assert max(np.diff([0, *arm["curve"]])) <= FOUND["strokes"]
    own = np.array(one["arms"]["own"]["strokes"])
    for other, share in one["shares"].items():
        assert share["mean"] == pytest.approx(
            (own / one["arms"][other]["strokes"]).mean(), abs=1e-5
        )
    met = all(one["shares"][other]["mean"] <= most for other, most in TARGETS.items())
    assert (name in FOUND["met"]) == one["met"] == met


@pytest.mark.parametrize("name", SETS)
def test_a_segmentor_is_used_only_where_held_out_images_say_so(name):
    one = SETS[name]
    for rounds in one["trainings"]:
        assert [row["images"] for row in rounds] == list(range(8, one["n"], 8))
        for row in rounds:
            after, before = (list(row["mean"][when].values())[1:] for when in ("after", "before"))
            assert row["better"] == (np.mean(after) > np.mean(before))
    if not any(row["better"] for rounds in one["trainings"] for row in rounds):
        assert one["arms"]["own"]["mean"] == one["arms"]["refine"]["mean"]


def test_the_page_has_what_three_volumes_give_on_eight():
    report, split = read("own-volumes")["held_out"], read("own-volumes-split")
    cases = report["cases"]
    assert {case["id"] for case in cases} == set(split["val"])
    assert (len(split["train"]), len(cases)) == (3, 8)
    for when, name in (("before", "universal"), ("after", "universal + own")):
        means = {key: np.mean([case[when][key] for case in cases]) for key in report["mean"][when]}
        assert report["mean"][when] == pytest.approx(means)
        assert f"| {name} | {' | '.join(f'{mean:.3f}' for mean in means.values())} |" in TEXT
    first = [case["after"]["first mask"] > case["before"]["3 strokes"] for case in cases]
    assert f"in {sum(first)} of the {len(cases)} volumes" in TEXT
    strokes = list(report["mean"]["after"])[1:]
    assert all(case["after"][key] > case["before"][key] for case in cases for key in strokes)
