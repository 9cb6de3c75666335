"""The commands, run within the test's own process: a start of its own costs seconds of imports."""

import contextlib
import io
import multiprocessing
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from subprocess import CompletedProcess
from typing import Any
from unittest.mock import patch

PRELOADED = [
    *("napari_hidiff.training.cli", "napari_hidiff.training.trainer"),
    "torch._dynamo",  # torch.optim imports it at its first step
    *("pytest", "PIL.Image", "scipy.ndimage"),  # what the test files themselves import
]


def call(main: Callable[[], object], *arguments: object) -> "CompletedProcess[str]":
    """What a command's entry point does with its arguments: exit status, stdout, stderr.

    For a test of the process itself (signals, imports, memory, the environment) start one.
    """
    words = [str(argument) for argument in arguments]
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.object(sys, "argv", [main.__module__, *words]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
            status: object = 0
        except SystemExit as left:
            status = left.code
    return CompletedProcess(words, int(status or 0), out.getvalue(), err.getvalue())


def evaluate(capsys: Any, monkeypatch: Any, *arguments: object) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of ``napari-hidiff-evaluate``, in this process."""
    monkeypatch.setattr(sys, "argv", ["napari-hidiff-evaluate", *map(str, arguments)])
    from napari_hidiff.training.evaluate import cli

    try:
        cli.main()
    except SystemExit as left:
        streams = capsys.readouterr()
        return int(left.code or 0), streams.out, streams.err
    raise AssertionError("a command leaves by SystemExit")


def forked(work: Callable[..., object], *arguments: object) -> BaseProcess:
    """A clean process, started, that does ``work``: a fork of one that imported what training
    needs and did nothing else, so that a process to be killed starts at once. POSIX only."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=work, args=arguments, daemon=True)
    process.start()
    return process
