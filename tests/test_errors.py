"""Messages for users: what went wrong, in one short line."""

from pathlib import Path

import pytest

from napari_hidiff.errors import InputError, first_line
from napari_hidiff.training.datasets.splits import read_split


def test_a_failed_read_is_told_by_its_reason_alone(tmp_path: Path) -> None:
    missing = tmp_path / "split.json"
    with pytest.raises(InputError) as caught:
        read_split(missing, [])
    cause = caught.value.__cause__
    assert isinstance(cause, FileNotFoundError)
    assert str(caught.value) == f"{missing}: cannot read this split file ({cause.strerror})"


def test_a_reason_is_one_printable_line_of_at_most_200_characters() -> None:
    assert first_line(OSError("not an image")) == "not an image"
    assert first_line(ValueError("\n  a \x00 b\nmore")) == "a ? b"
    assert first_line(ValueError("wrong:\n this")) == "wrong: this"
    assert first_line(KeyError()) == "KeyError"
    assert len(first_line(ValueError("long" * 100))) == 200
