"""The page of the universal refiner, from its card and the objects under results/."""

import json
from typing import Any

import numpy as np
from studies_page import RESULTS, unwrapped

from napari_hidiff.inference.catalog import find_model, read_card
from napari_hidiff.training.evaluate.metrics import paired_bootstrap
from napari_hidiff.training.evaluate.output import command as asked

INTRO = """
`universal` is a model for objects that no other model knows. It does not segment an image by
itself: it answers a **prompt**. Paint a stroke inside the object, draw a box around it, or
give a mask that is roughly right, and it returns the object; paint more where it is
wrong. It reads any number of channels and any bit depth, on the CPU, and comes with the package.
"""
USE = """
## In the window

Where no other model fits, `universal` is chosen. **Paint** a stroke inside the object, or click in
it: the answer follows at once. A stroke or click of **Erase** says what is not the object, and
**Box** draws a box around it. **New object** takes the next label. One label is one object, and
all others are background for it and stay as they are. *Start from*, in Settings, takes any Labels
layer with its objects. Undo, *Resume* and replay cover points and boxes
([the widget](plugin.md#from-an-image-to-a-mask)).

In a volume **Carry** hands the mask of a slice to the next as its prior, for the object that you
paint. On a hippocampus (Decathlon, case 123) three clicks in one slice and a carry over ten
slices gave a mean Dice of .59, from .91 in that slice to .21 at the end; two clicks and a carry
in each of two other slices .71 (`tests/gui/test_prompted_real.py`): correct it every few slices.

## Without a window

```bash
napari-hidiff-refine photo.png --model universal --fixed strokes.png --output masks
napari-hidiff-refine photo.png --model universal --prior draft.png --output masks
```

In `strokes.png` 1 is the object, 0 is not, 255 is free; `draft.png` is a mask to start from.

```python
import numpy as np
import napari_hidiff
from napari_hidiff.inference.box import prior_in_box
from napari_hidiff.masks import Box

model = napari_hidiff.load_model("universal")
fixed = np.full(image.shape[:2], -1)  # -1 = free
fixed[120:126, 80:86] = 1  # a stroke inside the object
result = model.refine(image, fixed=fixed)
result = model.refine(image, prior=prior_in_box(model, image, Box(90, 50, 160, 120)).prior)
```

Without a stroke on the object, a box or a mask it says so in one line and computes nothing.

**Several objects** are several labels. `napari_hidiff.annotation.objects.refine_object` refines
one label of a label map; the others are background for it and stay as they are; `next_label`
gives the number of a new object. **A volume** goes through slice by slice: the mask of a slice
is the prior of the next (`annotation.refinement.propagate`). This follows an object over a few
slices, not through a volume: where it moves or changes much from slice to slice the mask
shrinks, and needs a stroke.

## How it looks at an image

It was trained on pictures of 256 pixels on the longer side. So it looks through a window around
strokes and mask: the whole image, or a part of it that is at least 256 pixels long, five times
as long as the strokes on the object, and three times as long as the mask. The window is brought
to 256 pixels, standardized by itself, answered in one pass, and enlarged and asked again while
the answer touches its border (three times at most). The answer comes back at full size. Strokes
are never resampled away: in the smaller window every painted pixel counts, and at full size
each keeps its label, whatever the answer. Around the window a prior stays as it was. Of more
than three channels the first three are read; of two, the mean is the third; grey is repeated.

A large object is therefore seen coarsely: where the window is 2,000 pixels wide, one of its
pixels is eight of the image. It offers three further masks (hypotheses), which in this model
are nearly equal to its answer and not worth showing.
"""
STROKES = """
## What strokes reach

A [simulated annotator](interactive.md) starts from an empty mask and corrects the largest
error, stroke by stroke. None of these sets was trained on; `HELD_OUT` is a folder with them,
and with the hippocampus that `python -m benchmarks.hippocampus_slices Task04_Hippocampus
HELD_OUT` writes. Mean Dice:
"""
WEAK = """
**Where it is weak.** The first stroke cannot say whether a part or the whole is meant. Nuclei
as *one* object (all of an image at once) need three strokes and more: ask for one at a time.
Thin trees such as vessels stay poor, also with scribbles: use a model that was trained for them
(`chase-vessels`). Slices of a hippocampus are tiny pictures, enlarged five times.
"""
WALKER = """
## Beside the random walker

The walker knows the strokes alone, and takes the border of the image for background until a
stroke lies on the background: without that help it answers nothing after one stroke. The same
objects as above, pictures of at most 256 pixels. After the first stroke the universal refiner is
ahead on two of the seven sets, and level with the walker on the others; from the second stroke
on it is ahead on every set. Dice, universal / walker, and the mean difference with its 95 %
interval over objects:
"""
FOREIGN = """
## Masks from elsewhere

One refinement of a mask, without a stroke ([all figures](measured.md)):
"""
HARM = """
It repairs masks that are wrong and damages masks that are right: an exact mask loses Dice,
because the model draws every border anew. The first masks of the bundled `hippocampus` are
better than what this model makes of them (*second model* [there](measured.md)): what was
trained for a structure stays ahead. Refine a mask of other software where it needs it, and
compare.

**A box** without LiteMedSAM (*box* in the table, the exact one) is read as a stroke in its
middle and background around it; the mask that this finds is the prior. It is worth about as
much as a first stroke, and less than the filled box itself. This reading was chosen on sets
that the model *was* trained on, mean Dice over sets without any other stroke:
"""
CHOICES = """
## What else was tried

On sets that it *was* trained on, so that the held-out ones stay what they are; the same
strokes, answered in other ways, mean Dice over sets:
"""
KEPT = """
A closer look at the stroke cost accuracy, and so did the mask before as the prior: hence the
wide window, and strokes alone as the prompt of the next answer. A lower threshold, a second
pass and the mean of flipped pictures gain less than .01 or lose after the second stroke; they
are left out. The hypotheses are the answer again. Whether more width, more features or more
resolution in training would help was not measured.
"""
DDIM = """
**One pass or DDIM?** The model was trained for one pass, with a tenth of the crops for the
sampler. Eight objects of every held-out set, {count} in all: Dice after 1 / 3 / 5 strokes is
{one} with one pass and {ddim} with DDIM ({steps} steps, {samples} samples), which takes
{times} forward passes. One pass minus DDIM, area under five strokes: {gain}.
"""
LATENCY = """
## How long an answer takes
"""
SIZES = ("window of 256 pixels", "one megapixel")
SOURCES = """
## Trained on

Twenty-two sets with free licences, {pictures} pictures, for {minutes:.1f} minutes on one
{device} ({updates:,} updates), by the command on the [card](model-cards.md#universal), which
names the origin and the licence of each. The weights are offered under CC BY-SA 4.0, the
strictest of these. Most sets are small public copies of a part of the original, and for some
the licence was read on the copy: who needs certainty reads it at the source. Held out, and used
for nothing but scores: the sets in the first table.
"""


