"""Where the repository is, and numbers that tests compare with."""

from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
VECTORS = TESTS / "vectors" / "bernoulli.json"
