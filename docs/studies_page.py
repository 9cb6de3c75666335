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
How much each part of HiDiff contributes. Every table below is one command: it trains a model for
each row, scores it on cases that no training saw, and writes the results file that this page is
made from (`make pages`). We know of no reproduction of the paper, and this is not one either: the
networks are small, the trainings short, and a difference holds for them alone.

How to read a table: each row is a model, each line a way to refine with it. *prior* is the first
mask, that of the segmentor. `ddim-3x5` is the mean of 5 samples of 3 DDIM steps, `ancestral-10x1`
one sample of all 10 steps, `one-step` the one pass at T; `-unlinked` undoes the focal loss's link
in what the network predicts ([how](#the-focal-link)). Differences are means over cases with the
95 % interval of a paired bootstrap over cases; a difference is significant where the interval
excludes 0. Several rows are compared with one reference without a correction for multiple
comparisons, so a single small difference says little.

`napari-hidiff-evaluate --list-experiments` says what each study asks and where the paper does. A
study that was stopped continues where it was; a second call computes nothing; `--rows A,B` runs
some of its rows, `--kept` only puts together the existing results. `--set NAME=VALUE` changes a
setting of every training, `--first-stage RUN` takes segmentor and first masks from a finished run
of `napari-hidiff-train`. Below, `runs/hippocampus` stands for a run of `napari-hidiff-train
--dataset msd --size quick --batch 16 --pretrain-iterations 2500 --fold-iterations 2500 --output
runs/hippocampus`, the settings that the segmentor of the bundled `hippocampus` was trained with,
and {KVASIR}. Images of Kvasir-SEG are not in the repository: run the command to see its cases.
Precision was `auto`, which is bf16 on the processor that was used.
"""
SHORT = """
## In short

- On the hippocampus the diffusion is below the same network trained for one pass, by
-0.0040 [-0.0061, -0.0020] Dice (two training seeds); on Kvasir-SEG by -0.0288 [-0.0541, -0.0058]
(one seed).
- Trained with the paper's loss and output, but for 1,500 iterations of a small network, the refiner
lowers Dice by -0.1043 [-0.1100, -0.0980]; with the focal loss's link undone afterwards by -0.0183
[-0.0198, -0.0168]. Four times as long (6,000 iterations, one seed) gives -0.0972 [-0.1056, -0.0875]
and -0.0190 [-0.0213, -0.0167]. On Kvasir-SEG at 128 px (one seed) it is -0.3731 [-0.4353, -0.3076]
and -0.1403 [-0.1843, -0.0958].
- The focal loss does the harm: on the way to the paper's mode the loss of Dice grows from -0.0299
[-0.0323, -0.0273] to -0.1088 [-0.1166, -0.1004] when it comes in; X-Former and binarization change
little.
- In our mode, binary and real convolutions, noise around the prior and around 1/2, and training in
turns or not make no significant difference (one seed for most rows).

The paper trains a larger network for much longer, on a GPU. What happens in a
laptop's time says nothing about its results.
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
    """Paragraphs and items on one line each, as the other pages have them."""
    return re.sub(r"(?<!\n)\n(?!\n|- )", " ", text.strip())


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
    parts = ["# Studies that train", note, unwrapped(INTRO), unwrapped(SHORT)]
    for stem, content in results().items():
        where = NAMES.get(content["dataset"], content["dataset"])
        parts += [f"## {content['experiment']}, {where}", page(content, report(content)).strip()]
        parts += shown(stem, content)
        kept = f"[{stem}.json](../results/{stem}.json)"
        parts.append(f"Everything, with the Dice of every case: {kept}.")
    parts.append(unwrapped(LINK))
    return "\n\n".join(parts) + "\n"
