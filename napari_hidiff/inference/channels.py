"""Which of several images is which channel of a model, guessed from their names."""

import re
from collections.abc import Sequence

ALIKE = (
    {"flair", "t2f", "t2flair"},
    {"t1", "t1w", "t1n"},
    {"t1ce", "t1c", "t1gd", "t1post", "t1wce"},
    {"t2", "t2w"},
    {"red", "r"},
    {"green", "g"},
    {"blue", "b"},
)
"""Names that mean the same channel in the data sets that this package reads."""


def guess(channels: Sequence[str], names: Sequence[str]) -> list[int | None]:
    """For every channel the position of the one name that holds it as a word, else None.

    Case and what separates words do not matter; ``BraTS2021_00000_t1ce`` is ``t1ce`` and not
    ``t1``. Where two names would do there is no guess.
    """
    words = [set(re.split(r"[^a-z0-9]+", name.lower())) for name in names]
    found: list[int | None] = []
    for channel in channels:
        wanted = channel.lower()
        meant = next((alike for alike in ALIKE if wanted in alike), {wanted})
        holding = [at for at, said in enumerate(words) if meant & said]
        found.append(holding[0] if len(holding) == 1 else None)
    left = [at for at in range(len(names)) if at not in found]
    if found.count(None) == 1 and len(names) == len(channels) and len(left) == 1:
        found[found.index(None)] = left[0]  # the one that is left is the one that is missing
    return [at if found.count(at) == 1 else None for at in found]
