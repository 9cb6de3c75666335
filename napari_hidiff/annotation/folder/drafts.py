"""Drafts: first masks for the images of a queue that nobody has looked at yet.

:func:`draft` is what a model that finds by itself makes of an image, and how useful it is to look
at it. :class:`Drafting` is a process of low priority and one thread that makes the drafts of many
images, one file each (:func:`write`), written atomically. It ends after the slices at hand when its
standard input ends: when :meth:`Drafting.stop` closes it, and when the parent process ends.

A draft is no mask of the user's: it lies in a folder of its own, and nothing but a queue reads it.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_hidiff.annotation.fine_tuning import THREADS
from napari_hidiff.errors import InputError, first_line, refused
from napari_hidiff.inference import catalog
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.ood import ood_reasons
from napari_hidiff.io import registry
from napari_hidiff.io.images import JPEG, read_image
from napari_hidiff.io.storage import atomic_write
from napari_hidiff.masks import entropy

if TYPE_CHECKING:
    from napari_hidiff.inference.model import HiDiff

AT_ONCE = 2**26
"""Bytes of probabilities in memory at a time."""
NICE = 10
"""How much the process gives way to others."""


class Wanted(NamedTuple):
    """An image to be drafted. mask : the file that the user's mask will have; where it is there by
    then, no draft is made. draft : the file of the draft."""

    image: Path
    mask: Path
    draft: Path


class Made(NamedTuple):
    """What became of an image, by its file's name: a draft with its benefit, by the model of this
    digest, or the reason in one line why it was left."""

    name: str
    model: str
    benefit: float = 0.0
    left: str = ""


class Stopped(Exception):
    """No draft is wanted any more."""


def finds_by_itself(card: Card) -> bool:
    """Whether a model needs no prompt, and so can make drafts."""
    return not card.needs_prompt


def draft(
    model: "HiDiff",
    array: np.ndarray,
    sides: tuple[float, float] | None = None,
    on_batch: Callable[[int], None] = lambda first: None,
    alike: bool = True,
) -> tuple[np.ndarray, float]:
    """The model's mask uint8 [D, H, W] of an image [D, H, W, C], and its benefit.

    sides : of a pixel in mm, where they are known. on_batch : called before every batch of slices.
    alike : refuse an image that does not look like those that the model was trained on.
    The benefit, of correcting this draft rather than another, is the sum of the :func:`entropy` of
    all pixels by the number of pixels found, or by 1 if nothing was found
    (``python -m benchmarks.draft_ranks``).

    Raises
    ------
    InputError : the model cannot read the image, it needs a prompt, or the image is not ``alike``.
    """
    from napari_hidiff.inference import volumes

    card, size = model.card, (array.shape[1], array.shape[2])
    if not finds_by_itself(card):
        raise InputError(f"{card.name} finds what it is pointed at, nothing by itself")
    scale = card.scale(size, sides)
    middle, windowed = model.check_image(array[len(array) // 2]), model.intensity.rule == "window"
    reasons = ood_reasons(middle, card.channels, card.looks, windowed, scale) if alike else []
    if reasons:
        raise InputError(f"unlike the images of {card.name}: {reasons[0]}")
    planes = volumes.normalise(model, array)
    mask = np.empty(array.shape[:3], np.uint8)
    unsure, pixels = 0.0, 0
    together = max(1, AT_ONCE // (4 * model.classes * size[0] * size[1]))
    how = model.sampling(scale=scale)
    for first in range(0, len(planes), together):
        here = slice(first, first + together)
        found = volumes.refine(model, planes[here], on_slice=on_batch, sampling=how)
        mask[here] = model.mask_of(found, 0)
        unsure += float(entropy(found).sum())
        pixels += int((mask[here] > 0).sum())
    return mask, unsure / max(1, pixels)


def read_pixels(path: Path) -> tuple[np.ndarray, tuple[float, float] | None, bool]:
    """An image [D, H, W, C], the sides of its pixels in mm (None = not known), and whether it is a
    picture, whose mask is [H, W]; raises InputError as the readers do."""
    if path.suffix.lower() in JPEG | {".png"}:
        picture = read_image(path)
        return picture.reshape(1, *picture.shape[:2], -1), None, True
    volume = registry.read(path)
    if registry.is_mask(volume):
        raise InputError(f"{path}: is a mask, not an image")
    layer, rgb = registry.as_layer(volume)
    flat = layer.ndim - rgb == 2
    array = volume.array if volume.array.ndim == 4 else volume.array[..., None]
    placed = volume.source.turned and volume.source.header.get("unit") != "pixel"
    return array, (volume.spacing[-2], volume.spacing[-1]) if placed else None, flat


def write(path: Path, mask: np.ndarray, made: Made) -> None:
    """Write a draft with its facts as one file, atomically; raises InputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path.parent}: cannot be made: {refused(error)}") from error
    with atomic_write(path) as (part,), part.open("wb") as file:
        np.savez_compressed(
            file, mask=mask, model=np.array(made.model), benefit=np.array(made.benefit)
        )


