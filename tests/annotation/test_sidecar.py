"""The file that keeps strokes: what is in it, what is not, and what happens when it breaks."""

import json
from pathlib import Path

import numpy as np
import pytest

from napari_hidiff.annotation import sidecar
from napari_hidiff.annotation.annotation import Annotation
from napari_hidiff.annotation.journal import SliceRecord
from napari_hidiff.errors import InputError
from napari_hidiff.io.storage import SESSIONS
from napari_hidiff.masks import FREE

SHAPE = (3, 40, 50)
INDEX = (1, -1, -1)


@pytest.fixture
def kept() -> dict[tuple[int, ...], SliceRecord]:
    fixed = np.full(SHAPE[1:], FREE, np.int32)
    fixed[3:9, 10:30] = 1
    fixed[0, 0] = fixed[-1, -1] = 0
    accepted = np.random.default_rng(0).integers(0, 2, SHAPE[1:]).astype(np.uint8)
    return {INDEX: SliceRecord(fixed, accepted), (-1, 2, -1): SliceRecord(fixed[:3], None)}


def test_what_is_saved_comes_back(tmp_path: Path, kept: dict[tuple[int, ...], SliceRecord]) -> None:
    path = tmp_path / "deep" / "a.npz"
    sidecar.save(path, SHAPE, kept, [{"action": "run", "seed": 3}])
    found = sidecar.load(path)
    assert found is not None
    assert found.shape == SHAPE
    assert found.log == [{"action": "run", "seed": 3}]
    assert found.slices.keys() == kept.keys()
    np.testing.assert_array_equal(found.slices[INDEX].fixed, kept[INDEX].fixed)
    np.testing.assert_array_equal(found.slices[INDEX].accepted, kept[INDEX].accepted)
    assert found.slices[-1, 2, -1].accepted is None
    assert found.accepted == 1
    assert found.strokes == 122 + 1
    assert list(path.parent.iterdir()) == [path]  # no part of a file is left behind


def test_there_may_be_none(tmp_path: Path) -> None:
    assert sidecar.load(tmp_path / "none.npz") is None
    assert sidecar.set_aside(tmp_path / "none.npz") is None


def test_it_is_small(tmp_path: Path) -> None:
    """A page of strokes on a large image takes kilobytes."""
    fixed = np.full((2000, 2000), FREE, np.int32)
    for row in range(100, 1900, 100):
        fixed[row : row + 9, 200:1800] = 1
    sidecar.save(tmp_path / "a.npz", fixed.shape, {(-1, -1): SliceRecord(fixed, None)}, [])
    assert (tmp_path / "a.npz").stat().st_size < 20_000


@pytest.mark.parametrize("content", [b"", b"no archive", "truncated", "another format"])
def test_a_broken_file_is_one_line_and_is_left_alone(
    tmp_path: Path, kept: dict[tuple[int, ...], SliceRecord], content: bytes | str
) -> None:
    path = tmp_path / "a.npz"
    sidecar.save(path, SHAPE, kept, [])
    if content == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    elif content == "another format":
        np.savez(path, about=np.frombuffer(b'{"format": 99}', np.uint8))
    else:
        path.write_bytes(bytes(content))
    before = path.read_bytes()
    with pytest.raises(InputError, match="cannot be read") as error:
        sidecar.load(path)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == before


def test_a_failed_save_leaves_the_old_file(
    tmp_path: Path,
    kept: dict[tuple[int, ...], SliceRecord],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "a.npz"
    sidecar.save(path, SHAPE, kept, [])
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        sidecar.save(path, SHAPE, {}, [])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_setting_aside_never_replaces_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for number in range(3):
        path.write_text(str(number))
        assert sidecar.set_aside(path) is not None
    assert sorted(other.read_text() for other in tmp_path.iterdir()) == ["0", "1", "2"]


def test_the_key_belongs_to_the_content() -> None:
    image = np.random.default_rng(0).integers(0, 255, (4, 30, 20), np.uint8)
    key = sidecar.image_key(image)
    assert len(key) == 32
    assert sidecar.image_key(np.asfortranarray(image)) == key
    other = image.copy()
    other[3, 29, 19] ^= 1
    assert sidecar.image_key(other) != key
    assert sidecar.image_key(image.astype(np.uint16)) != key
    assert sidecar.image_key(image.reshape(4, 20, 30)) != key
    assert sidecar.image_key(np.zeros((0, 3))) == sidecar.image_key(np.zeros((0, 3)))


def test_the_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(SESSIONS, str(tmp_path))
    assert sidecar.path_of("abc") == tmp_path / "abc.npz"
    monkeypatch.delenv(SESSIONS)
    assert sidecar.folder().name == "sessions"


def test_the_image_is_never_in_it(tmp_path: Path) -> None:
    mask = np.zeros((40, 50), np.uint8)
    annotation = Annotation(mask.shape)
    annotation.session((-1, -1), mask)
    mask[2:5] = 1
    annotation.changed(mask, painted=True)
    sidecar.save(tmp_path / "a.npz", mask.shape, annotation.records(), annotation.log)
    with np.load(tmp_path / "a.npz") as arrays:
        assert set(arrays) == {"about"}
        about = json.loads(arrays["about"].tobytes())
    assert set(about) == {"format", "shape", "key", "saved", "slices", "log"}
    assert [set(one) for one in about["slices"]] == [{"slice", "fixed"}]