def universal_page(note: str) -> str:
    """The whole page, Markdown."""
    training = read_card(find_model("universal")).training
    facts = {
        "pictures": f"{len(training['cases']['train']):,}",
        "minutes": training["seconds"] / 60,
        "device": training["device"],
        "updates": training["updates"],
    }
    strokes, walker, foreign, boxes, choices, latency, ddim = (
        json.loads((RESULTS / f"universal-{name}.json").read_text(encoding="utf-8"))
        for name in (
            *("interactive", "walker", "foreign-priors", "boxes", "choices", "latency"),
            "ddim",
        )
    )
    parts = ["# Any object: the universal refiner", note, unwrapped(INTRO), _blocks(USE)]
    parts += [unwrapped(STROKES), by_strokes(strokes), command(strokes), unwrapped(WEAK)]
    parts += [unwrapped(WALKER), against(walker), command(walker)]
    parts += [unwrapped(FOREIGN), priors(foreign), command(foreign), unwrapped(HARM)]
    rows = [[way, f"{value:.3f}"] for way, value in boxes["dice"].items()]
    parts += [table(["box", "Dice"], rows), code(boxes["command"])]
    parts += [unwrapped(CHOICES), tried(choices), code(choices["command"]), unwrapped(KEPT)]
    parts += [unwrapped(DDIM.format(**one_pass(ddim))), command(ddim)]
    parts += [unwrapped(LATENCY), seconds(latency), code(latency["command"])]
    parts += [unwrapped(SOURCES.format(**facts))]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def by_strokes(content: dict[str, Any]) -> str:
    """A row per set and arm, then the mean over objects."""
    counts = [n for n in content["arms"]["refine"]["after"] if n != "0"]
    rows = []
    sets = {name: (part["n"], part["arms"]) for name, part in content["by_set"].items()}
    for name, (count, arms) in (sets | {"**all**": (content["n"], content["arms"])}).items():
        for arm, title in (("refine", "universal"), ("paint", "painting alone")):
            first = [name, str(count)] if arm == "refine" else ["", ""]
            rows.append([*first, title, *(f"{arms[arm]['after'][n]:.2f}" for n in counts)])
    gain = content["differences"]["minus_paint"]["refine"]["nauc_10"]
    said = f"Universal minus painting, area under the curve of 10 strokes: {between(gain)}."
    head = ["set", "objects", "", *(f"{n} stroke{'s' * (n != '1')}" for n in counts)]
    return f"{table(head, rows)}\n\n{said}"


