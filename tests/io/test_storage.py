"""Files that appear whole or not at all."""

import pytest

from napari_hidiff.errors import InputError
from napari_hidiff.io.storage import atomic_write


def put(*paths, texts, fail=False):
    with atomic_write(*paths) as parts:
        for part, text in zip(parts, texts, strict=False):
            part.write_text(text)
        if fail:
            raise KeyError
        assert not any(path.exists() for path in paths)


def test_several_files_take_their_places_at_the_end(tmp_path):
    paths = [tmp_path / name for name in ("a.txt", "b.txt")]
    put(*paths, texts=("one", "two"))
    assert [path.read_text() for path in paths] == ["one", "two"]
    assert sorted(tmp_path.iterdir()) == paths


def test_a_body_that_fails_changes_nothing_and_leaves_nothing(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyError):
        put(path, texts=("half",), fail=True)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_the_system_refuses_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"a\.txt: cannot be written: No such file"):
        put(tmp_path / "none" / "a.txt", texts=("new",))
    with pytest.raises(InputError, match=r"a\.txt: cannot be written"):
        put(tmp_path / "a.txt", tmp_path / "forgotten.txt", texts=("new",))
    assert not list(tmp_path.iterdir())
