"""Shared by the tests of data sets: cases by id, and the one line that refused input gets."""

from pathlib import Path

import pytest

from napari_hidiff.errors import InputError
from napari_hidiff.training.datasets import SPLITS


def ids(cases):
    return [case.id for case in cases]


def every(dataset):
    """All cases of a data set by id."""
    return {case.id: case for cases in dataset.splits.values() for case in cases}


def assert_no_group_divided(splits):
    train, val, test = ({case.group for case in splits[name]} for name in SPLITS)
    assert not (train & val | train & test | val & test)


def message(call, *args, **kwargs):
    """The one line that a refused input gets."""
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    text = str(caught.value)
    assert text.strip()
    assert "\n" not in text
    return text


def refused(dataset, case):
    """The one line that loading a case, named by its id, gives."""
    return message(dataset.load, every(dataset)[case])


def bad_cases(dataset):
    """Id -> the start of its line, without the folder, of every case that is refused."""
    lines = {}
    for case in every(dataset).values():
        try:
            dataset.load(case)
        except InputError as error:
            path, _, text = str(error).partition(": ")
            lines[case.id] = f"{Path(path).name}: {text.partition(';')[0]}"
    return lines
