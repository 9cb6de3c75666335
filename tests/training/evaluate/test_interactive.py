"""The simulated annotator: figures by hand, and what must hold with a real network."""

import copy

import numpy as np
import pytest
import torch
from cases import message
from scipy import ndimage

from napari_hidiff.annotation.suggestions import random_walk
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.training.datasets import Case
from napari_hidiff.training.evaluate.interactive import annotator, policies
from napari_hidiff.training.evaluate.interactive.annotator import (
    TOLERANCE,
    AnnotatorRun,
    annotate,
    areas_for,
    by_set,
    farther,
    nauc,
    strokes_to,
    summarise,
)
from napari_hidiff.training.evaluate.interactive.policies import (
    POLICIES,
    arm_seeds,
    arm_settings,
    arms_named,
)
from napari_hidiff.training.evaluate.interactive.subjects import Answered, Subject, SubjectId
from napari_hidiff.training.evaluate.study import Options, Records, fingerprint

SIZE = (32, 40)
STROKES = 3


@pytest.fixture(scope="module")
def subject(tiny):
    """A picture with two classes on a network that answers with something else each time."""
    model = tiny(labels=3)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (*SIZE, 3)).astype(np.uint8)
    smooth = ndimage.gaussian_filter(rng.normal(size=SIZE), 4)
    truth = np.digitize(smooth, np.quantile(smooth, [0.5, 0.8])).astype(np.uint8)
    plane = model.intensity(image)
    return Subject(SubjectId("drawn", None, "disc"), image, plane, truth, None, model)


def play(subject, arm, strokes=STROKES, seed=0, wrong=0.0, **options):
    """The record of one annotator."""
    policy, model = POLICIES[arm], subject.model
    settings = arm_settings(policy, model, Options(**options))
    answer = policies.answer_of(policy, subject, model, settings, seed)
    return annotate(subject, policy, answer, strokes, seed, wrong)


def same(one, other):
    return {k: v for k, v in one.items() if k != "seconds"} == {
        k: v for k, v in other.items() if k != "seconds"
    }


def test_areas_and_strokes_by_hand():
    curve = [0.5, 0.7, 0.9, 0.9]
    assert nauc(curve, 3) == pytest.approx((0.6 + 0.8 + 0.9) / 3)
    assert nauc(curve, 1) == pytest.approx(0.6)
    assert nauc([0.8] * 21, 20) == pytest.approx(0.8)
    assert strokes_to(curve, 0.9) == 2
    assert strokes_to(curve, 0.5) == 0
    assert strokes_to(curve, 0.95) is None
    assert areas_for(20) == (10, 20)
    assert areas_for(12) == (10,)
    assert areas_for(5) == (5,)


def record(dice, **more):
    none = {"before": [], "after": [], "seconds": [], "changed": [], "lost_far": []}
    fixed = {"fixed_changed": 0, "strokes": len(dice) - 1, "painted": list(range(len(dice)))}
    return {"dice": dice, **none, **fixed, **more}


