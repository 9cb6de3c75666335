"""One update of a universal refiner: crops, priors, rounds of strokes, the loss."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_hidiff.diffusion.process import Process
from napari_hidiff.diffusion.samplers import clamp_fixed, to_mask
from napari_hidiff.networks import ImageCondition, Refiner
from napari_hidiff.training.device import strokes
from napari_hidiff.training.device.graphs import Captured
from napari_hidiff.training.universal import priors
from napari_hidiff.training.universal.crops import Crops, Draws

BACKGROUND_STROKE, BOXED, CLAIMED, PROMPTED = 0.25, 0.05, 0.15, 0.5
"""Shares of crops with a first stroke on the background; with all outside a box fixed to it; with
other labels fixed to it; and of masks as priors that get a first stroke."""
ROUNDS = 0.6
"""Share of the updates with rounds of strokes on the model's own answers."""
ALONG = 0.7
"""Share of the strokes that may be scribbles, on thin structures, or lines."""
OTHERS = 0.05
"""Weight of the mean of the hypotheses' losses beside their smallest."""


class Prompted(nn.Module):
    """Segmentor (an encoder of the image) and refiner, trained as one.

    segmentor : image [B, 3, H, W] to logits, which are not used, and features.
    """

    def __init__(self, segmentor: nn.Module, refiner: Refiner) -> None:
        super().__init__()
        self.segmentor, self.refiner = segmentor, refiner

    def forward(
        self, image: Tensor, prior: Tensor, fixed: Tensor, y_t: Tensor, t: Tensor
    ) -> Tensor:
        """Logits of y_0 and of the hypotheses, [B, 1 + N, H, W]; prior and y_t [B, 1, H, W] with
        the fixed pixels stamped in, fixed int64 [B, H, W], t int64 [B]."""
        _, features = self.segmentor(image)
        condition = self.refiner.condition(image, prior, fixed, features)
        return self.refiner.answers(y_t, t, condition)


class Prompts(NamedTuple):
    """What a model is told of a crop: prior float32 [B, 1, C, C] and fixed int64 [B, C, C]."""

    prior: Tensor
    fixed: Tensor


class Seen(NamedTuple):
    """What an annotator and the averaged model see of a batch before any stroke.

    prior : float32 [B, 1, C, C]; known : bool [B], whether it says where the object is;
    own : bool [B], whether the model's answer takes its place; slender : bool [B], thin targets;
    image : the image's part of the model's condition: entered, then features.
    """

    prior: Tensor
    known: Tensor
    own: Tensor
    slender: Tensor
    image: tuple[Tensor, ...]