def read_facts(path: Path, name: str) -> Made | None:
    """The facts of a draft; None where there is none that can be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return Made(name, str(file["model"]), float(file["benefit"]))
    except Exception:  # missing, cut off, of another program: it is made anew
        return None


def make_drafts(
    model: "HiDiff",
    wanted: Sequence[Wanted],
    stop: threading.Event | None = None,
    alike: bool = True,
) -> Iterator[Made]:
    """Make the drafts of many images, one after another; ends as soon as ``stop`` is set.

    alike : as for :func:`draft`. A draft of this model that is there already is not made again.
    Raises InputError where a draft cannot be written.
    """

    def check(_: int) -> None:
        if stop is not None and stop.is_set():
            raise Stopped

    for one in wanted:
        name = one.image.name
        made = read_facts(one.draft, name)
        if made is not None and made.model == model.digest:
            yield made
            continue
        try:
            check(0)
            if one.mask.exists():
                raise InputError(f"{name} has a mask by now")
            array, sides, flat = read_pixels(one.image)
            mask, benefit = draft(model, array, sides, check, alike)
        except Stopped:
            return
        except Exception as error:  # damaged files and odd shapes raise many kinds
            yield Made(name, model.digest, left=first_line(error))
            continue
        made = Made(name, model.digest, benefit)
        write(one.draft, mask[0] if flat else mask, made)
        yield made


class Drafting:
    """The process. model : a name or a file; wanted : the images, in this order; alike : as for
    :func:`draft`.

    It runs on the CPU, with the settings on the model's card.
    """

    def __init__(self, model: str, wanted: Sequence[Wanted], alike: bool = True) -> None:
        self.total = len(wanted)
        self.problem = ""
        """Why it could not go on, one line; known once it ended and :meth:`poll` was called."""
        self._said: SimpleQueue[bytes] = SimpleQueue()
        self._rest = b""
        with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as order:
            images = [list(map(str, one)) for one in wanted]
            asked = {"model": model, "wanted": images, "alike": alike, "nice": NICE}
            json.dump(asked, order)
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, order.name],
            bufsize=0,  # a thread that waits for bytes holds no lock when the program ends
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **dict.fromkeys(THREADS, "1")},
            creationflags=getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0),
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process.poll() is None

    def poll(self) -> list[Made]:
        """What became of images since the last call; never waits."""
        if not self.running:
            self._listener.join()  # it has come to the end of what was said
            if self._process.returncode:
                self.problem = f"Drafts ended by themselves ({self._process.returncode})."
        while not self._said.empty():
            self._rest += self._said.get()
        *lines, self._rest = self._rest.split(b"\n")
        told = [json.loads(line) for line in lines]
        self.problem = next((one["problem"] for one in told if "problem" in one), self.problem)
        return [Made(**one) for one in told if "problem" not in one]

    def stop(self) -> None:
        """Let the process end soon; never waits."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        while said := self._process.stdout.read(1 << 16):
            self._said.put(said)


def _main(order: Path) -> None:
    """The process: reads its order, says in one line of JSON what became of every image."""
    stop = threading.Event()

    def listen() -> None:
        while os.read(sys.stdin.fileno(), 1):  # buffered, it would hold a lock at the end
            pass
        stop.set()

    threading.Thread(target=listen, daemon=True).start()
    asked = json.loads(order.read_text(encoding="utf-8"))
    order.unlink()
    if hasattr(os, "nice"):  # on Windows the parent process sets the priority
        os.nice(asked["nice"])
    wanted = [Wanted(*map(Path, one)) for one in asked["wanted"]]
    try:
        catalog.find_model(asked["model"])  # before much is imported
        import torch

        from napari_hidiff import load_model

        torch.set_num_threads(1)
        model = load_model(asked["model"], device="cpu")
        for made in make_drafts(model, wanted, stop, asked["alike"]):
            print(json.dumps(made._asdict()), flush=True)
    except Exception as error:  # the parent process shows it
        kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        print(json.dumps({"problem": f"No drafts: {kind}{first_line(error)}"}))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
