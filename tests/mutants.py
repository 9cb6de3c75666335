"""Do the tests notice? Random single changes of one module, each tried on the tests that are named.

    python tests/mutants.py napari_hidiff/masks.py tests/test_masks.py --sample 30 --seed 0

The changes are those of cosmic-ray, one for each place and kind: a comparison at its border or
reversed, a sign, an operator, a constant one more or less, a condition negated, a loop left out.
The module is changed in place, one change at a time, and put back at the end: work on a copy of
the repository, or commit first. What lives is printed with its line: it is a gap in the tests, or
behaves the same. Tests run in forked processes, so that torch is imported once: not on Windows.
"""

import argparse
import ast
import gc
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from itertools import chain
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

BINARY = "Add_Sub Sub_Add Mul_Div Div_Mul FloorDiv_Mul Mod_Mul Pow_Mul RShift_LShift LShift_RShift"
BITS = "BitOr_BitAnd BitAnd_BitOr BitXor_BitAnd"
BORDERS = "Lt_LtE LtE_Lt Gt_GtE GtE_Gt"
REVERSED = "Lt_GtE LtE_Gt Gt_LtE GtE_Lt Eq_NotEq NotEq_Eq Is_IsNot IsNot_Is"
UNARY = "Delete_USub Delete_Not Delete_Invert"
KINDS = {
    *(f"core/ReplaceBinaryOperator_{name}" for name in f"{BINARY} {BITS}".split()),
    *(f"core/ReplaceComparisonOperator_{name}" for name in f"{BORDERS} {REVERSED}".split()),
    *(f"core/ReplaceUnaryOperator_{name}" for name in UNARY.split()),
    *(f"core/Replace{name}" for name in ("TrueWithFalse", "FalseWithTrue")),
    *(f"core/Replace{name}" for name in ("AndWithOr", "OrWithAnd")),
    *(f"core/Replace{name}" for name in ("BreakWithContinue", "ContinueWithBreak")),
    *(f"core/{name}" for name in ("AddNot", "NumberReplacer", "ZeroIterationForLoop")),
}
HERE = str(Path(__file__).resolve().parent)
OPTIONS = "-x -q --no-xvfb -p no:cacheprovider -p no:napari -p no:npe2 -p no:napari-plugin-engine"


Place = tuple[int, int]
"""Line and column."""


class Mutant(NamedTuple):
    """One change: where it begins, cosmic-ray's operator, and which of its occurrences."""

    start: Place
    kind: str
    occurrence: int


def mutants(code: str) -> Iterator[Mutant]:
    """Every change of the code; types are left as they are."""
    nodes, types = list(ast_nodes(get_ast(code))), list(_types(code))
    for kind in sorted(KINDS & set(operator_names())):
        find = get_operator(kind)().mutation_positions
        for occurrence, (start, _) in enumerate(chain.from_iterable(map(find, nodes))):
            if not any(first <= start < last for first, last in types):
                yield Mutant(start, kind, occurrence)


def _types(code: str) -> Iterator[tuple[Place, Place]]:
    """From where to where types stand: a change of those fails without a test."""
    for node in ast.walk(ast.parse(code)):
        parts = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        if isinstance(node, ast.Module):
            values = [part.value for part in node.body if isinstance(part, ast.Assign)]
            parts += [value for value in values if isinstance(value, ast.BinOp | ast.Subscript)]
        for part in parts:
            if isinstance(part, ast.expr):
                assert part.end_lineno is not None
                assert part.end_col_offset is not None
                yield (part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)


def run(tests: list[str], limit: float | None = None) -> tuple[int | None, list[str]]:
    """pytest's exit status in a forked process (None: it took more than ``limit`` seconds, or
    crashed), and the names of the modules of others that it imported."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(tests, there))
    process.start()
    there.close()
    try:
        status, imported = here.recv() if here.poll(limit) else (None, [])
    except EOFError:  # it crashed
        status, imported = None, []
    process.kill()
    process.join()
    return status, imported


def _run(tests: list[str], pipe: Connection) -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    status = pytest.main([*OPTIONS.split(), *tests])
    files = {name: str(getattr(module, "__file__", "")) for name, module in sys.modules.items()}
    others = [name for name, file in files.items() if not file.startswith(HERE)]
    pipe.send((int(status), [name for name in others if not name.startswith("napari_hidiff")]))


def main() -> int:
    """The share that was noticed, in words; status 1 where the tests fail without any change."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("module", type=Path)
    parser.add_argument("tests", nargs="+")
    parser.add_argument("--sample", type=int, default=30, help="how many changes, at most")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    status, imported = run(options.tests)
    if status:
        print("the tests fail as it is", file=sys.stderr)
        return 1
    for name in imported:  # once, in the parent of all processes to come
        with suppress(Exception):
            import_module(name)
    gc.freeze()  # nothing of that is garbage: forked processes need not look
    began = time.monotonic()
    run(options.tests)
    limit = 20 + 5 * (time.monotonic() - began)
    sys.dont_write_bytecode = True
    code = options.module.read_text(encoding="utf-8")
    known = sorted(mutants(code))
    chosen = random.Random(options.seed).sample(known, min(options.sample, len(known)))
    alive = 0
    try:
        for (line, column), kind, occurrence in sorted(chosen):
            changed = mutate_code(code, get_operator(kind)(), occurrence)
            options.module.write_text(changed, encoding="utf-8")
            if run(options.tests, limit)[0] == 0:
                alive += 1
                print(f"{options.module}:{line}:{column} {kind.partition('/')[2]}")
                for sign, text in (("-", code), ("+", changed)):
                    print(f"  {sign} {text.splitlines()[line - 1].strip()}", flush=True)
    finally:
        options.module.write_text(code, encoding="utf-8")
    print(
        f"{options.module}: {len(chosen)} of {len(known)} changes (seed {options.seed}), "
        f"{len(chosen) - alive} noticed"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
