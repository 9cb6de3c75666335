"""Write small data sets in exactly the layouts in which their owners distribute them.

The pictures are drawn, not real: a bright disc (the retina) with dark branching lines (vessels).
They are small, so that every loader and command runs on them in a moment.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

HEIGHT, WIDTH = 60, 64


def fundus(seed: int, height: int = HEIGHT, width: int = WIDTH) -> tuple[np.ndarray, ...]:
    """A drawn fundus: image uint8 ``[H, W, 3]``, vessels and retina bool ``[H, W]``."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    retina = np.hypot(rows - height / 2, columns - width / 2) <= 0.47 * min(height, width)
    vessels = np.zeros((height, width), bool)
    for angle in rng.uniform(0, 2 * np.pi, 5):
        row, column, heading = height / 2, width / 2, angle
        for _ in range(max(height, width)):
            heading += rng.normal(0, 0.15)
            row, column = row + 0.5 * np.sin(heading), column + 0.5 * np.cos(heading)
            if 0 <= row < height and 0 <= column < width:
                vessels[int(row), int(column)] = True
    vessels = ndimage.binary_dilation(vessels) & retina
    shade = 170 - 90 * ndimage.gaussian_filter(vessels.astype(float), 0.5)
    shade = np.where(retina, shade + rng.normal(0, 4, retina.shape), 5)
    image = np.stack([shade, 0.6 * shade, 0.3 * shade], axis=-1)
    return image.clip(0, 255).astype(np.uint8), vessels, retina


def second_opinion(mask: np.ndarray, seed: int) -> np.ndarray:
    """The same mask as another observer might draw it: shifted a little, bool ``[H, W]``."""
    return np.roll(mask, np.random.default_rng(seed).integers(-1, 2, 2), axis=(0, 1))


def write_chase(root: Path, children: int = 14, height: int = HEIGHT, width: int = WIDTH) -> Path:
    """CHASE_DB1: one flat folder, jpg images, 1-bit png masks of two observers."""
    root.mkdir(parents=True)
    for child in range(1, children + 1):
        for eye in "LR":
            seed = 2 * child + (eye == "R")
            image, vessels, _ = fundus(seed, height, width)
            Image.fromarray(image).save(root / f"Image_{child:02}{eye}.jpg", quality=95)
            Image.fromarray(vessels).save(root / f"Image_{child:02}{eye}_1stHO.png")
            other = Image.fromarray(second_opinion(vessels, seed))
            other.save(root / f"Image_{child:02}{eye}_2ndHO.png")
    return root


def write_drive(root: Path, numbers: range = range(1, 41), test_truth: bool = True) -> Path:
    """DRIVE: LZW tif images, gif masks; the first observer {0, 255}, the second {0, 1}.

    Without ``test_truth`` the test part has no manual segmentation, as in the current download.
    """
    for number in numbers:
        part = "training" if number > 20 else "test"
        image, vessels, retina = fundus(number)
        other = second_opinion(vessels, number)
        gifs = {f"mask/{number:02}_{part}_mask.gif": retina * 255}
        if part == "training" or test_truth:
            gifs[f"1st_manual/{number:02}_manual1.gif"] = vessels * 255
        if part == "test" and test_truth:
            gifs[f"2nd_manual/{number:02}_manual2.gif"] = other * 1
        (root / part / "images").mkdir(parents=True, exist_ok=True)
        tif = root / part / "images" / f"{number:02}_{part}.tif"
        Image.fromarray(image).save(tif, compression="tiff_lzw")
        for name, values in gifs.items():
            _save_gif(root / part / name, values)
    return root


def write_folder(
    root: Path,
    count: int = 8,
    labels: int = 2,
    suffix: str = ".png",
    masks: str = "masks",
    classes: str | None = None,
) -> Path:
    """A user's own folder: masks {0, 255} for two labels, else 0..labels-1; grey disc images."""
    for name in ("images", masks):
        (root / name).mkdir(parents=True)
    for number in range(count):
        image, vessels, retina = fundus(number)
        mask = vessels * 255 if labels == 2 else retina * 1 + vessels * (labels - 2)
        Image.fromarray(image).save(root / "images" / f"case{number:02}{suffix}")
        Image.fromarray(mask.astype(np.uint8)).save(root / masks / f"case{number:02}.png")
    if classes is not None:
        (root / "classes.txt").write_text(classes, encoding="utf-8")
    return root


def _save_gif(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path, optimize=False)  # else 255 is stored as 1
