"""Arrays in, arrays that a model understands out: by numbers and by NumPy."""

import numpy as np
import pytest
from scipy import ndimage

from napari_hidiff.errors import InputError
from napari_hidiff.inference.preprocessing import (
    SMALLEST,
    Intensity,
    check_image,
    check_labels,
    parse_intensity,
    soften,
)

RGB = ("red", "green", "blue")


def test_an_image_comes_back_as_float32_with_the_model_s_channels():
    grey = np.arange(16 * 17).reshape(16, 17)
    for dtype in (bool, np.uint16, np.int32, np.float64):
        checked = check_image(grey.astype(dtype), ("gray",))
        assert checked.dtype == np.float32
        np.testing.assert_array_equal(checked, grey.astype(dtype)[..., None])
    colour = np.arange(16 * 17 * 4).reshape(16, 17, 4)
    np.testing.assert_array_equal(check_image(colour, RGB), colour[..., :3])
    np.testing.assert_array_equal(check_image(colour, (*RGB, "infrared")), colour)
    np.testing.assert_array_equal(check_image(colour[..., :3], RGB), colour[..., :3])


@pytest.mark.parametrize(
    ("image", "channels", "message"),
    [
        (np.zeros((16, 15)), ("gray",), r"16 x 15 pixels; at least 16 x 16 are"),
        (np.zeros((15, 16, 3)), RGB, r"15 x 16 pixels; at least 16 x 16 are"),
        (np.zeros((20, 20, 1, 1)), ("gray",), r"2 dimensions, or 3 .*, not \(20, 20, 1, 1\)"),
        (np.zeros(20), ("gray",), r"2 dimensions, or 3 .*, not \(20,\)"),
        (np.zeros((20, 20, 4)), ("gray",), r"4 channels, the model was trained on 1 \(gray\)"),
        (np.zeros((20, 20)), RGB, r"1 channel, the model was trained on 3 \(red, green, blue\)"),
        (np.zeros((20, 20, 3)), RGB[:2], r"3 channels, the model .* on 2 \(red, green\)"),
        (np.zeros((20, 20, 4), complex), RGB, "holds numbers, not complex128"),
    ],
)
def test_an_image_that_does_not_fit_is_named(image, channels, message):
    assert SMALLEST == 16
    with pytest.raises(InputError, match=message):
        check_image(image, channels)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_pixel_without_a_value_is_enough(bad):
    image = np.zeros((16, 16, 3))
    image[15, 15, 2] = bad
    with pytest.raises(InputError, match="NaN or infinite"):
        check_image(image, RGB)


def test_a_window_needs_its_ends_in_order():
    for low, high in ((1.0, 0.0), (40.0, 40.0), (np.nan, 1.0), (0.0, np.nan)):
        with pytest.raises(ValueError, match=f"low < high, not {low:g} and {high:g}"):
            Intensity("window", low, high)
    Intensity("zscore", 1.0, 0.0)  # ends that nobody reads
    with pytest.raises(ValueError, match="one of standardize, zscore, window, not 'minmax'"):
        Intensity("minmax")


def test_a_window_becomes_minus_one_to_one_and_the_rest_is_clipped():
    values = np.array([[-2000, -160, -110, 40, 240, 3000]])[..., None]
    scaled = Intensity("window", -160, 240)(values.astype(np.int16))
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled.ravel(), [-1, -1, -0.75, 0, 1, 1], atol=1e-6)
    np.testing.assert_array_equal(Intensity("window").measure([values], 1), [[0], [0]])
    default = Intensity("window")(np.array([[-1.0], [0.25], [2.0]]))
    np.testing.assert_allclose(default.ravel(), [-1, -0.5, 1])


