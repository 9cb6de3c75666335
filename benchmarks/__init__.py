"""Measurements behind statements in README and docs; run one with ``python -m benchmarks.NAME``."""
