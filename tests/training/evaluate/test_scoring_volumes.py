"""The evaluation of volumes: scored as wholes, in millimetres, by class, region, case and set."""

import io
import json
import shutil
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from rich.console import Console
from scipy import ndimage

from napari_hidiff.errors import InputError
from napari_hidiff.inference import volumes
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.io.nifti import read_volume
from napari_hidiff.masks import Label
from napari_hidiff.training.datasets import Case, Dataset, Sample, open_dataset
from napari_hidiff.training.datasets.base import palette, read_nifti
from napari_hidiff.training.evaluate.damage import damage
from napari_hidiff.training.evaluate.metrics import METRICS, score
from napari_hidiff.training.evaluate.report import MOST_ROWS, print_report, report
from napari_hidiff.training.evaluate.scoring import (
    DAMAGED,
    PRIOR,
    REFINED,
    REPAIRED,
    SECOND,
    Evaluation,
    PreparedSample,
    arms_of,
    evaluate,
    score_case,
)
from napari_hidiff.training.evaluate.study import Options
from napari_hidiff.training.priors import open_prior_source

CLASSES = ("background", "shell", "core", "dot")
REGIONS = {"all": (1, 2, 3), "inner": (2, 3)}
SPACING = (3.0, 1.5, 0.5)
SHAPE = (6, 24, 34)


class TwoReaders(Dataset):
    """A data set whose volumes a second observer segmented too, as NIfTI."""

    def load_second(self, sample):
        return read_volume(sample.case.second).array.astype(np.uint8)


def ball(seed):
    """Nested ellipsoids as a mask uint8 [D, H, W], and a noisy image of it, float32."""
    rng = np.random.default_rng(seed)
    centre = np.array(SHAPE) / 2 + rng.uniform(-1, 1, 3)
    grid = np.indices(SHAPE) - centre[:, None, None, None]
    radius = np.sqrt(((grid * np.array([2.5, 1, 1])[:, None, None, None]) ** 2).sum(0))
    mask = (radius < 10).astype(np.uint8) + (radius < 7) + (radius < 3)
    return mask, (100 + 40 * mask + rng.normal(0, 15, SHAPE)).astype(np.float32)


def write(path, array):
    """A NIfTI file of an array [Z, Y, X] with the spacing above."""
    affine = np.diag([*SPACING[::-1], 1.0])
    nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), affine), path)
    return path


def case(root, name, seed):
    mask, image = ball(seed)
    stem = name.replace("/", "_")
    second = ndimage.shift(mask, (0, 1, -1), order=0)
    return Case(
        name,
        name,
        (write(root / f"{stem}.nii.gz", image),),
        write(root / f"{stem}_mask.nii.gz", mask),
        None,
        write(root / f"{stem}_second.nii.gz", second),
    )


def model_of(classes, seed=0, spread=0.4):
    """A small model with a refiner that disagrees with its prior."""
    import torch

    card = Card(
        "small",
        tuple(Label(name, "#808080") for name in classes),
        ("MR",),
        intensity={"rule": "zscore"},
        segmentor={"name": "unet", "filters": [4, 4, 6, 8, 8, 8]},
        refiner={"width": 32, "stem": 2},
        defaults={"sampler": "ddim", "steps": 2, "samples": 2},
    )
    model = HiDiff.create(card, seed)
    generator = torch.Generator().manual_seed(seed)
    torch.nn.init.normal_(model.refiner.head.weight, std=spread, generator=generator)
    return model


@pytest.fixture(scope="module")
def model():
    return model_of(CLASSES)


@pytest.fixture
def one_by_one(monkeypatch):
    """Slices on their own, so that rounding does not move a pixel; batches: test_volumes.py."""
    monkeypatch.setattr(volumes, "PIXELS_AT_ONCE", 1)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    root = tmp_path_factory.mktemp("scans")
    names = ["north/1", "north/2", "south/1"]
    cases = tuple(case(root, name, seed) for seed, name in enumerate(names))
    return TwoReaders(
        name="scans",
        classes=CLASSES,
        channels=("MR",),
        colors=palette(len(CLASSES)),
        licence="none",
        attribution="drawn",
        splits={"train": (), "val": (), "test": cases},
        intensity={"rule": "zscore"},
        reader=read_nifti,
    )


def by_slice(model, sample, start=None, sampler=None, seed=0):
    """Mask and prior of a volume, one slice after another, with the model's own methods."""
    planes = model.intensity(sample.image)
    masks = []
    for index, plane in enumerate(planes):
        prior = model.prior(plane, normalised=True) if start is None else start[:, index]
        masks.append(model.refine(plane, prior, None, sampler, seed=seed, normalised=True).mask)
    return np.stack(masks)


