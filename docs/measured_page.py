"""The page of what was asked of single models, from the objects under results/."""

import json
from pathlib import Path
from typing import Any

from studies_page import unwrapped

from napari_hidiff.training.evaluate.measured.markdown import PAGES, page

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "results"
INTRO = """
What trained models answer to the [questions of the paper](experiments.md), on their test images;
every table is one command. `chase-vessels` and `hippocampus` are the bundled models;
`runs/kvasir` stands for a run of `napari-hidiff-train --dataset kvasir --size small --longest-side
128 --pretrain-iterations 2000 --fold-iterations 1000 --iterations 2000 --validate-every 500
--validate-cases 88 --output runs/kvasir`, whose model may not be passed on, as the images of
Kvasir-SEG may not: run the command to see its cases. Differences are means over cases with the
95 % interval of a paired bootstrap over cases; where an interval holds 0, the two cannot be told
apart. Seconds were taken beside other work: they compare with one another, not with those of other
pages.
"""
COMMENTS = {
    "kvasir-small-objects": """
Polyps do differ in size. The gain is in the second quarter; of the smallest polyps the refiner
loses about as much as it finds, and on the largest it takes away. Intervals of 20 images are wide.
""",
    "hippocampus-small-objects": """
Within this data set the largest part is hardly twice as large as the smallest: a study of small
objects in the paper's sense needs organs or lesions of very different size.
""",
    "chase-vessels-small-objects": """
The object is the whole vessel tree, and its size differs little from eye to eye: no trend can be
read from it.
""",
}


def results() -> dict[str, dict[str, Any]]:
    """The committed objects by the name of their file, in the order of experiments."""
    found = {}
    for experiment in PAGES:
        for path in sorted(RESULTS.glob(f"*-{experiment}.json"), reverse=True):
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


def measured_page(note: str) -> str:
    """The whole page, Markdown."""
    parts = ["# Questions to one model, measured", note, unwrapped(INTRO)]
    for stem, content in results().items():
        name = stem.removesuffix(f"-{content['experiment']}")
        parts += [f"## {content['experiment']}, {name}", page(content).strip()]
        parts += [unwrapped(text) for name, text in COMMENTS.items() if name == stem]
        parts += shown(stem, content)
        kept = f"[{stem}.json](../results/{stem}.json)"
        parts.append(f"Everything, with the scores of every case: {kept}.")
    return "\n\n".join(parts) + "\n"
