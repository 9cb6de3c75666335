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


def polyp(seed: int, height: int = 40, width: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """A drawn polyp: image uint8 ``[H, W, 3]``, polyp bool ``[H, W]``."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    centre = rng.uniform(0.35, 0.65, 2) * (height, width)
    mask = np.hypot(rows - centre[0], columns - centre[1]) <= 0.2 * min(height, width)
    shade = 120 + 60 * mask[..., None] + rng.normal(0, 6, (height, width, 3))
    return (shade * [1, 0.6, 0.5]).clip(0, 255).astype(np.uint8), mask


def write_kvasir(root: Path, count: int = 20, lists: bool = True) -> Path:
    """Kvasir-SEG: jpg images of several sizes, masks as RGB jpg; the authors' lists beside them."""
    names = [f"cju{number:03}" for number in range(count)]
    for name in ("images", "masks", *(("splits",) if lists else ())):
        (root / name).mkdir(parents=True)
    for number, name in enumerate(names):
        image, mask = polyp(number, 40 + number % 3, 48 + number % 5)
        Image.fromarray(image).save(root / "images" / f"{name}.jpg")
        grey = Image.fromarray((mask * 255).astype(np.uint8)).convert("RGB")
        grey.save(root / "masks" / f"{name}.jpg", quality=60)
    (root / "kavsir_bboxes.json").write_text("{}", encoding="utf-8")
    if lists:
        test = names[: count // 5]
        train = names[::-1][: count - len(test)]
        (root / "splits" / "train.txt").write_text("\n".join(train) + "\n", encoding="utf-8")
        (root / "splits" / "val.txt").write_text("\n".join(test) + "\n", encoding="utf-8")
    return root


def write_cvc(root: Path, frames: range = range(1, 613), suffix: str = ".tif") -> Path:
    """CVC-ClinicDB: numbered frames, masks with stray greys."""
    for name in ("Original", "Ground Truth"):
        (root / name).mkdir(parents=True)
    for frame in frames:
        image, mask = polyp(frame)
        grey = np.where(mask, 255, 0).astype(np.uint8)
        grey[0, :2] = 100, 200  # 100 is no polyp, 200 is
        Image.fromarray(image).save(root / "Original" / f"{frame}{suffix}")
        Image.fromarray(grey).save(root / "Ground Truth" / f"{frame}{suffix}")
    return root


POLYP_TESTS = {
    "CVC-300": ["149", "150"],
    "CVC-ClinicDB": ["1", "150"],
    "CVC-ColonDB": ["1"],
    "ETIS-LaribPolypDB": ["1", "150"],
    "Kvasir": ["cju0", "cju1"],
}
POLYP_TRAIN = [*(str(frame) for frame in range(2, 60, 3)), *(f"cju{i}" for i in range(2, 12))]


def write_polyp(root: Path, plural: bool = True) -> Path:
    """PraNet's benchmark: png; the training set's folders in either spelling."""
    ending = "s" if plural else ""
    sets = {root / "TrainDataset": (ending, POLYP_TRAIN)}
    sets |= {root / "TestDataset" / name: ("s", ids) for name, ids in POLYP_TESTS.items()}
    for folder, (end, names) in sets.items():
        (folder / f"image{end}").mkdir(parents=True)
        (folder / f"mask{end}").mkdir()
        for number, name in enumerate(names):
            image, mask = polyp(number)
            Image.fromarray(image).save(folder / f"image{end}" / f"{name}.png")
            grey = Image.fromarray((mask * 255).astype(np.uint8))
            grey.save(folder / f"mask{end}" / f"{name}.png")
    return root


def write_collection(root: Path) -> Path:
    """Two sets of two pictures each, with a bright square in every one."""
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        for part in ("images", "masks"):
            (root / name / part).mkdir(parents=True, exist_ok=True)
        for number in range(2):
            labels = np.zeros((48, 60), np.uint8)
            labels[10:30, 12 : 36 + 4 * number] = 1
            image = (rng.integers(0, 40, labels.shape) + 150 * labels).astype(np.uint8)
            Image.fromarray(image).save(root / name / "images" / f"{number}.png")
            Image.fromarray(labels).save(root / name / "masks" / f"{number}.png")
    return root