@pytest.mark.parametrize("rule", ["standardize", "zscore"])
def test_every_channel_gets_mean_0_and_deviation_1(rule):
    rng = np.random.default_rng(0)
    image = rng.normal([300, -50], [40, 3], (20, 30, 2)).round()
    image[rng.random((20, 30)) < 0.3] = 0
    image[3, 4] = [0, 7]  # 0 in one channel alone
    scaled = Intensity(rule)(image)
    assert scaled.dtype == np.float32
    for channel in range(2):
        values = image[..., channel]
        inside = values != 0 if rule == "zscore" else np.full(values.shape, True)
        expected = (values - values[inside].mean()) / values[inside].std()
        np.testing.assert_allclose(
            scaled[..., channel], np.where(inside, expected, 0), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("rule", ["standardize", "zscore"])
def test_constant_and_empty_channels_become_0(rule):
    image = np.zeros((4, 5, 2))
    image[..., 1] = 7
    np.testing.assert_array_equal(Intensity(rule)(image), np.zeros((4, 5, 2)))
    expected = [[0, 7], [0, 0]]
    np.testing.assert_array_equal(Intensity(rule).measure([image], 2), expected)


def test_parts_count_together_and_a_slice_is_scaled_by_them():
    volume = np.random.default_rng(1).normal(5, 2, (3, 6, 7, 1))
    rule = Intensity()
    measured = rule.measure(volume, 1)
    np.testing.assert_allclose(measured.ravel(), [volume.mean(), volume.std()], rtol=1e-6)
    np.testing.assert_array_equal(rule.scale(volume[1], measured), rule(volume)[1])


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("standardize", {"rule": "standardize"}),
        ("zscore", {"rule": "zscore"}),
        ("window:-160:240.5", {"rule": "window", "low": -160.0, "high": 240.5}),
    ],
)
def test_a_rule_is_read_from_its_text(text, values):
    assert parse_intensity(text) == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("window", "standardize, zscore or window:LOW:HIGH, not 'window'"),
        ("window:1", "window:LOW:HIGH, not 'window:1'"),
        ("window:1:2:3", "window:LOW:HIGH, not 'window:1:2:3'"),
        ("window:a:b", "window:LOW:HIGH, not 'window:a:b'"),
        ("zscore:1:2", "window:LOW:HIGH, not 'zscore:1:2'"),
        ("zscore:", "window:LOW:HIGH, not 'zscore:'"),
        ("window:2:1", "low < high, not 2 and 1"),
        ("minmax", "not 'minmax'"),
    ],
)
def test_a_wrong_rule_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        parse_intensity(text)


def test_labels_of_masks_and_fixed_maps():
    given = np.array([[0, 2], [1, 0]], np.uint8)
    checked = check_labels(given, (2, 2), 3, "prior mask")
    assert checked.dtype == np.int64
    np.testing.assert_array_equal(checked, given)
    free = np.array([[-1, 2], [1, 0]], np.int16)
    np.testing.assert_array_equal(check_labels(free, (2, 2), 3, "fixed map"), free)
    assert check_labels(np.ones((2, 2), bool), (2, 2), 2, "mask").tolist() == [[1, 1], [1, 1]]
    for mask, what, message in (
        (given, "mask", r"mask holds label 2; the model knows 0\.\.1"),
        (free, "mask", "holds label -1; "),
        (free - 1, "fixed map", "holds label -2; "),
        (given[:1], "mask", r"mask has shape \(1, 2\), the image \(2, 2\)"),
        (given / 2, "mask", "holds whole numbers, not float64"),
    ):
        with pytest.raises(InputError, match=message):
            check_labels(mask, (2, 2), 2, what)


@pytest.mark.parametrize("classes", [1, 2, 3])
@pytest.mark.parametrize("sigma", [0, 1.5])
def test_a_soft_mask_is_half_blurred_and_half_sharp(classes, sigma):
    labels, sure = max(2, classes), 0.8
    mask = np.random.default_rng(2).integers(0, labels, (15, 18))
    soft = soften(mask, classes, sigma, sure)
    assert soft.dtype == np.float32
    assert soft.shape == (classes, 15, 18)
    for channel, label in enumerate(range(labels)[-classes:]):
        sharp = (mask == label).astype(float)
        blurred = ndimage.gaussian_filter(sharp, sigma, mode="nearest")
        # 1 becomes ``sure``, what is left goes to the others in equal parts, 0 among them.
        expected = (1 - sure) / (labels - 1) + (sharp + blurred) / 2 * (
            sure - (1 - sure) / (labels - 1)
        )
        np.testing.assert_allclose(soft[channel], expected, atol=1e-6)
