"""The command ``napari-hidiff replay``: a sidecar, its image and its models in, the mask out."""

import shlex
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_hidiff.console import JsonOption, load, log, print_json, progress
from napari_hidiff.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from napari_hidiff.model import HiDiff
    from napari_hidiff.replay import Replay
    from napari_hidiff.sidecar import Kept


def replay_command(
    sidecar: Annotated[
        Path,
        typer.Argument(
            metavar="SIDECAR_OR_IMAGE",
            help="The file that keeps a session (.npz), or the image, whose file is then found.",
        ),
    ],
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The image that the session was about.")
    ] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A model of the log that is not bundled; repeatable."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="MASK", help="Write the mask: png or tif, tif for a stack."),
    ] = None,
    until: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Stop after entry N of the log.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Device of the models. Default: the one in the log.")
    ] = None,
    json: JsonOption = False,
) -> int:
    """Repeat a session from its log: every stroke, run, undo and result, up to the same mask.

    The exit status is 0 if every entry came out as it did, 1 if one did not (it is named), and 2
    if the image or a model is not the one of the log.

    **napari-hidiff replay fundus.png --output mask.png**

    **napari-hidiff replay 3f…a1.npz --image fundus.png --model mine.safetensors --json**
    """
    from napari_hidiff.replay import Replay

    kept, pixels = find(sidecar, image)
    models = Models([*(model or ())], device)
    repeated = Replay(kept.log, kept.shape, pixels, models)
    with progress() as bar:
        task = bar.add_task("replaying", total=min(until or len(kept.log), len(kept.log)))
        repeated.run(until, lambda done: bar.update(task, completed=done))
    if output is not None:
        write(output, repeated.mask)
    record = report(repeated, kept)
    if json:
        command = shlex.join(["napari-hidiff", *sys.argv[1:]])
        written = None if output is None else str(output)
        print_json({"command": command, "sidecar": str(kept.path), **record, "output": written})
    else:
        tell(record)
    return 1 if record["deviation"] else 0


class Models:
    """The models that a log names: those known by name and files, recognised by their digest.

    Raises InputError for a file that is no model.
    """

    def __init__(self, files: list[Path], device: str | None) -> None:
        from napari_hidiff.loading import available_models, digest_of, find_model

        found = [*map(find_model, files), *map(find_model, available_models())]
        self._files = {digest_of(path): path for path in reversed(found)}
        self._device = device
        self._loaded: dict[tuple[str, str], HiDiff] = {}

    def __call__(self, entry: dict[str, Any], engine: str) -> "HiDiff":
        """As :class:`napari_hidiff.replay.Models` has it; no engine = any."""
        path = self._files.get(entry.get("digest", ""))
        if path is None:
            raise InputError(
                f"the log's model is {entry.get('model')!r} in a file like "
                f"{entry.get('file') or 'none'} (digest {entry.get('digest') or 'unknown'}): "
                "give that file with --model; none of the files at hand is the same"
            )
        device = self._device or entry["device"]
        if engine == "" and (known := [m for (p, _), m in self._loaded.items() if p == str(path)]):
            return known[0]
        if (str(path), engine) not in self._loaded:
            self._loaded[str(path), engine] = load(str(path), device, engine or "torch")
        return self._loaded[str(path), engine]


def find(sidecar: Path, image: Path | None) -> "tuple[Kept, np.ndarray]":
    """What a sidecar holds and the image of the same key.

    sidecar : a sidecar, or an image whose sidecar is looked for. InputError where the two do not
    belong together or one is missing.
    """
    from napari_hidiff import sidecar as sidecars

    if sidecar.suffix.lower() != ".npz":
        image = image or sidecar
        for pixels in readings(image):
            path = sidecars.find(sidecars.image_key(pixels))
            kept = None if path is None else sidecars.load(path)
            if kept is not None:
                return kept, pixels
        raise InputError(f"{image}: no session of this image is kept in {sidecars.folder()}")
    kept = sidecars.load(sidecar)
    if kept is None:
        raise InputError(f"{sidecar}: no such file")
    if image is None:
        raise InputError(f"{sidecar}: its image is not in it; give it with --image")
    for pixels in readings(image):
        if sidecars.image_key(pixels) == (kept.key or sidecar.stem.split(".")[0]):
            return kept, pixels
    raise InputError(f"{image}: is not the image of this log; their pixels differ")