def test_every_arm_is_scored_as_a_volume_in_mm(model, scans, one_by_one):
    options = Options((3, 4), also=("one-step",), damage=True, second_observer=True, tolerance=2.0)
    result = evaluate(model, scans, scans.split("test")[1:2], options)
    assert result.arms == (PRIOR, REFINED, "one-step", DAMAGED, REPAIRED, SECOND)
    row = result.images[0]
    assert (row.id, row.unit) == ("north/2", "mm")
    sample = scans.load(scans.split("test")[1])
    assert sample.spacing == SPACING
    planes = model.intensity(sample.image)
    prior = np.stack([model.prior(plane, normalised=True) for plane in planes], 1)
    damaged = np.stack([damage(prior[:, i], seed=i) for i in range(len(planes))], 1)
    expected = {
        PRIOR: [prior.argmax(0)],
        REFINED: [by_slice(model, sample, seed=seed) for seed in (3, 4)],
        "one-step": [by_slice(model, sample, sampler="one-step")],
        DAMAGED: [damaged.argmax(0)],
        REPAIRED: [by_slice(model, sample, damaged, seed=seed) for seed in (3, 4)],
        SECOND: [scans.load_second(sample)],
    }
    assert not np.array_equal(*expected[REFINED])
    for arm, masks in expected.items():
        rows = [score(mask, sample.mask, 4, SPACING, tolerance=2.0) for mask in masks]
        for metric in METRICS:
            wanted = np.mean([scores.mean[metric] for scores in rows])
            assert row.arms[arm].mean[metric] == pytest.approx(wanted, abs=1e-12), (arm, metric)
            shell = np.mean([scores.per_class[1][metric] for scores in rows])
            assert row.arms[arm].per_class["shell"][metric] == pytest.approx(shell, abs=1e-12)
    flat = score(expected[PRIOR][0], sample.mask, 4)  # pixels and mm tell apart
    assert row.arms[PRIOR].mean["hd95"] != pytest.approx(flat.mean["hd95"], abs=0.1)


def test_the_seed_of_a_volume_decides(model, scans):
    subject = PreparedSample.of(scans.load(scans.split("test")[0]), model)
    arms = arms_of(model, scans, Options((5,)))
    first, again = (next(arms[REFINED](subject)) for _ in range(2))
    assert np.array_equal(first, again)
    assert first.shape == SHAPE
    other = next(arms_of(model, scans, Options((6,)))[REFINED](subject))
    assert not np.array_equal(first, other)


def test_regions_are_reported_and_their_mean_is_the_score(model, scans, one_by_one):
    scans = replace(scans, regions=REGIONS)
    cases = scans.split("test")
    result = evaluate(model, scans, cases, Options((0,), "one-step"))
    content = report(result, scans, "test", model, "m", "c")
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    names = [*CLASSES[1:], *REGIONS]
    assert list(content["per_class"]) == names
    for done, image in enumerate(content["images"]):
        assert set(image) == {"id", PRIOR, REFINED, "per_class"}
        assert list(image["per_class"]) == names
        sample = scans.load(cases[done])
        mask = by_slice(model, sample, sampler="one-step")
        union = score(np.isin(mask, (2, 3)) * 1, np.isin(sample.mask, (2, 3)) * 1, 2, SPACING)
        inner = image["per_class"]["inner"][REFINED]
        assert inner == pytest.approx(union.per_class[1], abs=2e-6)
        for metric in set(METRICS) - {"accuracy"}:
            parts = [image["per_class"][name][REFINED][metric] for name in REGIONS]
            assert image[REFINED][metric] == pytest.approx(np.mean(parts), abs=2e-6)
    for name in names:
        values = [image["per_class"][name][PRIOR]["nsd"] for image in content["images"]]
        mean = content["per_class"][name][PRIOR]["nsd"]
        assert mean == pytest.approx(np.mean(values), abs=2e-6)
    assert content["surface"] == {"unit": "mm", "tolerance": 1.0}


def test_sets_are_summarised(model, scans):
    content = report(
        evaluate(model, scans, scans.split("test"), Options((0,), "one-step")),
        scans,
        "test",
        model,
        "m",
        "c",
    )
    sets = content["by_set"]
    assert {name: part["n"] for name, part in sets.items()} == {"north": 2, "south": 1}
    for metric in METRICS:
        values = [image[REFINED][metric] for image in content["images"]]
        assert sets["north"]["mean"][REFINED][metric] == pytest.approx(
            np.mean(values[:2]), abs=2e-6
        )
        assert sets["south"]["mean"][REFINED][metric] == values[2]


def broken(scans, tmp_path):
    """The scans with the second of them cut short."""
    first, bad, last = scans.split("test")
    short = tmp_path / "short.nii.gz"
    short.write_bytes(bad.images[0].read_bytes()[:500])
    return replace(scans, splits={"test": (first, replace(bad, images=(short,)), last)})


def test_a_bad_case_ends_it_or_is_skipped_and_listed(model, scans, tmp_path):
    scans = broken(scans, tmp_path)
    cases = scans.split("test")
    with pytest.raises(InputError, match=r"short\.nii\.gz"):
        evaluate(model, scans, cases, Options((0,), "one-step"))
    result = evaluate(model, scans, cases, Options((0,), "one-step", skip_bad=True))
    content = report(result, scans, "test", model, "m", "c")
    assert [image["id"] for image in content["images"]] == ["north/1", "south/1"]
    assert content["n"] == 2
    assert [case["id"] for case in content["skipped"]] == ["north/2"]
    assert "short.nii.gz" in content["skipped"][0]["why"]
    with pytest.raises(InputError, match=r"none of the 1 cases can be used; .*short\.nii\.gz"):
        evaluate(model, scans, cases[1:2], Options((0,), "one-step", skip_bad=True))