def test_a_summary_by_hand():
    """Two cases, one of two slices: slices and seeds of a case are averaged first."""
    a, b = SubjectId("a", None, "disc"), SubjectId("b", 3, "disc")
    c = SubjectId("b", 7, "disc")
    harmful = {
        "before": [0.6, 0.8],
        "after": [0.6 - 2 * TOLERANCE, 0.8 - TOLERANCE / 2],
        "seconds": [1.0, 3.0],
        "changed": [0, 5],
        "lost_far": [0, 4],
        "fixed_changed": 2,
    }
    runs = [
        AnnotatorRun(a, "paint", 0, record([0.2, 0.4, 0.6])),
        AnnotatorRun(b, "paint", 0, record([0.4, 0.6, 0.8])),
        AnnotatorRun(c, "paint", 0, record([0.6, 0.8, 1.0])),
        AnnotatorRun(a, "refine", 0, record([0.2, 0.6, 0.8], **harmful)),
        AnnotatorRun(b, "refine", 0, record([0.4, 0.8, 0.8])),
        AnnotatorRun(b, "refine", 1, record([0.4, 1.0, 1.0])),
        AnnotatorRun(c, "refine", 0, record([0.6, 0.9, 0.9])),
    ]
    content = summarise(runs, [POLICIES["paint"], POLICIES["refine"]], 2)
    paint, refine = content["arms"]["paint"], content["arms"]["refine"]
    assert paint["dice"] == pytest.approx([0.35, 0.55, 0.75])
    assert refine["dice"] == pytest.approx([0.35, 0.75, 0.85])
    assert paint["nauc"]["2"] == pytest.approx((0.35 / 2 + 0.55 + 0.75 / 2) / 2)
    # case a: 2 strokes and never; case b: slice 3 takes 1 of two seeds at 1 stroke, slice 7 one.
    assert refine["strokes_to"]["0.85"]["mean"] == pytest.approx((2 + (1.5 + 1) / 2) / 2)
    assert refine["strokes_to"]["0.85"]["never"] == pytest.approx(1 + 0.25)
    assert refine["as_painting"] == {"dice": paint["dice"][-1], "strokes": 1, "share": 0.5}
    assert refine["re_refines"] == 2
    assert refine["lowered"] == 0.5
    assert refine["changed_off_stroke"] == 0.5
    assert refine["lost_far"] == 2
    assert refine["fixed_changed"] == 2
    assert refine["seconds"]["median"] == 2
    assert "lowered" not in paint
    gain = content["differences"]["refine_minus"]["paint"]["nauc_2"]
    assert gain["mean"] == pytest.approx(refine["nauc"]["2"] - paint["nauc"]["2"])
    assert gain["low"] <= gain["mean"] <= gain["high"]
    rows = {row["id"]: row for row in content["cases"]}
    assert rows["b"]["slices"] == [3, 7]
    assert rows["a"]["nauc_2"]["refine"] == pytest.approx((0.1 + 0.6 + 0.4) / 2)
    assert len(content["runs"]) == len(runs)


def test_sets_are_summarised_apart():
    policies = [POLICIES["paint"], POLICIES["refine"]]
    runs = [
        AnnotatorRun(SubjectId(case, None, "disc"), arm, 0, record([0.2, level, level]))
        for case, paint, refine in (("x/1", 0.3, 0.5), ("x/2", 0.5, 0.5), ("y/1", 0.6, 0.4))
        for arm, level in (("paint", paint), ("refine", refine))
    ]
    sets = by_set(runs, policies, 2)
    assert {name: part["n"] for name, part in sets.items()} == {"x": 2, "y": 1}
    assert sets["x"]["arms"]["paint"]["dice"] == pytest.approx([0.2, 0.4, 0.4])
    assert sets["y"]["arms"]["refine"]["after"]["2"] == pytest.approx(0.4)
    gain = sets["x"]["differences"]["refine_minus"]["paint"]["nauc_2"]["mean"]
    assert gain == pytest.approx((0.15 + 0) / 2)
    assert by_set(runs[:0], policies, 2) == {}
    one = [AnnotatorRun(SubjectId("1", None, "disc"), "paint", 0, record([0.2, 0.3, 0.3]))]
    assert by_set(one, policies, 2) == {}


def test_arms_are_chosen_by_name():
    assert [p.name for p in arms_named(Options(arms=("once", "paint", "once")))] == [
        "once",
        "paint",
    ]
    assert "control" not in [policy.name for policy in arms_named(Options())]
    assert "unknown arm 'pain': choose from paint," in message(arms_named, Options(arms=("pain",)))
    assert "at least one arm" in message(arms_named, Options(arms=()))
    assert "--control" in message(arms_named, Options(arms=("control",)))


def test_only_what_is_random_runs_with_every_seed(tiny):
    model = tiny(labels=3)  # its card recommends ddim
    options = Options(seeds=(3, 4))
    once = Options(seeds=(3, 4), sampler="one-step")
    assert list(arm_seeds(POLICIES["refine"], model, options)) == [3, 4]
    assert list(arm_seeds(POLICIES["refine"], model, once)) == [3]
    assert list(arm_seeds(POLICIES["refine-ddim"], model, once)) == [3, 4]
    for arm in ("paint", "walker"):
        assert list(arm_seeds(POLICIES[arm], model, options)) == [3]
    assert list(arm_seeds(POLICIES["paint-wrong"], model, options)) == [3, 4]
    assert arm_settings(POLICIES["berdiff"], model, once) == {
        "sampler": "ancestral",
        "steps": model.process.steps,
        "samples": 2,
    }


