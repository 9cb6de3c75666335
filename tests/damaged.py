"""Files of every format, damaged in every way, through the readers that users' files go through.

``python tests/damaged.py --seed 7 --files 50000`` prints what came out as JSON: how many files
gave a result and how many one line, and every file that did anything else. A file comes back from
its format, seed and number: ``--only dicom --first 812 --files 1 --keep FOLDER``.
"""

import argparse
import json
import logging
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from whole_files import BESIDE, FORMATS

from napari_hidiff.errors import InputError
from napari_hidiff.io import registry
from napari_hidiff.io.images import read_fixed, read_image, read_labels, read_mask
from napari_hidiff.io.registry import readings

SECONDS = 10
"""Within which every file has to be dealt with, however slow the machine is."""

MEMORY = 4 << 30
"""Bytes of address space: a file that asks for more is found out, and does no harm."""

FIELDS = (
    *(b"\0", b"\xff", b"\0\0", b"\xff\xff", b"\xff\x7f", b"\0\x80", b"\0\0\0\0", b"\xff" * 4),
    *(b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\0\0\xc0\x7f", b"\xff" * 8, b"\0" * 8),
    *(b"nan ", b"inf ", b"1,25", b"-1", b"0", b"1e99", b"1\\2\\", b"text", b"\\", b"\n\n", b"'"),
    *(b"SQ", b"OB", b"UN", b"LO", b"FD", b"US", b"DS", b"\x1b[31m", b"{", b"(", b"[]"),
)
"""What is written over parts of a header: ends of ranges, numbers that are none, other types."""


def damaged(content, dice):
    """The bytes of a file after one to four changes of one kind each, and the kinds."""
    data, kinds = bytearray(content), []
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        kind = dice.choice(("bits", "run", "cut", "insert", "field", "field", "swap", "double"))
        kinds.append(kind)
        near = min(len(data), dice.choice((64, 400, 1200, len(data))))  # headers matter most
        at = dice.randrange(near) if near else 0
        length = min(dice.choice((1, 2, 4, 16, 100)), len(data) - at)
        if kind == "bits":
            for _ in range(dice.choice((1, 1, 3, 20))):
                place = dice.randrange(near) if near else 0
                byte = data[place : place + 1]
                data[place : place + 1] = bytes(value ^ 1 << dice.randrange(8) for value in byte)
        elif kind == "run":
            data[at : at + length] = dice.choice((b"\0", b"\xff", dice.randbytes(1))) * length
        elif kind == "cut":
            if dice.random() < 0.5:
                del data[at:]
            else:
                del data[at : at + length]
        elif kind == "insert":
            data[at:at] = dice.choice((dice.randbytes(length), b"\0" * length))
        elif kind == "field":
            value = dice.choice(FIELDS)
            data[at : at + len(value)] = value
        elif kind == "swap":
            other = dice.randrange(len(data)) if data else 0
            one, two = data[at : at + length], data[other : other + length]
            data[at : at + len(two)], data[other : other + len(one)] = two, one
        else:
            data[at:at] = data[at : at + length]
    return bytes(data), kinds


def whole_volume(path):
    volume = registry.read(path)
    assert volume.array.ndim in (3, 4)
    assert volume.array.size > 0
    assert volume.array.dtype.kind in "buif"
    assert volume.array.dtype.isnative
    assert len(volume.spacing) == 3
    assert all(size > 0 for size in volume.spacing), volume.spacing
    assert np.isfinite(volume.affine).all(), volume.affine
    assert np.isfinite(volume.spacing).all(), volume.spacing
    registry.as_layer(volume)
    json.dumps(volume.source.to_dict())
    if registry.is_mask(volume):
        registry.labels(volume)


READERS = {
    "read": whole_volume,
    "readings": lambda path: [reading.array.shape for reading in readings(path)],
    "image": read_image,
    "mask": read_mask,
    "labels": lambda path: read_labels(path, 2),
    "fixed": read_fixed,
    "png mask": registry.read_png_mask,
}


def readers_of(suffix):
    """The readers that a file of this suffix may come to."""
    few = (".nii", ".nii.gz", ".dcm", ".npz", ".nrrd", ".npy")
    return list(READERS.items())[: 2 if suffix in few else 7 if suffix == ".png" else 6]


class Hangs(BaseException):
    """A reader takes too long; nothing that handles exceptions may take it for one."""


def outcome(reader, path):
    """``result`` or ``line``; else what went wrong."""

    def stop(*_):
        raise Hangs

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        reader(path)
        return "result"
    except InputError as error:
        line = str(error)
        if isinstance(error.__cause__, MemoryError):
            return f"asks for memory that no such file needs: {line[:300]}"
        if not line.isprintable() or len(line) > 1000:
            return f"no line to print: {line[:300]!r}"
        named = str(path) in line or str(path.parent) in line
        return "line" if named else f"does not name the file: {line[:300]}"
    except Hangs:
        return f"takes more than {SECONDS} s: {traceback.format_exc()[-500:]}"
    except BaseException as error:
        where = "".join(traceback.format_tb(error.__traceback__)[-2:])
        return f"{type(error).__name__}: {str(error)[:200]} {where}"
    finally:
        signal.alarm(0)


def most_memory():
    """The most memory that this process has had, in MB; getrusage begins with the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def campaign(seed, files, only=(), first=0, folder=None):
    """Damage ``files`` files, each format its part, and read them; the figures."""
    formats = {name: FORMATS[name] for name in only or FORMATS}
    counts, wrong, slowest = Counter(), [], (0.0, "")
    wholes = {name: make() for name, (_, make) in formats.items()}
    share = -(-files // len(formats))
    before = most_memory()
    with tempfile.TemporaryDirectory() as own:
        base = Path(folder or own)
        for name, (suffix, _) in formats.items():
            place = base / name.replace(" ", "_")
            place.mkdir(parents=True, exist_ok=True)
            path = place / f"case{suffix}"
            if name in BESIDE:
                beside, make = BESIDE[name]
                (place / beside).write_bytes(make())
            for number in range(first, first + share):
                dice = random.Random(f"{seed} {name} {number}")
                content, kinds = damaged(dice.choice(wholes[name]), dice)
                path.write_bytes(content)
                counts[name] += 1
                for reader, call in readers_of(suffix):
                    start = time.perf_counter()
                    found = outcome(call, path)
                    slowest = max(slowest, (time.perf_counter() - start, f"{name} {number}"))
                    counts[found if found in ("result", "line") else "wrong"] += 1
                    if found not in ("result", "line"):
                        wrong.append([name, number, reader, kinds, found])
    grown = most_memory() - before
    return {
        "seed": seed,
        "files": sum(counts[name] for name in formats),
        "counts": dict(counts),
        "slowest": slowest,
        "grown_mb": grown,
        "wrong": wrong,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=14)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", action="append", choices=list(FORMATS))
    parser.add_argument("--keep", help="a folder for the files, which stay there")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    start = time.process_time()
    found = campaign(given.seed, given.files, given.only or (), given.first, given.keep)
    found["cpu_seconds"] = time.process_time() - start
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
