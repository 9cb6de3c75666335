"""Any object from its first stroke, by the universal model in a real window."""

import numpy as np

from napari_hidiff.masks import dice


def blobs() -> tuple[np.ndarray, np.ndarray]:
    """A grey picture uint8 [160, 200] with two bright discs, and the first of them."""
    rows, columns = np.mgrid[:160, :200]
    first = (rows - 70) ** 2 + (columns - 60) ** 2 < 30**2
    other = (rows - 90) ** 2 + (columns - 150) ** 2 < 22**2
    noise = np.random.default_rng(0).normal(0, 8, rows.shape)
    return (np.where(first | other, 150, 70) + noise).clip(0, 255).astype(np.uint8), first


def test_one_stroke_finds_the_object_under_it(open_hand) -> None:
    picture, disc = blobs()
    hand = open_hand(picture, "universal", stepwise=False)
    box = hand.control("after_stroke")
    hand.wait(lambda: hand.widget.fit.problem is None, "the model to fit")
    if not box.isChecked():  # a busy machine takes too long to do so by itself
        hand.click("after_stroke")
    hand.click("paint")
    hand.press(70, 50, size=13)
    hand.drag(70, 60)
    hand.release(70, 70)
    hand.idle()
    stroke = hand.fixed == 1
    assert stroke.any()
    assert dice(hand.mask.data, disc.astype(np.uint8)) > 0.85
    assert (hand.mask.data[stroke] == 1).all()


def test_without_a_stroke_it_says_what_it_needs(open_hand) -> None:
    hand = open_hand(blobs()[0], "universal", stepwise=False)
    hand.wait(lambda: hand.widget.fit.problem is None, "the model to fit")
    hand.says("Next: Paint a stroke inside the object", "next")
    hand.click("segment")
    hand.wait(lambda: "Paint a stroke inside the object first" in hand.said(), "the advice")
    assert not hand.mask.data.any()
