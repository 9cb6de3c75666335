"""The mask of every slice is kept, whoever made it; and what a slice can do after that."""

from pathlib import Path

import numpy as np

from napari_hidiff.annotation import sidecar
from napari_hidiff.annotation.annotation import Annotation
from napari_hidiff.annotation.refinement import SliceChange, starting_masks
from napari_hidiff.annotation.session import Session
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.ood import fitting, image_statistics
from napari_hidiff.masks import Label, typical_half_width

SHAPE = (3, 12, 16)
INDEX = (1, -1, -1)


def made_by_a_model() -> tuple[Annotation, np.ndarray]:
    """Slice 1 written by a model, then a stroke of the user."""
    mask = np.zeros(SHAPE, np.uint8)
    annotation = Annotation(SHAPE)
    annotation.session(INDEX, mask[1])
    mask[1, 2:8, 3:9] = 1
    annotation.wrote(INDEX, mask, what="prior")
    mask[1, 9, 2:6] = 2
    annotation.changed(mask, painted=True)
    return annotation, mask


def test_a_models_mask_comes_back_and_is_nobodys_stroke(tmp_path: Path) -> None:
    annotation, mask = made_by_a_model()
    assert annotation.kept() == [INDEX]
    sidecar.save(tmp_path / "a.npz", SHAPE, annotation.records(), [])
    found = sidecar.load(tmp_path / "a.npz")
    assert found is not None
    assert (found.masks, found.accepted, found.strokes) == (1, 0, 4)
    again, restored = Annotation(SHAPE), np.zeros(SHAPE, np.uint8)
    again.restore(found.slices, restored)
    np.testing.assert_array_equal(restored, mask)
    session = again.sessions[INDEX]
    assert session.timeline.fixed_count == 4
    assert session.begun, "it can be refined again"
    assert session.prior is None


def test_strokes_alone_take_no_place_for_a_mask() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    annotation = Annotation(SHAPE)
    annotation.session(INDEX, mask[1])
    mask[1, 9, 2:6] = 2
    annotation.changed(mask, painted=True)
    (record,) = annotation.records().values()
    assert record.mask is None
    annotation.sessions[INDEX].accept()
    (record,) = annotation.records().values()
    assert record.mask is None, "the accepted mask says it all"


def test_done_is_a_matter_of_the_mask_as_it_is() -> None:
    annotation, mask = made_by_a_model()
    session = annotation.sessions[INDEX]
    assert not session.done
    session.accept()
    assert session.done
    mask[1, 0, 0] = 1
    annotation.changed(mask, painted=True)
    assert not session.done
    session.accept()
    session.withdraw()
    assert (session.done, session.accepted) == (False, None)


def test_a_change_is_undone_but_for_strokes_since() -> None:
    session = Session(np.zeros((4, 5), np.uint8))
    after = np.zeros((4, 5), np.uint8)
    after[1:3] = 1
    change = SliceChange.between(session.timeline.content, after)
    session.timeline.wrote(after)
    painted = after.copy()
    painted[1, 0] = 0
    session.timeline.painted(painted)
    undone = change.undone(session)
    assert undone is not None
    assert not undone.any()
    other = painted.copy()
    other[2, 4] = 0
    session.timeline.wrote(other)
    assert change.undone(session) is None, "another result came since"


def test_slices_start_from_what_they_were_begun_with() -> None:
    labels = np.ones(SHAPE, np.uint8)
    mine, own = Session(np.zeros(SHAPE[1:], np.uint8)), Session(np.zeros(SHAPE[1:], np.uint8))
    mine.begin(np.full(SHAPE[1:], 2, np.uint8))
    own.begin(None)
    where = [(at, -1, -1) for at in range(3)]
    given = starting_masks({where[0]: mine, where[1]: own}, where, labels)
    assert set(given) == {where[0], where[2]}, "the second starts from the segmentor"
    assert given[where[0]].max() == 2
    assert given[where[2]].max() == 1


def test_another_model_goes_on_from_a_mask_that_it_knows() -> None:
    session = Session(np.full((3, 3), 2, np.uint8))
    session.begin(None)
    session.change_model(labels=3)
    assert session.begun
    session.change_model(labels=2)
    assert not session.begun, "it does not know label 2"


def test_half_the_width_of_what_is_there() -> None:
    mask = np.zeros((40, 60), np.uint8)
    assert typical_half_width(mask) is None
    mask[10:13, 5:55] = 1  # a vessel, three pixels wide
    assert typical_half_width(mask) == 2
    mask[:] = 0
    mask[5:35, 5:55] = 1
    assert typical_half_width(mask) == 15


def test_the_model_whose_images_are_most_alike_comes_first() -> None:
    random = np.random.default_rng(0)
    dark = random.gamma(1.0, 1.0, (64, 64, 1))
    bright = 20 - random.gamma(1.0, 1.0, (64, 64, 1))
    labels = (Label("background", "#000000"), Label("spot", "#ff0000"))

    def trained_on(image: np.ndarray) -> Card:
        return Card("model", labels, ("grey",), looks=image_statistics([image], ("grey",)))

    seen = random.gamma(1.0, 1.0, (64, 64))
    cards = {"none said": Card("model", labels, ("grey",)), "bright": trained_on(bright)}
    cards["dark"] = trained_on(dark)
    found = fitting({name: (card, seen) for name, card in cards.items()})
    assert found == ["dark", "none said"], "an exchange of dark and bright is no fit"
