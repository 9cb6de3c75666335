"""The commands, run within the test's own process: a start of its own costs seconds of imports."""

import contextlib
import io
import sys
from collections.abc import Callable
from subprocess import CompletedProcess
from unittest.mock import patch


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
