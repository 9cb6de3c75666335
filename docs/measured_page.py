"""The page of the questions to single models, from the objects under results/."""

import json
from typing import Any

from studies_page import KVASIR, RESULTS, shown, unwrapped

from napari_hidiff.training.evaluate.experiments import EXPERIMENTS
from napari_hidiff.training.evaluate.output import page

INTRO = f"""
How trained models answer the [questions of the paper](experiments.md), on their test images; every
table is one command. `chase-vessels`, `hippocampus`, `polyps` and `universal` are the bundled
models; {KVASIR}. Neither that model nor pictures of Kvasir-SEG are in the repository: run the
command to see its cases. *Prior* is the first mask, that of the segmentor. Differences are means
over cases with the 95 % interval of a paired bootstrap over cases; a difference is significant
where the interval excludes 0. Seconds were measured beside other work: compare them with one
another, not with those of other pages.
"""
COMMENTS = {
    "kvasir-small-objects": """
Polyps do differ in size. The gain is in the second quarter; on the smallest there is no significant
difference, and on the largest one pass lowers Dice. Intervals over 20 images are wide.
""",
    "hippocampus-small-objects": """
Within this data set the largest part is hardly twice as large as the smallest: a study of small
objects in the paper's sense needs organs or lesions of very different sizes.
""",
    "polyps-domain-shift": """
Blur and noise cost the segmentor most, and the refiner makes little good for it.
""",
    "chase-vessels-domain-shift": """
On noisy images the refiner takes noise for vessels and lowers Dice.
""",
    "polyps-foreign-priors": """
The second model is `universal`, handed the box around the polyp. Masks with errors get better, but
one that is right already gets a little worse.
""",
    "polyps-steps": """
`ensemble` is the mean of the first mask's probability, of one pass and of `ddim-3x5`.
""",
    "chase-vessels-small-objects": """
The object is the whole vessel tree, whose size differs little from eye to eye: this cannot show a
trend.
""",
}


def results() -> dict[str, dict[str, Any]]:
    """The committed objects by the name of their file, in the order of experiments."""
    found = {}
    for name, experiment in EXPERIMENTS.items():
        if experiment.report is not None:
            for path in sorted(RESULTS.glob(f"*-{name}.json"), reverse=True):
                found[path.stem] = json.loads(path.read_text(encoding="utf-8"))
    return found


def measured_page(note: str) -> str:
    """The whole page, Markdown."""
    parts = ["# Questions to one model, measured", note, unwrapped(INTRO)]
    for stem, content in results().items():
        name = stem.removesuffix(f"-{content['experiment']}")
        report = EXPERIMENTS[content["experiment"]].report
        assert report is not None
        parts += [f"## {content['experiment']}, {name}", page(content, report(content)).strip()]
        parts += [unwrapped(text) for name, text in COMMENTS.items() if name == stem]
        parts += shown(stem, content)
        kept = f"[{stem}.json](../results/{stem}.json)"
        parts.append(f"Everything, with the scores of every case: {kept}.")
    return "\n\n".join(parts) + "\n"
