"""The page of the studies that train, from the objects that the command wrote to results/."""

import json
import re
from pathlib import Path
from typing import Any

from napari_hidiff.training.evaluate.ablations.report import report
from napari_hidiff.training.evaluate.ablations.variants import ABLATIONS
from napari_hidiff.training.evaluate.output import page

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "results"
NAMES = {"msd": "hippocampus"}
KVASIR = """
`runs/kvasir` stands for a run of `napari-hidiff-train --dataset kvasir --size small --longest-side
128 --pretrain-iterations 2000 --fold-iterations 1000 --iterations 2000 --validate-every 500
--validate-cases 88 --output runs/kvasir`
""".strip()
INTRO = f"""
What each part of HiDiff is worth, measured: every table below is one command, which trains a
model for each row, scores it on cases that no training saw, and writes the object that this
page is made from (`make pages`). No reproduction of the paper is known to us, and this is none
either: networks are small, trainings short, and a difference holds for them alone.

How to read a table: each row is a model, each line a way to refine with it. *prior* is its
segmentor's mask. `ddim-3x5` is the mean of 5 samples of 3 DDIM steps, `ancestral-10x1` one
sample of all 10 steps, `one-step` the one pass at T; `-unlinked` undoes the focal loss's link
in what the network predicts ([how](#the-focal-link)). Differences are means over cases with the
95 % interval of a paired bootstrap over cases; where an interval holds 0, the two cannot be
told apart. Several rows are compared with one reference and no correction for that is made, so
single small differences say little.

`napari-hidiff-evaluate --list-experiments` says what each study asks and where the paper does.
A study that was stopped goes on where it was; a second call does no work; `--rows A,B` runs
some of its rows, `--kept` only puts together what is there. `--set NAME=VALUE` changes a
setting of every training, `--first-stage RUN` takes segmentor and priors from a finished run of
`napari-hidiff-train`. Below, `runs/hippocampus` stands for a run of `napari-hidiff-train --dataset
msd --size quick --batch 16 --pretrain-iterations 2500 --fold-iterations 2500 --output
runs/hippocampus`, the settings that the segmentor of the bundled `hippocampus` was trained with,
and {KVASIR}. Images of Kvasir-SEG may not be passed on: run the command to see its cases.
Precision was `auto`, which is bf16 on the processor that was used.
"""
LINK = """
## The focal link

The focal loss is not a proper scoring rule: a network that knows a flip to have the probability
q = .01, .05 or .10 is best off saying p = .154, .250 or .306. A sampler that believes it flips
too much, at every step. The link between the two is known, q / (1 - q) = [p^g / (1 - p) - g
p^(g-1) ln(1 - p)] / [(1 - p)^g / p - g (1 - p)^(g-1) ln p], so that it can be undone after
training; the lines that end in `-unlinked` do.
"""


def unwrapped(text: str) -> str:
    """Paragraphs on one line each, as the other pages have them."""
    return re.sub(r"(?<!\n)\n(?!\n)", " ", text.strip())


def results() -> dict[str, dict[str, Any]]:
    """The committed objects of the studies by the name of their file, in the order of studies."""
    found = {}
    for ablation in ABLATIONS:
        for path in sorted(RESULTS.glob(f"*-{ablation}.json")):
            found[path.stem] = json.loads(path.read_text(encoding="utf-8"))
    return found


def shown(stem: str, content: dict[str, Any]) -> list[str]:
    """The pictures of an object that lie beside it; not all may be passed on."""
    files = {name: RESULTS / f"{stem}-{name}" for name in content["pictures"]}
    return [
        f"![{content['experiment']}: {name}](../results/{file.name})"
        for name, file in files.items()
        if file.exists()
    ]


def studies_page(note: str) -> str:
    """The whole page, Markdown."""
    parts = ["# Studies that train", note, unwrapped(INTRO)]
    for stem, content in results().items():
        where = NAMES.get(content["dataset"], content["dataset"])
        parts += [f"## {content['experiment']}, {where}", page(content, report(content)).strip()]
        parts += shown(stem, content)
        kept = f"[{stem}.json](../results/{stem}.json)"
        parts.append(f"Everything, with the Dice of every case: {kept}.")
    parts.append(unwrapped(LINK))
    return "\n\n".join(parts) + "\n"
