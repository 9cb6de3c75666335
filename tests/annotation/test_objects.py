"""Objects one by one: a label each, the others stay; a volume, slice by slice."""

import numpy as np
import pytest
from blobs import disc, picture, stroke

from napari_hidiff import load_model
from napari_hidiff.annotation import objects, refinement
from napari_hidiff.annotation.session import Session
from napari_hidiff.errors import InputError
from napari_hidiff.inference import volumes
from napari_hidiff.inference.stack import Stack
from napari_hidiff.masks import dice

SIZE = (200, 240)
DISCS = [(60, 60, 24), (60, 112, 26), (140, 90, 30)]


@pytest.fixture(scope="module")
def model():
    return load_model("universal", device="cpu", engine="packed")


def test_objects_get_a_label_each_and_leave_the_others_alone(model):
    image, labels = picture(SIZE, DISCS), np.zeros(SIZE, np.uint8)
    for number, at in enumerate(DISCS, 1):
        before = labels
        label = objects.next_label(labels)
        assert label == number
        strokes = np.where(stroke(SIZE, at) == 1, label, -1)
        labels = objects.refine_object(model, image, labels, label, strokes)
        others = (before != 0) & (before != label)
        assert np.array_equal(labels[others], before[others])
    for number, at in enumerate(DISCS, 1):
        assert dice(labels == number, disc(SIZE, at)) > 0.85


def test_strokes_stand_whatever_they_lie_on(model):
    image = picture(SIZE, DISCS)
    labels = np.where(disc(SIZE, DISCS[1]), 7, 0).astype(np.uint16)
    strokes = np.where(stroke(SIZE, DISCS[0]) == 1, 3, -1)
    strokes[60, 95:105] = 3  # over the other object
    strokes[20:24, 20:24] = 0
    strokes[140:143, 90:93] = 9
    refined = objects.refine_object(model, image, labels, 3, strokes)
    assert refined.dtype == labels.dtype
    assert np.array_equal(refined[strokes >= 0], strokes[strokes >= 0])
    elsewhere = (labels == 7) & (strokes < 0)
    assert (refined[elsewhere] == 7).all()


def test_an_object_is_refined_from_its_own_pixels(model):
    labels = np.where(disc(SIZE, (140, 92, 24)), 2, 0).astype(np.int32)
    refined = objects.refine_object(model, picture(SIZE, DISCS), labels, 2)
    truth = disc(SIZE, DISCS[2])
    assert dice(refined == 2, truth) > dice(labels == 2, truth)


def test_a_model_is_handed_what_the_user_gave_of_an_object_while_that_stands():
    session = Session(np.zeros((8, 9), np.uint8))
    mask = np.zeros((8, 9), np.uint8)
    mask[1:5, 1:5] = 1
    assert session.prompt(2) is None
    session.begin(mask, label=2)
    session.point_at(2, mask)
    assert session.prompt(2) is mask
    found = 2 * mask
    session.wrote(found, 1)
    painted = found.copy()
    painted[2, 2:4] = 0
    painted[6, 6:8] = 2
    session.timeline.painted(painted)
    assert session.prompt(2) is mask
    session.timeline.travel(-2)
    assert session.prompt(2) is None, "undone with its answer"
    session.timeline.travel(1)
    assert session.prompt(2) is mask
    session.begin(None, label=1)
    assert session.prompt(2) is mask, "the other object's"
    assert session.prompt(1) is None

    again = Session(painted)  # as a session that was kept comes back
    np.testing.assert_array_equal(again.prompt(2), painted == 2)
    again.timeline.painted(np.where(painted == 0, 3, painted))
    assert again.prompt(3) is None, "strokes are worth more than what is there"


def test_what_cannot_be_an_object_is_refused(model, tiny_model):
    image, labels = picture(SIZE, DISCS), np.zeros(SIZE, np.uint8)
    full = np.full(SIZE, 255, np.uint8)
    with pytest.raises(InputError, match="finds its own classes"):
        objects.refine_object(tiny_model, image, labels, 1)
    with pytest.raises(InputError, match=r"a label in 1\.\.255, not 256"):
        objects.refine_object(model, image, labels, 256)
    with pytest.raises(InputError, match="whole numbers"):
        objects.refine_object(model, image, labels.astype(float), 1)
    with pytest.raises(InputError, match="strokes have shape"):
        objects.refine_object(model, image, labels, 1, np.zeros((3, 3), int))
    with pytest.raises(InputError, match="Paint a stroke inside the object first"):
        objects.refine_object(model, image, labels, 1)
    with pytest.raises(InputError, match="end at 255"):
        objects.next_label(full)
    assert objects.next_label(labels, np.array([[4, -1]])) == 5


def drifting(depth):
    """A tube that moves and grows: volume uint8 [D, H, W] and truth bool [D, H, W]."""
    places = [(90 + 3 * z, 80 + 4 * z, 22 + z) for z in range(depth)]
    return (
        np.stack([picture(SIZE, [at], seed=z) for z, at in enumerate(places)]),
        np.stack([disc(SIZE, at) for at in places]),
    )


def test_a_mask_is_carried_through_a_volume(model):
    volume, truth = drifting(6)
    stack, empty = Stack([volume]), np.zeros(SIZE, np.uint8)
    swept = refinement.propagate(
        model,
        stack,
        refinement.slices_along((0, -1, -1), 0, 1, 5),
        empty,
        truth[0].astype(np.uint8),
        lambda index: empty,
        {},
        model.sampling(),
    )
    found = {result.at[0]: result.mask for result in swept}
    assert sorted(found) == [1, 2, 3, 4, 5]
    for z, mask in found.items():
        assert dice(mask, truth[z]) > dice(truth[0], truth[z]) + 0.04, "better than left as it was"


def test_a_volume_is_refined_where_something_points_at_the_object(model):
    volume, truth = drifting(3)
    fixed = np.full(volume.shape, -1)
    fixed[1] = stroke(SIZE, (93, 84, 23))
    planes = volumes.normalise(model, volume[..., None])
    found = volumes.refine(model, planes, fixed=fixed)
    assert found.shape == (1, *volume.shape)
    assert not found[0, [0, 2]].any()
    assert dice(found[0, 1] >= 0.5, truth[1]) > 0.6
    with pytest.raises(InputError, match="no slice has a stroke"):
        volumes.refine(model, planes)