@pytest.mark.parametrize("arm", [name for name in POLICIES if name != "control"])
def test_no_arm_that_clamps_changes_a_painted_pixel(subject, arm):
    found = play(subject, arm, wrong=0.5)
    assert len(found["dice"]) == len(found["painted"]) == STROKES + 1
    assert found["strokes"] == STROKES
    answered = {"paint": 0, "paint-wrong": 0, "once": 1}.get(arm, STROKES)
    assert {len(found[key]) for key in ("before", "after", "seconds", "changed")} == {answered}
    if POLICIES[arm].clamp:
        assert found["fixed_changed"] == 0
    if arm != "walker":
        assert same(found, play(subject, arm, wrong=0.5)), "the same seed, the same record"


def test_a_network_that_overwrites_strokes_may_do_so_only_without_a_clamp(subject):
    mine = subject.model
    model = HiDiff(mine.card, mine.segmentor, copy.deepcopy(mine.refiner))
    generator = torch.Generator().manual_seed(1)
    torch.nn.init.normal_(model.refiner.head.weight, std=5, generator=generator)
    stubborn = Subject(subject.id, subject.image, subject.plane, subject.truth, None, model)
    loose, clamped = (play(stubborn, arm, strokes=6) for arm in ("no-clamp", "refine"))
    assert loose["fixed_changed"] > 0
    assert clamped["fixed_changed"] == 0


def test_painting_never_lowers_dice_and_ends_without_errors(subject):
    found = play(subject, "paint", strokes=SIZE[0] * SIZE[1])
    assert (np.diff(found["dice"]) >= 0).all()
    assert found["dice"][-1] == 1
    assert found["strokes"] < SIZE[0] * SIZE[1]
    first = subject.prior.mask != subject.truth
    assert found["painted"][-1] == first.sum(), "every error is painted once"
    assert found["helped"] is None


def test_all_arms_start_from_the_segmentor_but_the_one_that_refines_first(subject):
    start = subject.dice(subject.prior.mask)
    for arm in ("paint", "refine", "berdiff", "walker", "no-clamp"):
        assert play(subject, arm, strokes=1)["dice"][0] == start
    once = play(subject, "once", strokes=1)
    assert once["before"] == [start]
    assert once["dice"][0] == once["after"][0] != start


def test_harm_is_counted_against_the_mask_with_the_stroke(subject):
    found = play(subject, "refine")
    best = Answered.unpacked(found["helped"])
    gains = np.subtract(found["after"], found["before"])
    assert best.gain == pytest.approx(gains.max())
    assert found["harmed"]["gain"] == pytest.approx(gains.min())
    assert best.number == int(gains.argmax()) + 1
    assert subject.dice(best.after) - subject.dice(best.before) == pytest.approx(best.gain)
    np.testing.assert_array_equal(best.before[best.where], subject.truth[best.where])
    np.testing.assert_array_equal(best.fixed[best.where], subject.truth[best.where])
    index = best.number - 1
    assert found["changed"][index] == ((best.before != best.after) & ~best.where).sum()
    assert found["dice"][best.number] == found["after"][index]
    assert annotator.lowered(found) == (gains < -TOLERANCE).sum()


def test_a_guard_keeps_the_answer_near_the_strokes(subject):
    reach = POLICIES["refine-near"].guards.near
    moment = Answered.unpacked(play(subject, "refine-near", strokes=1)["helped"])
    pieces, _ = ndimage.label(moment.before != moment.after, np.ones((3, 3)))
    near = ~farther(moment.where, reach + 1)
    assert set(np.unique(pieces[pieces > 0])) == set(np.unique(pieces[near & (pieces > 0)]))


def test_wrong_strokes_are_drawn_alike_in_both_arms(subject):
    assert same(play(subject, "paint-wrong", wrong=0.0), play(subject, "paint"))
    right, wrong = play(subject, "paint"), play(subject, "paint-wrong", wrong=1.0)
    assert wrong["dice"][-1] < right["dice"][-1]
    seeds = [play(subject, "paint-wrong", seed=seed, wrong=0.5)["dice"] for seed in range(3)]
    assert len(set(map(tuple, seeds))) > 1


def test_pixels_outside_the_field_of_view_are_nobodys_errors(subject):
    counted = np.zeros(SIZE, bool)
    counted[8:24, 8:30] = True
    place, model = subject.id, subject.model
    inside = Subject(place, subject.image, subject.plane, subject.truth, counted, model)
    found = play(inside, "paint", strokes=400)
    assert found["dice"][-1] == 1
    errors = (subject.prior.mask != subject.truth) & counted
    assert found["painted"][-1] == errors.sum()