class Annotator:
    """Prompts as people give them: a first stroke, a box, a mask, then strokes on what the averaged
    model answers.

    model : the averaged :class:`Prompted`; process : its diffusion; most : rounds of strokes at
    most; autocast : the precision that it runs in; draws : random numbers of the device; coins : a
    generator of the CPU, as what the whole batch shares must not wait for the device.
    """

    def __init__(
        self,
        model: Prompted,
        process: Process,
        most: int,
        autocast: Callable[[], AbstractContextManager[Any]],
        draws: Draws,
        coins: torch.Generator,
    ) -> None:
        self.model, self.process, self.most, self.autocast = model, process, most, autocast
        self.draws, self.coins = draws, coins
        functions = (self._see, self._first, self._outside, self._stroke, self._answer)
        device, generator = draws.generator.device, draws.generator
        self.parts = [Captured(function, device, generator) for function in functions]

    def prompts(self, crops: Crops) -> Prompts:
        """Prior and fixed pixels of every crop."""
        see, first, outside, stroke, answer_to = self.parts
        target, answer = crops.target, None
        seen: Seen = see(crops.image, target)
        fixed = first(target, crops.others, seen.prior, seen.known, self._along(seen))
        if self._coin(0.5):  # of the updates, so that half as many crops have one
            fixed = outside(target, fixed)
        rounds = self._between(1, self.most) if self._coin(ROUNDS) and self.most else 0
        for _ in range(rounds):
            answer = answer_to(seen.prior, fixed, *seen.image)
            fixed = stroke(answer, target, fixed, self._along(seen))
        prior = seen.prior
        if answer is not None:
            prior = torch.where(seen.own[:, None, None, None], answer, prior)
        return Prompts(prior, fixed)

    @torch.no_grad()
    def _see(self, image: Tensor, target: Tensor) -> Seen:
        prior, known, own = priors.draw(target, self.draws)
        slender = strokes.thin(target, strokes.inside_depth(target))
        with self.autocast():
            _, features = self.model.segmentor(image)
            seen = self.model.refiner.encode_image(image, features)
        return Seen(prior, known, own, slender, (seen.entered, *seen.features))

    @torch.no_grad()
    def _first(
        self, target: Tensor, others: Tensor, prior: Tensor, known: Tensor, along: Tensor | None
    ) -> Tensor:
        """The fixed pixels before the model was asked: nothing, or what a person starts with."""
        draws, batch = self.draws, len(target)
        fixed = torch.full(target.shape, -1, device=target.device)
        # Where nothing is known the first stroke lies inside the object.
        mask = known[:, None, None] & (prior >= 0.5)[:, 0]
        new = strokes.next_strokes(mask != target, target, draws, along, elsewhere=0.5)
        asked = ~known | _chosen(PROMPTED, batch, draws)
        fixed = torch.where(asked[:, None, None], strokes.painted(fixed, new, target), fixed)
        boxed = _chosen(BOXED, batch, draws)[:, None, None] & ~strokes.box(target, draws)
        claimed = _chosen(CLAIMED, batch, draws)[:, None, None] & others
        return fixed.masked_fill((boxed | claimed) & (fixed < 0), 0)

    @torch.no_grad()
    def _outside(self, target: Tensor, fixed: Tensor) -> Tensor:
        """With strokes on the background in a share of the crops."""
        outside = strokes.next_strokes(~target, target, self.draws, elsewhere=1.0)
        outside &= _chosen(2 * BACKGROUND_STROKE, len(target), self.draws)[:, None, None]
        return strokes.painted(fixed, outside, target)

    @torch.no_grad()
    def _stroke(
        self, answer: Tensor, target: Tensor, fixed: Tensor, along: Tensor | None
    ) -> Tensor:
        """With a stroke on the errors of an answer."""
        errors = (answer >= 0.5)[:, 0] != target
        new = strokes.next_strokes(errors, target, self.draws, along)
        return strokes.painted(fixed, new, target)

    @torch.no_grad()
    def _answer(self, prior: Tensor, fixed: Tensor, entered: Tensor, *features: Tensor) -> Tensor:
        """The probability of one pass at T, [B, 1, C, C]."""
        refiner, image = self.model.refiner, ImageCondition(entered, list(features))
        with self.autocast():
            prior = clamp_fixed(prior, fixed)
            condition = refiner.combine(image, refiner.encode_prior(image, prior, fixed))
            logits = refiner(clamp_fixed(to_mask(prior), fixed), self.process.steps, condition)
        return clamp_fixed(logits.float().sigmoid(), fixed)

    def _along(self, seen: Seen) -> Tensor | None:
        return seen.slender if self._coin(ALONG) else None

    def _coin(self, share: float) -> bool:
        return bool(torch.rand((), generator=self.coins) < share)

    def _between(self, low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=self.coins))


def noisy(
    process: Process, target: Tensor, prior: Tensor, one_step: float, draws: Draws
) -> tuple[Tensor, Tensor]:
    """States y_t [B, 1, C, C] and their times int64 [B]: for a share ``one_step`` the start of the
    one-step pass, [f >= .5] at T, else y_t ~ q(y_t | y_0, f) at a time drawn from 1..T."""
    batch = len(target)
    start = draws.uniform(batch) < one_step
    t = 1 + (draws.uniform(batch) * process.steps).long()
    t = t.masked_fill(start, process.steps)
    y_0 = target[:, None].float()
    drawn = process.noisy(y_0, prior, t, draws.uniform(*y_0.shape)).to(prior.dtype)
    return torch.where(start[:, None, None, None], to_mask(prior), drawn), t


def prompted_loss(logits: Tensor, target: Tensor, several: Tensor) -> Tensor:
    """2 CE + soft Dice of the answer; and of the hypotheses the smallest, and a little the mean.

    logits : float32 [B, 1 + N, C, C]; target : bool [B, C, C]; several : bool [B], the crops whose
    hypotheses are trained. A scalar.
    """
    truth = target[:, None].float().expand_as(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean((2, 3))
    p = logits.sigmoid()
    overlap = 2 * (p * truth).sum((2, 3)) + 1
    losses = 2 * entropy + 1 - overlap / (p.sum((2, 3)) + truth.sum((2, 3)) + 1)
    answer, hypotheses = losses[:, 0].mean(), losses[:, 1:]
    if not hypotheses.shape[1]:
        return answer
    best = hypotheses.amin(1) + OTHERS * hypotheses.mean(1)
    return answer + (best * several).sum() / several.sum().clamp(min=1)


def _chosen(share: float, batch: int, draws: Draws) -> Tensor:
    return draws.uniform(batch) < share
