"""Training of a universal refiner: crops, loss, clock, and a whole run of a few updates."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from universal_runs import SIDE, recipe, training_of

from napari_hidiff.errors import InputError
from napari_hidiff.inference.catalog import load_model
from napari_hidiff.training.checkpoint import load_checkpoint
from napari_hidiff.training.datasets import open_dataset
from napari_hidiff.training.datasets.collection import held_out
from napari_hidiff.training.progress import Stopped, Watch
from napari_hidiff.training.universal import crops, learn, run
from napari_hidiff.training.universal.pictures import read_pictures
from napari_hidiff.training.universal.run import Clock, train
from napari_hidiff.training.universal.validation import Batched, OneByOne, curves_of, targets


def test_image_and_labels_of_a_crop_lie_on_each_other(root, draws):
    cases = open_dataset("collection", root).splits["train"]
    pictures = read_pictures(cases, SIDE)
    which = torch.arange(len(cases)).repeat(8)
    where = crops.places(pictures.sizes[which], 48, draws)
    assert where.shape == (len(which), 48, 48, 2)
    assert where.min() >= 0.5
    assert (where <= (pictures.sizes[which] - 0.5)[:, None, None]).all()
    image = crops._sampled(pictures.images, which, where)[:, 0]
    labels = crops._nearest(pictures.labels, which, where)
    # Only pixels between an object and its ground may differ.
    assert ((image > 100) == (labels > 0)).float().mean() > 0.95


def test_targets_are_labels_unions_or_superpixels(root, draws, tmp_path):
    cases = open_dataset("collection", root).splits["train"]
    pictures = read_pictures(cases, SIDE, tmp_path)
    drawn = crops.draw(pictures, pictures.chances(), 64, 48, draws)
    assert drawn.image.shape == (64, 3, 48, 48)
    assert drawn.target.flatten(1).any(1).all()
    assert not (drawn.target & drawn.others).any()
    torch.testing.assert_close(drawn.image.mean((2, 3)), torch.zeros(64, 3), atol=1e-4, rtol=0)
    alone = ~drawn.others.flatten(1).any(1)
    assert 0 < alone.float().mean() < 1


def test_the_loss_is_that_of_the_answer_and_of_the_nearest_hypothesis():
    target = torch.zeros(2, 8, 8, dtype=torch.bool)
    target[:, :4] = True
    right = torch.where(target, 9.0, -9.0)
    logits = torch.stack([right, -right, right, -right], 1)  # of the hypotheses one is right
    every = torch.tensor([True, True])
    wrong = learn.prompted_loss(-right[:, None], target, every)
    found = learn.prompted_loss(logits, target, every)
    assert found < 0.1 * wrong + learn.OTHERS * wrong
    assert learn.prompted_loss(logits, target, ~every) == pytest.approx(
        float(learn.prompted_loss(logits[:, :1], target, every))
    )


def test_first_prompts_lie_on_the_truth(root, draws, tmp_path):
    cases = open_dataset("collection", root).splits["train"]
    pictures = read_pictures(cases, SIDE, tmp_path)
    made = training_of(root, tmp_path / "run")
    autocast, coins = made.accelerator.autocast, torch.Generator().manual_seed(1)
    annotator = learn.Annotator(made.averaged, made.process, 2, autocast, draws, coins)
    for _ in range(4):
        batch = crops.draw(pictures, pictures.chances(), 16, 48, draws)
        prior, fixed = annotator.prompts(batch)
        edited = fixed >= 0
        assert torch.equal(fixed[edited], batch.target.long()[edited])
        # Who knows nothing has at least a stroke inside the object.
        even = (prior == 0.5).flatten(1).all(1)
        assert (fixed == 1).flatten(1).any(1)[even].all()


def test_the_clock_counts_minutes_from_its_start_or_updates(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    clock = Clock(iterations=10, minutes=2, before=30)
    now[0] += 50
    assert clock.seconds == 30  # compiling takes nothing
    clock.start()
    now[0] += 30
    assert (clock.seconds, clock.part) == (60, 0.5)
    now[0] += 90
    assert clock.part == 1
    assert clock.rate() == pytest.approx(0.01)
    counted = Clock(iterations=10, minutes=0, update=5)
    assert counted.part == 0.5
    rates = [Clock(iterations=100, minutes=0, update=i).rate() for i in range(101)]
    assert max(rates) == pytest.approx(1, abs=0.01)
    assert rates[-1] < rates[50] < rates[3]


def test_a_run_ends_in_a_model_that_answers(root, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "monai"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "monai", None)  # a bare machine with a GPU may lack it
    dataset = held_out(open_dataset("collection", root), ["two"])
    path = train(recipe(hold_out="two"), dataset, tmp_path / "run", device="cpu")
    model = load_model(path, "cpu", "torch")
    assert (model.card.prompted, model.card.hypotheses, model.card.longest_side) == (True, 3, SIDE)
    assert model.card.training["updates"] == 4
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert [(row["set"], row["strokes"], row["n"]) for row in report["validation"]] == [
        ("two", "disc", 2)
    ]
    assert len(report["validation"][0]["dice"]) == 10
    assert report["validation"] == model.card.training["validation"]
    export = load_model(tmp_path / "run" / "model-export.safetensors", "cpu", "torch")
    image = np.zeros((40, 40, 3), np.uint8)
    image[10:20, 10:20] = 200
    fixed = np.full((40, 40), -1)
    fixed[12:16, 12:16] = 1
    masks = [one.refine(image, fixed=fixed).mask for one in (model, export)]
    assert np.array_equal(*masks)
    assert (masks[0][12:16, 12:16] == 1).all()


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(root, tmp_path, monkeypatch):
    """Whoever reads the pictures and thinks up strokes: processes, or the run itself."""
    dataset = open_dataset("collection", root)
    cache = tmp_path / "cache"
    with monkeypatch.context() as patch:
        patch.setattr(run, "WORTH", 1)
        train(recipe(), dataset, tmp_path / "whole", device="cpu", cache=cache)
    halted = _StoppedAfter(tmp_path / "parts", 2)
    with pytest.raises(Stopped):
        train(recipe(), dataset, tmp_path / "parts", device="cpu", cache=cache, watch=halted)
    train(recipe(), dataset, tmp_path / "parts", device="cpu", resume=True, cache=cache)
    one, other = (load_checkpoint(tmp_path / name / "last.pt") for name in ("whole", "parts"))
    assert one["update"] == other["update"] == 4
    for name, value in one["learner"]["average"].items():
        assert torch.equal(value, other["learner"]["average"][name]), name
    reports = (
        json.loads((tmp_path / name / "report.json").read_text()) for name in ("whole", "parts")
    )
    one, other = (report["validation"] for report in reports)
    assert one == other


def test_both_ways_of_asking_give_the_same_scores(root, tmp_path):
    pictures = read_pictures(open_dataset("collection", root).splits["train"], SIDE)
    model = load_model(_trained(root, tmp_path), "cpu", "torch")
    objects = [target for i in range(2) for target in targets(pictures, i)]
    assert len(objects) == 4
    one, other = (curves_of(ask(model), objects, 3, "disc") for ask in (Batched, OneByOne))
    assert one.shape == (4, 3)
    # They pad differently, which an untrained network of signs carries into the picture.
    np.testing.assert_allclose(one, other, atol=0.15)
    assert (one[:, -1] > 0).all()


def test_what_a_universal_refiner_cannot_do_is_refused(root, tmp_path):
    with pytest.raises(InputError, match="take bad pairs out"):
        train(recipe(), open_dataset("collection", root), tmp_path / "a", skip_bad=True)


def test_it_trains_without_what_a_bare_machine_lacks():
    """Readers of medical formats, MONAI and napari are not needed."""
    code = (
        "import sys\n"
        "for name in ('nibabel', 'pydicom', 'pint', 'nrrd', 'imagecodecs', 'napari', 'monai'):\n"
        "    sys.modules[name] = None\n"
        "import napari_hidiff.training.cli, napari_hidiff.training.universal.run\n"
        "import napari_hidiff.training.datasets.collection\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


class _StoppedAfter(Watch):
    """A watch that asks to stop once so many updates were made."""

    def __init__(self, folder: Path, updates: int) -> None:
        super().__init__(folder, shown=False)
        self.left = updates

    @property
    def stopping(self) -> bool:
        self.left -= 1
        return self.left <= 0

    @stopping.setter
    def stopping(self, value: bool) -> None:
        pass


def _trained(root, folder):
    made = training_of(root, folder)
    folder.mkdir(exist_ok=True)
    return made.finish(None)