def test_far_is_farther_than_two_radii():
    where = np.zeros((20, 20), bool)
    where[10, 10] = True
    far = farther(where, 2 * 2)
    for y, x in np.ndindex(where.shape):
        assert far[y, x] == (np.hypot(y - 10, x - 10) > 4)
    assert farther(np.zeros((3, 3), bool), 9).all()


def test_cores_leave_a_band_free_and_no_piece_without_a_seed():
    mask = np.zeros((64, 64), np.uint8)
    mask[8:40, 8:40] = 1  # wide: a band of 4 pixels
    mask[50:53, 4:60] = 2  # narrow: only its middle row is left
    seeds = policies.cores(mask)
    assert (seeds[seeds >= 0] == mask[seeds >= 0]).all()
    assert (seeds[12:36, 12:36] == 1).all()
    assert (seeds == 1).sum() == 24 * 24
    assert set(np.argwhere(seeds == 2)[:, 0]) == {51}
    for label in (0, 1, 2):
        pieces, count = ndimage.label(mask == label, np.ones((3, 3)))
        assert set(pieces[seeds == label]) == set(range(1, count + 1))


def test_thin_structures_have_seeds_and_background_beside_them():
    mask = np.zeros((96, 96), np.uint8)
    mask[8::16] = mask[9::16] = mask[10::16] = 1  # lines, 13 pixels apart: a disc has radius 6
    mask[:, 40:52] = 1  # that branch off a thick one
    seeds = policies.cores(mask)
    assert (seeds[9::16, 8:30] == 1).all()
    assert (seeds[15:20, 8:30] == 0).all()
    assert (seeds[20:76, 45:47] == 1).all()


def test_the_walker_goes_on_from_strokes_and_cores(subject):
    mask = np.zeros(SIZE, np.uint8)
    fixed = np.full(SIZE, -1)
    np.testing.assert_array_equal(policies.walked(subject.image, mask, fixed), mask)
    mask[10:30, 10:30] = 1
    fixed[20:24, 33:37] = 2
    seeds = np.where(fixed >= 0, fixed, policies.cores(mask))
    found = policies.walked(subject.image, mask, fixed)
    np.testing.assert_array_equal(found, random_walk(subject.image, seeds))
    assert (found[20:24, 33:37] == 2).all()


def test_a_store_keeps_finds_and_computes_anew(tmp_path):
    store, decides = Records(tmp_path), {"seed": 1}
    kept = store.get("a/b", decides, lambda: {"x": 1.25, "y": (1, 2)})
    assert kept == {"x": 1.25, "y": [1, 2]}
    assert store.get("a/b", decides, dict) == kept, "nothing is computed again"
    assert store.find("a/b", {"seed": 2}) is None
    assert store.computed == 1
    [path] = tmp_path.iterdir()
    whole = path.read_text()
    for broken in (whole[:-5], "[]", '{"key": "of another", "record": {}}', ""):
        path.write_text(broken)
        assert store.find("a/b", decides) is None
        assert store.get("a/b", decides, lambda: {"x": 2}) == {"x": 2}
        assert list(tmp_path.iterdir()) == [path]


def test_a_fingerprint_knows_weights_but_not_scores(tiny):
    model = tiny(labels=3)
    own = fingerprint(model)
    assert fingerprint(model.with_card(scores={"dice": 1})) == own
    assert fingerprint(model.with_card(soften={"sigma": 2.0, "confidence": 0.9})) != own
    weight = next(model.refiner.parameters())
    with torch.no_grad():
        weight.flatten()[0] += 1
    try:
        assert fingerprint(model) != own
    finally:
        with torch.no_grad():
            weight.flatten()[0] -= 1


def test_a_moment_comes_back_as_it_was():
    rng = np.random.default_rng(0)
    before, after = rng.integers(0, 9, (2, 5, 7)).astype(np.uint8)
    fixed, where = rng.integers(-1, 9, (5, 7)), rng.random((5, 7)) > 0.5
    back = Answered.unpacked(Answered(3, before, after, fixed, where, -0.25).packed())
    assert (back.number, back.gain) == (3, -0.25)
    for name, array in (("before", before), ("after", after), ("fixed", fixed), ("where", where)):
        np.testing.assert_array_equal(getattr(back, name), array)


def test_another_copy_of_the_data_is_noticed(tmp_path):
    """Records notice another copy of the data by the sizes of its files."""
    from napari_hidiff.training.evaluate.study import files_of

    image, mask = tmp_path / "i.png", tmp_path / "m.png"
    image.write_bytes(b"123")
    assert files_of(Case("a", "a", (image,), mask)) == [3, -1]