def against(content: dict[str, Any]) -> str:
    """A row per set: Dice of both after some strokes, and the paired difference."""
    dices = {(run["case"], run["arm"]): run["dice"] for run in content["runs"]}
    rows = []
    for name in (*content["by_set"], "**all**"):
        cases = [
            case
            for case, arm in dices
            if arm == "refine" and (name == "**all**" or case.startswith(f"{name}/"))
        ]
        row = [name, str(len(cases))]
        for n in (1, 2, 3, 5):
            own, other = (
                np.array([dices[case, arm][n] for case in cases])
                for arm in ("refine", "walker-strokes")
            )
            gain = paired_bootstrap(own - other)
            row += [
                f"{own.mean():.2f} / {other.mean():.2f}",
                f"{gain.mean:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]",
            ]
        rows.append(row)
    head = ["set", "objects"]
    for n in (1, 2, 3, 5):
        head += [f"{n} stroke{'s' * (n > 1)}", "difference"]
    return table(head, rows)


def priors(content: dict[str, Any]) -> str:
    """A row per kind of mask."""
    rows = [
        [
            *(name, f"{row['before']:.3f}", f"{row['after']:.3f}", between(row["difference"])),
            *(f"{row['better']:.0%}", f"{row['worse']:.0%}"),
        ]
        for name, row in content["kinds"].items()
    ]
    head = ["mask", "Dice before", "after", "difference", "better", "worse"]
    return table(head, rows)


def tried(content: dict[str, Any]) -> str:
    """A row per way of asking."""
    rows = [[way, *(f"{value:.3f}" for value in row)] for way, row in content["dice"].items()]
    count = len(content["dice"]["one pass"])
    return table(["way", *(f"after {n}" for n in range(1, count + 1))], rows)


def one_pass(content: dict[str, Any]) -> dict[str, str]:
    """What is said of DDIM beside the single pass."""
    one, ddim = (
        " / ".join(f"{content['arms'][arm]['after'][n]:.2f}" for n in ("1", "3", "5"))
        for arm in ("refine", "refine-ddim")
    )
    asked_for = content["settings"]["refine-ddim"]
    steps, samples = asked_for["steps"], asked_for["samples"]
    (gain,) = content["differences"]["refine_minus"]["refine-ddim"].values()
    said = {"count": content["n"], "one": one, "ddim": ddim, "steps": steps, "samples": samples}
    return said | {"times": steps * samples, "gain": between(gain)}


def seconds(content: dict[str, Any]) -> str:
    """A row per size of picture."""
    sizes = {name: row for name, row in content.items() if name in SIZES}
    rows = [
        [name, f"{row['first']:.0f} ms", f"{row['median']:.0f} ms"] for name, row in sizes.items()
    ]
    said = (
        f"Median over strokes, {content['engine']} engine, {content['threads']} thread(s) of a "
        f"machine that was busy with other work (load {content['load'][0]:g} on "
        f"{content['cores']} cores)."
    )
    return f"{table(['picture', 'first answer', 'then'], rows)}\n\n{said}"


def between(difference: dict[str, float]) -> str:
    """A mean with its 95 % interval."""
    return f"{difference['mean']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Cells as Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def command(content: dict[str, Any]) -> str:
    """The command of an experiment; its data are a collection of the held-out sets."""
    return code(f"{asked(content)} --data HELD_OUT")


def code(line: str) -> str:
    """A command in a block."""
    return f"```bash\n{line}\n```"


def _blocks(text: str) -> str:
    """Paragraphs on one line each; code as it is."""
    parts = text.strip().split("\n\n")
    inside, found = False, []
    for part in parts:
        begins = part.startswith("```") or inside
        found.append(part if begins else unwrapped(part))
        inside = inside ^ (part.count("```") % 2 == 1)
    return "\n\n".join(found)