def readings(path: Path) -> "Iterator[np.ndarray]":
    """The pixels of a file, in each way that napari may have shown them.

    Raises
    ------
    InputError : the file cannot be read.
    """
    import numpy as np
    import tifffile

    from napari_hidiff import io, nifti

    if nifti.is_nifti(path):
        yield nifti.read_volume(path).array
        return
    if path.suffix.lower() == ".npy":
        try:
            yield np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{path}: cannot be read ({error})") from error
        return
    if path.suffix.lower() in io.TIFF and path.is_file():
        try:
            yield tifffile.imread(path)
        except Exception as error:  # damaged bytes raise many kinds
            raise InputError(f"{path}: cannot be read as TIFF ({error})") from error
        return
    yield io.read_image(path)


def write(path: Path, mask: "np.ndarray") -> None:
    """Write a mask uint8 of two axes or more; InputError where that is not possible."""
    import tifffile

    from napari_hidiff import io

    if mask.ndim == 2:
        io.write_mask(path, mask)
        return
    if path.suffix.lower() not in io.TIFF:
        raise InputError(f"{path}: a mask of {mask.ndim} axes is written as .tif")
    part = path.with_name(f".{path.name}.part")
    try:
        tifffile.imwrite(part, mask, photometric="minisblack", compression="zlib")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written ({error})") from error


def report(repeated: "Replay", kept: "Kept") -> dict[str, Any]:
    """What came out, JSON-able.

    entries, done : of the log, and how many were repeated. strokes, runs, seconds : of the session
    as it was (seconds with the image open, of all sessions together). unknown : entries that this
    version does not know. deviation : the first entry that came out differently, or None; with
    entry 0 it is the kept slices that differ. digests : of every slice.
    """
    log = repeated.log[: repeated.done]
    whole = repeated.done == len(repeated.log)
    astray = None if repeated.deviation is None else asdict(repeated.deviation)
    if astray is None and whole and (differ := differing(repeated, kept)):
        reason = f"strokes or accepted masks differ in slices {differ}"
        astray = {"entry": 0, "action": "", "reason": reason}
    ends = [
        one["at"]
        for one, then in zip(log, [*log[1:], {"action": "open"}], strict=True)
        if then["action"] in ("open", "restore") and "at" in one
    ]
    sessions = repeated.annotation.sessions
    return {
        "shape": list(repeated.shape),
        "entries": len(repeated.log),
        "done": repeated.done,
        "strokes": sum(entry["action"] == "stroke" for entry in log),
        "runs": sum(entry["action"] == "run" for entry in log),
        "seconds": round(sum(ends), 2),
        "unknown": [{"entry": number, "action": action} for number, action in repeated.unknown],
        "deviation": astray,
        "digests": {str(list(index)): s.timeline.digest for index, s in sessions.items()},
    }


def differing(repeated: "Replay", kept: "Kept") -> list[list[int]]:
    """The slices whose strokes or accepted masks are not those of the sidecar."""
    import numpy as np

    found = repeated.annotation.records()
    return [
        list(index)
        for index in sorted({*found, *kept.slices})
        if index not in found
        or index not in kept.slices
        or not np.array_equal(found[index].fixed, kept.slices[index].fixed)
        or not same(found[index].accepted, kept.slices[index].accepted)
    ]


def same(one: "np.ndarray | None", other: "np.ndarray | None") -> bool:
    """Whether two masks are equal, or both are none."""
    if one is None or other is None:
        return one is other
    return bool((one == other).all())


def tell(record: dict[str, Any]) -> None:
    """Say what came out, for people."""
    for one in record["unknown"]:
        log(f"entry {one['entry']}: this version does not know {one['action']!r}; left out")
    astray = record["deviation"]
    if astray is not None and astray["entry"]:
        log(f"the first deviation: entry {astray['entry']}, {astray['action']}, {astray['reason']}")
    elif astray is not None:
        log(f"the repetition differs from what is kept: {astray['reason']}")
    print(
        f"{record['done']} of {record['entries']} entries repeated ({record['strokes']} strokes, "
        f"{record['runs']} runs, {record['seconds']:.0f} s of work)"
        + ("" if astray else ": every mask is the same")
    )
