"""Is a step slower in napari's worker thread than in the main thread?

    python -m benchmarks.worker_thread [--model NAME] [--size 256] [--rounds 5] [--json]

The same step (one forward of the refiner, one sample) is timed in the main thread, in a thread of
napari's pool while the window's event loop runs, and in a bare thread. The rounds take turns, so
that whatever else the machine does meets all three alike; the median is reported. It needs a
display (on Linux also Xvfb: ``xvfb-run -a python -m benchmarks.worker_thread``).
"""

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import napari
import numpy as np
import torch
from napari.qt.threading import create_worker
from qtpy.QtCore import QEventLoop

import napari_hidiff
from napari_hidiff.inference.card import Card
from napari_hidiff.inference.model import HiDiff
from napari_hidiff.masks import Label

PLACES = ("main thread", "napari worker", "bare thread")


def a_model(name: str | None) -> HiDiff:
    """The named model, else the first bundled one, else an untrained one of the default size."""
    names = [name] if name else napari_hidiff.available_models()
    if names:
        return napari_hidiff.load_model(names[0], device="cpu")
    classes = (Label("background", "#000000"), Label("foreground", "#ff4040"))
    return HiDiff.create(Card("untrained", classes, ("red", "green", "blue")))


def steps_of_a_run(model: HiDiff, size: int) -> tuple[list[float], int]:
    """Seconds of every step after the first, and the threads torch uses where this is called."""
    image = np.random.default_rng(0).integers(0, 255, (size, size, 3), np.uint8)
    image = image[..., : len(model.card.channels)]
    run = model.steps(image, sampler="ddim", steps=4, samples=1)
    next(run)  # the first step also segments
    seconds = []
    start = time.perf_counter()
    for _ in run:
        seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
    return seconds, torch.get_num_threads()


def in_worker(call: Callable[[], Any]) -> Any:
    """Call something in napari's pool while Qt's event loop runs, asleep as in a real program."""
    answers: list[Any] = []
    loop = QEventLoop()
    create_worker(call, _connect={"returned": answers.append, "finished": loop.quit})
    loop.exec()
    return answers[0]


def in_thread(call: Callable[[], Any]) -> Any:
    """Call something in a thread of its own."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()
    thread.join()
    return answers[0]


def measure(model: HiDiff, size: int, rounds: int) -> dict[str, Any]:
    """Median seconds of a step and torch's threads in every place, and the ratios to main."""
    places: dict[str, Callable[[Callable[[], Any]], Any]] = dict(
        zip(PLACES, (lambda call: call(), in_worker, in_thread), strict=True)
    )
    seconds: dict[str, list[float]] = {place: [] for place in PLACES}
    threads: dict[str, int] = {}
    for number in range(rounds + 1):
        for place, carry_out in places.items():
            taken, threads[place] = carry_out(lambda: steps_of_a_run(model, size))
            if number:  # the first round warms up
                seconds[place] += taken
    median = {place: statistics.median(taken) for place, taken in seconds.items()}
    return {
        "seconds_per_step": median,
        "ratio_to_main": {place: median[place] / median["main thread"] for place in PLACES},
        "torch_threads": threads,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.worker_thread", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--model", help="a bundled model or a file; default: the first bundled one")
    parser.add_argument("--size", type=int, default=256, help="side of the image in pixels")
    parser.add_argument("--rounds", type=int, default=5, help="runs of three steps in each place")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    model = a_model(options.model)
    viewer = napari.Viewer()
    found = measure(model, options.size, options.rounds)
    viewer.close()
    report = {
        "command": f"python -m benchmarks.worker_thread {' '.join(sys.argv[1:])}".strip(),
        "model": model.card.name,
        "size": options.size,
        "rounds": options.rounds,
        "versions": {
            "napari": napari.__version__,
            "torch": torch.__version__,
            "napari_hidiff": napari_hidiff._version.__version__,
        },
        **found,
    }
    if options.json:
        print(json.dumps(report))
        return
    for place in PLACES:
        step, ratio = found["seconds_per_step"][place], found["ratio_to_main"][place]
        used = found["torch_threads"][place]
        print(f"{place:14} {1000 * step:8.1f} ms per step  x{ratio:.2f}  torch threads: {used}")


if __name__ == "__main__":
    main()
