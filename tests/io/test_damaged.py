"""Damaged files end in a result or in one line that names them; see :mod:`damaged`."""

import io
import json
import random
import subprocess
import sys
import zipfile

import nibabel
import numpy as np
import pytest
import tifffile
from damaged import READERS, campaign, damaged, outcome
from paths import TESTS
from whole_files import FORMATS, dicom, nifti, npy, npz, pillow, tiff

from napari_hidiff.errors import InputError
from napari_hidiff.io import registry
from napari_hidiff.io import tiff as tiff_files
from napari_hidiff.io.images import read_image
from napari_hidiff.io.npz import main_array
from napari_hidiff.io.registry import readings

SEED = 14


@pytest.mark.slow
def test_thousands_of_damaged_files_of_every_format():
    command = [sys.executable, str(TESTS / "damaged.py")]
    command += ["--seed", str(SEED), "--files", "2600"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    wrong = found.pop("wrong")
    print(found)
    assert wrong == []
    assert found["files"] >= 2500
    assert found["counts"]["result"] > 500  # damage does not always matter
    assert found["counts"]["line"] > 2500
    assert found["grown_mb"] < 300


def test_some_damaged_files_of_every_format(tmp_path):
    found = campaign(SEED, 6 * len(FORMATS), folder=tmp_path)
    assert found["wrong"] == []


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_damaged_was_whole_and_can_be_damaged_again(tmp_path, name):
    suffix, make = FORMATS[name]
    for whole in make():
        path = tmp_path / f"case{suffix}"
        path.write_bytes(whole)
        assert "result" in {outcome(call, path) for call in READERS.values()}
        one, other = (damaged(whole, random.Random(f"{SEED} {name}")) for _ in range(2))
        assert one == other


def claims(content, old, new):
    assert content.count(old) == 1
    return content.replace(old, new)


def huge_nifti():
    content = bytearray(nifti())
    content[40:56] = np.array([3, 30000, 30000, 9, 1, 1, 1, 1], "<i2").tobytes()
    return bytes(content)


def huge_tiff():
    content = tiff(np.zeros((12, 14), np.uint8), metadata=None)
    length = np.array([257, 4], "<u2").tobytes() + b"\1\0\0\0"  # ImageLength
    return claims(content, length + b"\x0c\0\0\0", length + b"\xff\xff\xff\x7f")


def huge_strip():
    content = tiff(np.zeros((12, 14), np.uint8), metadata=None, compression="zlib")
    at = content.index(np.array([279], "<u2").tobytes())  # StripByteCounts
    field = content[at : at + 12]
    assert field[2:8] in (b"\4\0\1\0\0\0", b"\3\0\1\0\0\0")
    return claims(content, field, field[:2] + b"\4\0\1\0\0\0" + b"\xf0\xff\xff\xff")


def huge_archive():
    """A whole archive of an array whose header says more than follows."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)}
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("image.npy", head.getvalue() + bytes(100))
    return out.getvalue()


def huge_bmp():
    content = pillow(np.zeros((12, 14), np.uint8), "BMP")
    return content[:18] + np.array([30000, 30000], "<i4").tobytes() + content[26:]


def empty_strips():
    content = tiff(np.zeros((12, 14), np.uint8), metadata=None)
    length = np.array([257, 4], "<u2").tobytes() + b"\1\0\0\0"
    content = claims(content, length + b"\x0c\0\0\0", length + b"\0\0\x30\0")
    at = content.index(np.array([278], "<u2").tobytes())  # RowsPerStrip
    return content[: at + 8] + b"\1\0\0\0" + content[at + 12 :]


def long_element():
    content = dicom()
    at = content.index(b"\xe0\x7f\x10\x00OW")  # the pixels, of which little follows
    return content[: at + 8] + b"\xf0\xff\xff\xff" + content[at + 12 : at + 50]


HUGE = {
    "a.nii": huge_nifti,
    "a.tif": huge_tiff,
    "strip.tif": huge_strip,
    "strips.tif": empty_strips,
    "a.dcm": long_element,
    "a.npz": huge_archive,
    "a.npy": lambda: claims(npy(), b"(5, 12, 14), }        ", b"(50000, 90000, 1400), }"),
    "a.bmp": huge_bmp,
}


@pytest.mark.parametrize("name", HUGE)
def test_no_memory_is_taken_for_what_a_file_cannot_hold(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(HUGE[name]())
    ways = {".bmp": [read_image], ".npy": []}.get(path.suffix, [registry.read])
    for way in (*ways, lambda path: list(readings(path))):
        with pytest.raises(InputError) as caught:
            way(path)
        assert not isinstance(caught.value.__cause__, MemoryError)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("before", [0, 120])
def test_tiff_pages_in_a_circle_are_refused(tmp_path, before):
    """tifffile sees a circle that its hundredth page belongs to, and goes round others for ever."""
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for _ in range(before + 2):
            file.write(np.zeros((4, 4), np.uint8), metadata=None, contiguous=False)
    with tifffile.TiffFile(path) as file:
        last, back = file.pages[-1].offset, file.pages[before].offset
    content = bytearray(path.read_bytes())
    end = last + 2 + 12 * int.from_bytes(content[last : last + 2], "little")
    assert content[end : end + 4] == bytes(4)
    content[end : end + 4] = back.to_bytes(4, "little")
    path.write_bytes(content)
    assert not tiff_files.is_stack(path)
    assert tiff_files.read_source(path) is None
    for way in (registry.read, read_image, lambda path: list(readings(path))):
        with pytest.raises(InputError, match=r"a\.tif: .* in a circle"):
            way(path)


@pytest.mark.parametrize("bits", [1, 2, 4, 16])
def test_a_palette_for_pixels_of_other_bits(tmp_path, bits):
    path, table = tmp_path / "a.tif", np.zeros((3, 256), np.uint16)
    picture = np.full((12, 14), 200, np.uint8)
    tifffile.imwrite(path, picture, photometric="palette", colormap=table, metadata=None)
    assert read_image(path).shape == (12, 14, 3)
    field = np.array([258, 3, 1, 0, 8], "<u2").tobytes()  # BitsPerSample
    path.write_bytes(claims(path.read_bytes(), field, field[:8] + bytes([bits, 0])))
    for reader, way in READERS.items():
        assert outcome(way, path) in ("result", "line"), reader


def test_a_palette_without_three_columns(tmp_path):
    path, table = tmp_path / "a.tif", np.zeros((3, 256), np.uint16)
    tifffile.imwrite(path, np.zeros((12, 14), np.uint8), photometric="palette", colormap=table)
    field = np.array([320, 3, 768, 0], "<u2").tobytes()  # ColorMap
    path.write_bytes(claims(path.read_bytes(), field, field[:4] + b"\x0a\0\0\0"))
    for reader in ("image", "mask", "labels", "fixed"):
        assert outcome(READERS[reader], path) == "line", reader


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_places_that_are_no_numbers_are_refused(tmp_path, value):
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.uint8), np.eye(4))
    image.header["srow_x"][3] = value
    content = bytearray(image.to_bytes())
    content[280:284] = np.array([value], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.nii: has voxels of"):
        registry.read(tmp_path / "a.nii")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"(5, 12, 14)", b"(5, 12, '14"),
        (b"'<i2'", b"'<q9'"),
        (b"{'descr'", b"{'descr\\"),
        (b"fortran", b"f\0\xff\0an"),
    ],
)
def test_an_archive_whose_array_has_no_header_holds_none(tmp_path, old, new):
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(npz())) as whole, zipfile.ZipFile(out, "w") as archive:
        for name in whole.namelist():
            content = whole.read(name)
            archive.writestr(name, content.replace(old, new) if name == "image.npy" else content)
    (tmp_path / "a.npz").write_bytes(out.getvalue())
    assert main_array(tmp_path / "a.npz") is None
    with pytest.raises(InputError, match=r"a\.npz"):
        registry.read(tmp_path / "a.npz")


def test_an_archive_packed_in_an_unknown_way_is_refused(tmp_path):
    content = npz(packed=False)
    at = content.index(b"PK\1\2")
    (tmp_path / "a.npz").write_bytes(content[: at + 10] + b"\x63\0" + content[at + 12 :])
    assert main_array(tmp_path / "a.npz") is None
    with pytest.raises(InputError, match=r"a\.npz"):
        registry.read(tmp_path / "a.npz")


@pytest.mark.parametrize("way", ["zlib", "lzw", "zstd", "packbits", "lzma", "png", "bits", "gif"])
def test_what_is_flat_is_read_however_well_it_packs(tmp_path, way):
    flat = np.zeros((3000, 3000), np.uint8)
    if way in ("png", "gif"):
        path = tmp_path / f"a.{way}"
        path.write_bytes(pillow(flat, way))
    elif way == "bits":
        path = tmp_path / "a.png"
        path.write_bytes(pillow(flat > 0, "PNG"))
    else:
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, flat, compression=way)
    assert path.stat().st_size < flat.size / 50
    pixels = read_image(path)
    assert pixels.shape[:2] == flat.shape
    assert not pixels.any()