def test_cases_without_spacing_are_in_pixels_and_a_mixture_is_noted(model, scans):
    first, second = (scans.load(one) for one in scans.split("test")[:2])
    arms = {PRIOR: arms_of(model, scans, Options())[PRIOR]}
    arms[REFINED] = arms[PRIOR]
    rows = []
    for sample in (first, replace(second, spacing=None)):
        rows.append(score_case(PreparedSample.of(sample, model), scans, arms, 2.5))
    mixed = report(Evaluation(rows, (0,), {}, 2.5), scans, "test", model, "m", "c")
    assert mixed["surface"] == {"unit": "mm or pixels", "tolerance": 2.5}
    assert "1 images have no spacing" in mixed["notes"][0]
    alone = report(Evaluation(rows[1:], (0,), {}, 2.5), scans, "test", model, "m", "c")
    assert alone["surface"]["unit"] == "pixels"
    assert alone["notes"] == []
    prior = PreparedSample.of(second, model).prior.argmax(0)
    wanted = score(prior, second.mask, 4, None, None, 2.5).mean
    assert rows[1].arms[PRIOR].mean == pytest.approx(wanted)


def shown(content):
    stream = io.StringIO()
    print_report(content, Console(file=stream, width=110))
    return stream.getvalue()


def test_the_tables_show_classes_regions_sets_and_skipped_cases(model, scans, tmp_path):
    scans = replace(broken(scans, tmp_path), regions=REGIONS)
    options = Options((0,), "one-step", also=("ddim",), damage=True, tolerance=2.0, skip_bad=True)
    result = evaluate(model, scans, scans.split("test"), options)
    content = report(result, scans, "test", model, "m", "c")
    text = shown(content)
    names = (*CLASSES[1:], *REGIONS, "north (n = 1)", "south (n = 1)")
    for part in (*names, "hd95 in mm; nsd at 2 mm", "skipped north/2", "short.nii.gz"):
        assert part in text
    inner = next(line for line in text.splitlines() if "inner" in line)
    for metric in METRICS:
        assert f"{content['per_class']['inner'][PRIOR][metric]:.4f}" in inner
    assert f"{content['images'][0][REPAIRED]['dice']:.4f}" in text
    many = content | {"images": content["images"] * MOST_ROWS}
    assert "north/1" not in shown(many)


def test_every_arm_starts_from_another_source_of_priors(scans, tmp_path):
    """The second observer's masks, as a folder of other software's, in place of the segmentor."""
    model = model_of(CLASSES, spread=0)  # its refiner returns its prior
    cases = scans.split("test")[:2]
    for one in cases:
        file = tmp_path / f"{one.id}.nii.gz"
        file.parent.mkdir(exist_ok=True)
        shutil.copy(one.second, file)
    source = open_prior_source(tmp_path, model.card)
    options = Options((0,), "one-step", damage=True, second_observer=True)
    result = evaluate(model, scans, cases, options, source=source)
    for row in result.images:
        second = row.arms[SECOND]
        assert row.arms[PRIOR].mean == second.mean
        assert row.arms[REFINED].per_class == second.per_class
        assert row.arms[DAMAGED].mean == row.arms[REPAIRED].mean
        assert row.arms[DAMAGED].mean["dice"] < second.mean["dice"]
    with pytest.raises(InputError, match="south/1: no mask"):
        evaluate(model, scans, scans.split("test"), options, source=source)


def test_real_volumes(real_data):
    """Two volumes of the hippocampus: 1 mm voxels, prior and refined masks of real sizes."""
    dataset = open_dataset("msd", real_data("Task04_Hippocampus"))
    model = model_of(dataset.classes)
    cases = dataset.split("test")[:2]
    result = evaluate(model, dataset, cases, Options((0,), also=("one-step",)))
    content = report(result, dataset, "test", model, "m", "c")
    assert content["surface"] == {"unit": "mm", "tolerance": 1.0}
    assert list(content["per_class"]) == list(dataset.classes[1:])
    for image, one in zip(content["images"], cases, strict=True):
        sample = dataset.load(one)
        assert sample.volume
        prior = volumes.prior(model, volumes.normalise(model, sample.image))
        wanted = score(prior.argmax(0), sample.mask, 3, sample.spacing).mean
        assert image[PRIOR] == pytest.approx(wanted, abs=1e-3)
        assert image["one-step"] != image[PRIOR]
    perfect = {PRIOR: lambda subject: iter([subject.sample.mask])}
    sample: Sample = dataset.load(cases[0])
    best = score_case(PreparedSample.of(sample, model), dataset, perfect).arms[PRIOR].mean
    assert best == {"dice": 1, "iou": 1, "recall": 1, "accuracy": 1, "hd95": 0, "nsd": 1}
