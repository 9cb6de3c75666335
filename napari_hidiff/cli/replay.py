"""The command ``napari-hidiff replay``: a sidecar, its image and its models in, the mask out."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_hidiff.cli.console import JsonOption, command_line, load, log, print_json, progress
from napari_hidiff.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from napari_hidiff.annotation.entries import ModelFacts
    from napari_hidiff.annotation.replay import Replay
    from napari_hidiff.annotation.sidecar import SavedSession
    from napari_hidiff.inference.model import HiDiff
    from napari_hidiff.io.registry import Reading


def replay_command(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="SIDECAR_OR_IMAGE...",
            help="The file of a session (.npz), or its image (a file or a DICOM folder); if each "
            "channel was a layer, one image per channel, in the order of the model's channels.",
        ),
    ],
    image: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="The image of the session; repeat it for each channel, in order.",
        ),
    ] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A model in the log that is not bundled; repeatable."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="MASK",
            help="Write the mask, like Save mask: .nii.gz, .nii, .tif, .png, .npz, .dcm.",
        ),
    ] = None,
    until: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Stop after entry N of the log.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Device of the models. Default: as in the log.")
    ] = None,
    json: JsonOption = False,
) -> int:
    """Repeat a session from its log: every stroke, run, undo and result, up to the same mask.

    The exit status is 0 if every result is identical, 1 if one differs (the first is named), and 2
    if the image or a model is not that of the log.

    **napari-hidiff replay fundus.png --output mask.png**

    **napari-hidiff replay 3f…a1.npz --image fundus.png --model mine.safetensors --json**

    **napari-hidiff replay flair.nii.gz t1.nii.gz t2.nii.gz --model mine.safetensors**
    """
    from napari_hidiff.annotation.replay import Replay
    from napari_hidiff.io.volume import fitting
    from napari_hidiff.io.write import check_name, write_labels

    if output is not None:
        check_name(output)
    kept, reading, layers = find(files, image or ())
    repeated = Replay(kept.log, kept.shape, reading.array, Models([*(model or ())], device), layers)
    with progress() as bar:
        task = bar.add_task("replaying", total=min(until or len(kept.log), len(kept.log)))
        repeated.run(until, lambda done: bar.update(task, completed=done))
    if output is not None:
        mask = repeated.mask
        write_labels(output, mask, repeated.classes, fitting(reading.source, mask))
    record = report(repeated, kept)
    if json:
        command = command_line("napari-hidiff")
        written = None if output is None else str(output)
        print_json({"command": command, "sidecar": str(kept.path), **record, "output": written})
    else:
        tell(record)
    return 1 if record["deviation"] else 0


class Models:
    """Finds the models of a log by their digest, among catalog models and files.

    Raises InputError for a file that is no model.
    """

    def __init__(self, files: list[Path], device: str | None) -> None:
        from napari_hidiff.inference.catalog import available_models, digest_of, find_model

        paths = [*map(find_model, files), *map(find_model, available_models())]
        self._files = {digest_of(path): path for path in reversed(paths)}
        self._device = device
        self._loaded: dict[tuple[str, str], HiDiff] = {}

    def __call__(self, entry: "ModelFacts", engine: str) -> "HiDiff":
        """See :class:`napari_hidiff.annotation.replay.Models`."""
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


def find(
    files: Sequence[Path], images: Sequence[Path] = ()
) -> "tuple[SavedSession, Reading, tuple[np.ndarray, ...]]":
    """The content of a sidecar, the image of the same key, and the layers of the channels.

    files : a sidecar, or images whose sidecar is searched. images : further images. The layers are
    all images, or none for a single image. InputError if they do not belong together or one is
    missing.
    """
    from napari_hidiff.annotation import sidecar as sidecars
    from napari_hidiff.io.npz import main_array
    from napari_hidiff.io.registry import readings

    sidecar, first = None, files[0]
    if first.suffix.lower() == ".npz" and main_array(first) is None:
        sidecar = sidecars.load(first)
        if sidecar is None:
            raise InputError(f"{first}: no such file")
        files = files[1:]
    images = [*files, *images]
    if not images:
        raise InputError(f"{first}: its image is not in it; give it with --image")
    for number, image in enumerate(images):
        for reading in readings(image):
            key = sidecars.image_key(reading.array)
            if sidecar is not None:
                kept = sidecar if key == (sidecar.key or first.stem.split(".")[0]) else None
            else:
                path = sidecars.find(key)
                kept = None if path is None else sidecars.load(path)
            if kept is not None:
                return kept, reading, _layers(images, number, reading.array)
    named = ", ".join(map(str, images))
    if sidecar is not None:
        raise InputError(f"{named}: is not the image of this log; their pixels differ")
    raise InputError(f"{named}: no session of this image is kept in {sidecars.folder()}")


def _layers(images: Sequence[Path], number: int, array: "np.ndarray") -> "tuple[np.ndarray, ...]":
    """The arrays of several images (number ``number`` is ``array``); none for a single image."""
    from napari_hidiff.io.registry import readings

    if len(images) == 1:
        return ()
    arrays = []
    for at, image in enumerate(images):
        same = (one.array for one in readings(image) if one.array.shape == array.shape)
        layer = array if at == number else next(same, None)
        if layer is None:
            raise InputError(f"{image}: is not of the size of {images[number]}, {array.shape}")
        arrays.append(layer)
    return tuple(arrays)


def report(repeated: "Replay", kept: "SavedSession") -> dict[str, Any]:
    """The result of a replay, for JSON.

    entries, done : numbers of entries in the log, and of repeated ones. strokes, runs, seconds : of
    the original session (seconds with the image open, over all sessions). unknown : entries of
    other versions. deviation : the first entry that came out differently, or None; entry 0 means
    that the saved slices differ. digests : of every slice.
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


def differing(repeated: "Replay", kept: "SavedSession") -> list[list[int]]:
    """The slices whose strokes or accepted masks differ from the sidecar."""
    import numpy as np

    replayed = repeated.annotation.records()
    return [
        list(index)
        for index in sorted({*replayed, *kept.slices})
        if index not in replayed
        or index not in kept.slices
        or not np.array_equal(replayed[index].fixed, kept.slices[index].fixed)
        or not same(replayed[index].accepted, kept.slices[index].accepted)
    ]


def same(first: "np.ndarray | None", second: "np.ndarray | None") -> bool:
    """Whether two masks are equal, or both None."""
    if first is None or second is None:
        return first is second
    return bool((first == second).all())


def tell(record: dict[str, Any]) -> None:
    """Print the result of a replay for people."""
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
