"""Garbage that holds Qt objects: the main thread alone collects it while a widget is open."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from qtpy.QtCore import QObject

from napari_hidiff._qt.garbage import Collector, collector
from napari_hidiff._qt.threads import Job

PATIENCE = 300.0


class Cycle:
    """Garbage as a closed window is, a cycle with a Qt object; notes which thread deletes it."""

    deleted_in: set[int]

    def __init__(self) -> None:
        self.held, self.myself = QObject(), self

    def __del__(self) -> None:
        self.deleted_in.add(threading.get_ident())


class User:
    """Has started the collector, as an open widget has."""


@pytest.fixture
def here(qtbot: Any) -> Iterator[Collector]:
    """The collector of this process, at rest before and after."""
    Cycle.deleted_in = set()
    gc.collect()
    qtbot.waitUntil(gc.isenabled, timeout=round(1000 * PATIENCE))  # a window's threads may work yet
    yield collector()
    assert gc.isenabled()


def litter() -> int:
    """In a thread: leave cycles behind until one was deleted."""
    end = time.monotonic() + PATIENCE
    while not Cycle.deleted_in and time.monotonic() < end:
        Cycle()
    return threading.get_ident()


@pytest.fixture
def until(qtbot: Any) -> Callable[[Callable[[], bool]], None]:
    """Let the event loop run until something holds."""
    return lambda state: qtbot.waitUntil(state, timeout=round(1000 * PATIENCE))


def test_what_threads_leave_behind_is_deleted_in_the_main_thread(here: Collector, until) -> None:
    user, workers = User(), list[int]()
    here.start(user)
    jobs = [Job(litter, done=workers.append) for _ in range(2)]
    until(lambda: len(workers) == len(jobs))
    assert Cycle.deleted_in == {threading.get_ident()}
    assert threading.get_ident() not in workers
    here.stop(user)
    until(gc.isenabled)


def test_it_lasts_until_all_have_stopped_it_and_no_thread_works(here: Collector, until) -> None:
    first, second, opened, over = User(), User(), threading.Event(), list[bool]()
    here.start(first)
    here.start(second)
    assert collector() is here
    here.stop(first)
    assert not gc.isenabled()
    job = Job(opened.wait, PATIENCE, done=over.append)
    del second  # a widget that is gone without a word
    until(lambda: not here._users)
    assert not gc.isenabled()
    opened.set()
    until(gc.isenabled)
    assert job
    assert over == [True]


def test_collections_that_somebody_else_turned_off_stay_off(here: Collector) -> None:
    user = User()
    gc.disable()
    try:
        here.start(user)
        here.stop(user)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_stands_is_spared_until_a_layer_was_removed(here: Collector, until) -> None:
    user, kept = User(), Cycle()
    gc.unfreeze()
    here.start(user)
    try:
        assert gc.get_freeze_count() > 100_000
        del kept
        began = time.thread_time()
        gc.collect()
        spared = time.thread_time() - began
        assert not Cycle.deleted_in
        here.collect_all_soon()
        began = time.thread_time()
        until(lambda: bool(Cycle.deleted_in))
        assert spared < (time.thread_time() - began) / 2
    finally:
        here.stop(user)
    until(gc.isenabled)
    assert gc.get_freeze_count() == 0


def test_all_is_collected_when_the_old_have_grown(here: Collector) -> None:
    user, limits = User(), gc.get_threshold()
    here.start(user)
    gc.set_threshold(10, 1, 1)
    try:
        old = Cycle()
        gc.collect()
        del old
        kept: list[list[int]] = []
        while not Cycle.deleted_in:
            kept.extend([] for _ in range(100_000))
            here._collect()
    finally:
        gc.set_threshold(*limits)
        here.stop(user)
