"""HiDiff = segmentor + refiner + preprocessing + card: prior, refinement, estimate of its time."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from napari_hidiff.diffusion import process_of
from napari_hidiff.diffusion.samplers import Result, Step, clamp_fixed, stream
from napari_hidiff.engine.engine import Engine
from napari_hidiff.engine.precision import full_precision
from napari_hidiff.errors import InputError
from napari_hidiff.inference import preprocessing, prompted, resampling, tiling, weights
from napari_hidiff.inference.card import LARGEST_SCALE, SAMPLERS, Card, LocalRegion, Sampling
from napari_hidiff.inference.cost import Estimate, estimate, seconds_per_pixel
from napari_hidiff.inference.denoiser import ModelImage, TiledDenoiser
from napari_hidiff.inference.resampling import View
from napari_hidiff.masks import entropy, mask_of
from napari_hidiff.networks.refiner import Refiner
from napari_hidiff.networks.segmentor import pad_to_multiple
from napari_hidiff.networks.segmentor_registry import build_segmentor


class HiDiff:
    """A trained model. Images are [H, W] or [H, W, C] of any size and numeric dtype.

    Attributes
    ----------
    card : the :class:`Card`; classes : K, channels of a probability; labels : values of a mask.
    segmentor, refiner : torch modules in evaluation mode; process : the diffusion.
    device : torch.device; backend : the :class:`Engine` that runs the refiner.
    exported : whether it is an export for inference, whose binary weights are signs only.
    file, digest : name and digest of its file; empty for a model made in memory.

    engine : ``auto``, ``packed`` or ``torch``. Packed kernels are compiled by ``backend.prepare()``
    (:func:`load_model` calls it) from the weights at that time; until then torch runs.
    """

    def __init__(
        self,
        card: Card,
        segmentor: nn.Module,
        refiner: Refiner,
        device: torch.device | str = "cpu",
        engine: str = "torch",
    ) -> None:
        self.card, self.device = card, torch.device(device)
        self.classes, self.labels = card.outputs, len(card.classes)
        self.process = process_of(card.diffusion)
        self.intensity = preprocessing.Intensity(**card.intensity)
        self.segmentor = segmentor.to(self.device).eval().requires_grad_(False)
        self.refiner = refiner.to(self.device).eval().requires_grad_(False)
        self.backend = Engine(self.refiner, self.device, engine, self.process.binary)
        self.exported = weights.is_export(self.refiner)
        self.file = self.digest = ""
        self._seen = TiledDenoiser(self.segmentor, self.refiner)
        self._seconds: dict[str, tuple[float, float]] = {}

    @property
    def engine(self) -> str:
        """The engine of the next refinement, ``packed`` or ``torch``."""
        return self.backend.name

    @classmethod
    def create(cls, card: Card, seed: int = 0) -> "HiDiff":
        """An untrained model of the card's architecture; its refiner returns the prior."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            segmentor, refiner = networks(card)
        return cls(card, segmentor, refiner)

    def check_trainable(self) -> None:
        """InputError with one clear line if training cannot continue from this model's weights."""
        if self.exported:
            raise InputError(
                f"{self.card.name} is an export for inference: it holds signs where training needs "
                "weights; take the model that it was made from"
            )

    def check_image(self, image: np.ndarray) -> np.ndarray:
        """An image as the networks get it, but for the intensity rule: float32 [H, W, C].

        A prompted model reads any number of channels (:func:`preprocessing.any_channels`).
        InputError with one clear line if this model cannot read the image.
        """
        if self.card.prompted:
            image = preprocessing.any_channels(image, len(self.card.channels))
        return preprocessing.check_image(image, self.card.channels, self.card.slices)

    def check_prior(self, prior: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """A prior as the refiner's input, float32 [K, H, W] of ``size`` (H, W).

        prior : probabilities float [K, H, W], unchanged, or an integer mask [H, W], softened by
            the card's rule.

        InputError for another shape, unknown labels, or values that are no probabilities.
        """
        prior = np.asarray(prior)
        if prior.dtype.kind != "f":
            mask = preprocessing.check_labels(prior, size, self.labels, "prior mask")
            return preprocessing.soften(mask, self.classes, **self.card.soften)
        if prior.shape != (self.classes, *size):
            raise InputError(
                f"the prior has shape {prior.shape}, the image needs {(self.classes, *size)}"
            )
        if not (np.isfinite(prior).all() and prior.min() >= 0 and prior.max() <= 1):
            raise InputError("a prior holds probabilities between 0 and 1")
        return prior.astype(np.float32)

    def sampling(
        self,
        sampler: str | None = None,
        steps: int | None = None,
        samples: int | None = None,
        seed: int = 0,
        scale: float | None = None,
    ) -> Sampling:
        """A checked :class:`Sampling`; None = the card's default.

        InputError for an unknown sampler and for numbers out of range.
        """
        chosen = {"sampler": sampler, "steps": steps, "samples": samples}
        settings = self.card.defaults | {k: v for k, v in chosen.items() if v is not None}
        sampling = Sampling(**settings, seed=seed, scale=scale)
        if sampling.sampler not in SAMPLERS:
            raise InputError(
                f"the sampler must be one of {', '.join(SAMPLERS)}, not {sampling.sampler!r}"
            )
        if not 1 <= sampling.steps <= self.process.steps:
            raise InputError(f"steps must lie in 1..{self.process.steps}, not {sampling.steps}")
        if sampling.samples < 1:
            raise InputError(f"samples must be at least 1, not {sampling.samples}")
        if scale is not None and not 0 < scale <= LARGEST_SCALE:
            raise InputError(f"a scale lies between 0 and {LARGEST_SCALE:g}, not at {scale:g}")
        return sampling

    def mask_of(self, probability: np.ndarray, axis: int = -3) -> np.ndarray:
        """uint8 [..., H, W] from float [..., K, H, W]: >= .5 for K = 1, else the argmax.

        axis : that of the K classes; 0 for a volume [K, D, H, W].
        """
        return mask_of(probability, axis)

    def prior(
        self, image: np.ndarray, normalised: bool = False, scale: float | None = None
    ) -> np.ndarray:
        """The segmentor's probabilities f(x), float32 [K, H, W]; see also :func:`prompted.prior`.

        normalised : the image is normalised already, as a slice of a volume must be
        (:mod:`napari_hidiff.inference.volumes`). scale : see :meth:`steps`.
        """
        checked = self.check_image(image)
        if self.card.prompted:
            side, rule = self.card.longest_side, self.intensity
            return prompted.prior(self.segmentor, checked, side, rule)
        if (view := self.view(checked.shape[:2], scale)) is not None:
            return view.back(self.prior(view.image(checked), normalised, 1))
        with torch.inference_mode(), full_precision(self.device):
            picture = self._picture(checked, image, normalised)
            return self._seen.prior(picture)[0].float().cpu().numpy()

    def steps(
        self,
        image: np.ndarray,
        prior: np.ndarray | None = None,
        fixed: np.ndarray | None = None,
        sampler: str | None = None,
        steps: int | None = None,
        samples: int | None = None,
        seed: int = 0,
        normalised: bool = False,
        start: tuple[np.ndarray, int] | None = None,
        local: LocalRegion | None = None,
        scale: float | None = None,
    ) -> Iterator[Step]:
        """The steps of one refinement, streamed; None = the card's default.

        prior : probabilities float [K, H, W], an integer mask [H, W] (softened by the card's
            rule), or None for the segmentor's.
        fixed : int [H, W], -1 = free, else the label of the pixel in every step.
        sampler : ``one-step``, ``ddim`` or ``ancestral``; steps : 1..T; samples : masks drawn.
        normalised : see :meth:`prior`.
        start : an integer mask [H, W] and the time 1..T at which the sampler begins with it,
            instead of noise around the prior at T; not for the one-step sampler.
        local : refine only the surroundings of a stroke; the rest stays. Ignored if they are
            most of the image, and by a prompted model.
        scale : factor by which the image is resampled for the networks, 1 = not at all, None = by
            :meth:`Card.scale`. Arguments and steps are at full size, where a fixed pixel is exact.
            Ignored by a prompted model.

        A prompted model needs a stroke on the object, or a prior with one, and normalises the
        window that it looks at (:mod:`napari_hidiff.inference.prompted`).

        Raises
        ------
        InputError : an argument does not fit; raised at once, before anything is computed.
        """
        checked = self.check_image(image)
        size = checked.shape[:2]
        view = self.view(size, scale)
        given = None if prior is None else self._given(prior, size, view)
        labels = np.full(size, -1, np.int8) if fixed is None else fixed
        labels = preprocessing.check_labels(labels, size, self.labels, "fixed map")
        sampling = self.sampling(sampler, steps, samples, seed, scale)
        if start is not None:
            mask = preprocessing.check_labels(start[0], size, self.labels, "mask to start from")
            if not 1 <= start[1] <= self.process.steps:
                raise InputError(f"a start lies in 1..{self.process.steps}, not {start[1]}")
            start = mask, start[1]
        if local is not None and (
            local.where.shape != size or local.standing.shape != (self.classes, *size)
        ):
            raise InputError("what a local refinement is about does not have the image's size")
        small = labels.astype(np.int16)  # int64 would be most of the memory of a large image
        if self.card.prompted:
            given = self.prior(image)[0] if given is None else given
            return self._prompted(checked, given, small, sampling, start)
        if view is not None:
            return self._resampled(view, checked, given, small, sampling, normalised, start, local)
        picture = self._picture(checked, image, normalised)
        return self._steps(picture, given, small, sampling, start, local)

    def refine(
        self,
        image: np.ndarray,
        prior: np.ndarray | None = None,
        fixed: np.ndarray | None = None,
        sampler: str | None = None,
        steps: int | None = None,
        samples: int | None = None,
        seed: int = 0,
        normalised: bool = False,
        local: LocalRegion | None = None,
        scale: float | None = None,
    ) -> Result:
        """A whole refinement; arguments as for :meth:`steps`."""
        run = self.steps(
            image, prior, fixed, sampler, steps, samples, seed, normalised, None, local, scale
        )
        taken = list(run)
        probability = taken[-1].probability
        return Result(
            mask_of(probability),
            probability,
            entropy(probability),
            taken,
            taken[-1].engine,
        )

    def estimate(
        self,
        shape: tuple[int, ...],
        sampler: str | None = None,
        steps: int | None = None,
        samples: int | None = None,
        scale: float | None = None,
    ) -> Estimate:
        """The cost of refining an image of [H, W] = ``shape[:2]``; the first call measures."""
        sampling = self.sampling(sampler, steps, samples, scale=scale)
        engine = self.engine  # a thread may finish compiling meanwhile
        if engine not in self._seconds:
            how = self.backend.pick().refiner, self.card.inputs, self.process.steps
            self._seconds[engine] = seconds_per_pixel(self.segmentor, *how, self.device)
        seconds, size = self._seconds[engine], (shape[0], shape[1])
        seen = self.view(size, scale)
        return estimate(self.card, self.refiner, engine, size, sampling, seconds, seen)

    def save(self, path: Path | str, export: bool = False) -> None:
        """Write weights (float16) and card as one safetensors file, in place of an older one.

        export : for inference only, binary weights as bits; always so for a loaded export.
        InputError without binary weights, or if the file cannot be written.
        """
        parts = {"segmentor": self.segmentor, "refiner": self.refiner}
        weights.write(path, self.card, parts, export)

    def with_card(self, **changes: Any) -> "HiDiff":
        """The same networks under a changed card (scores, defaults)."""
        card = replace(self.card, **changes)
        changed = HiDiff(card, self.segmentor, self.refiner, self.device)
        changed.backend = self.backend
        return changed

    def _picture(self, checked: np.ndarray, image: np.ndarray, normalised: bool) -> ModelImage:
        rule = None if normalised else self.intensity
        return ModelImage(checked, np.asarray(image), rule, self.device)

    def _given(self, prior: np.ndarray, size: tuple[int, int], view: View | None) -> np.ndarray:
        """A prior as :meth:`check_prior` has it; [H, W] of a prompted model, whose masks are bool.

        A mask [H, W] that goes through a view stays one: it is softened at the other scale.
        """
        prior = np.asarray(prior)
        if (self.card.prompted or view is not None) and prior.dtype.kind != "f":
            mask = preprocessing.check_labels(prior, size, self.labels, "prior mask")
            return mask > 0 if self.card.prompted else mask
        checked = self.check_prior(prior, size)
        return checked[0] if self.card.prompted else checked

    def view(self, size: tuple[int, int], scale: float | None) -> View | None:
        """How an image of ``size`` (H, W) is resampled, see :meth:`steps`; None = not at all."""
        return resampling.whole(self.card, size, scale)

    def _resampled(
        self,
        view: View,
        image: np.ndarray,
        prior: np.ndarray | None,
        fixed_map: np.ndarray,
        sampling: Sampling,
        normalised: bool,
        start: tuple[np.ndarray, int] | None,
        local: LocalRegion | None,
    ) -> Iterator[Step]:
        """The steps at full size of an image that the networks see through a view."""
        seen = view.image(image)
        if prior is None:  # at full size too, as everywhere else
            prior = view.back(self.prior(seen, normalised, 1))
        near = None if local is None else view.local(local)
        run = self.steps(
            seen,
            view.prior(prior, self.classes, self.card.soften),
            view.fixed(fixed_map),
            **sampling.drawing,
            normalised=normalised,
            start=None if start is None else (view.mask(start[0], self.classes), start[1]),
            local=near,
            scale=1,
        )
        standing = None if near is None or local is None else (near.standing, local.standing)
        yield from (view.pasted(step, fixed_map, standing=standing) for step in run)

    def _prompted(
        self,
        image: np.ndarray,
        prior: np.ndarray | None,
        fixed_map: np.ndarray,
        sampling: Sampling,
        start: tuple[np.ndarray, int] | None,
    ) -> Iterator[Step]:
        """The steps of a prompted model; image float32 [H, W, C], prior as :meth:`_given`."""

        def ask(
            view: np.ndarray, prior: np.ndarray | None, fixed: np.ndarray, mask: np.ndarray | None
        ) -> Iterator[Step]:
            picture = self._picture(view, view, normalised=False)
            begin = None if start is None or mask is None else (mask, start[1])
            return self._steps(picture, prior, fixed, sampling, begin, None)

        prompt = prompted.Prompt(prior, fixed_map, None if start is None else start[0])
        return prompted.steps(ask, image, prompt, self.card.longest_side, self.card.soften)

    def _steps(
        self,
        picture: ModelImage,
        own_prior: np.ndarray | None,
        fixed_map: np.ndarray,
        sampling: Sampling,
        start: tuple[np.ndarray, int] | None,
        local: LocalRegion | None,
    ) -> Iterator[Step]:
        name, refiner = self.backend.pick()
        # Inference mode belongs to a thread, and a generator may change threads between steps:
        # it is entered for every step and left before every yield.
        with torch.inference_mode(), full_precision(self.device):
            if own_prior is None:
                prior = self._seen.prior(picture)
            else:
                prior = torch.from_numpy(own_prior)[None].to(self.device)
            fixed = torch.from_numpy(fixed_map).to(self.device)
            prior = clamp_fixed(prior, fixed)
            padded = pad_to_multiple(torch.cat([prior, fixed[None, None].to(prior.dtype)], 1))

        surroundings = None if local is None else tiling.surroundings(local, **self.card.local)
        denoise = self._seen.denoiser(refiner, picture, padded, surroundings)
        begin = None
        if start is not None:
            nothing, mask = torch.zeros_like(prior[0]), torch.from_numpy(start[0])
            begin = clamp_fixed(nothing, mask.to(self.device)), start[1]
        run = stream(self.process, denoise, prior[0], fixed, **sampling.drawing, start=begin)
        while True:
            with torch.inference_mode(), full_precision(self.device):
                step = next(run, None)
            if step is None:
                return
            yield replace(step, engine=name)


def networks(card: Card) -> tuple[nn.Module, Refiner]:
    """Untrained segmentor and refiner of the card's architecture, from the global generator."""
    segmentor = build_segmentor(channels=card.inputs, classes=card.outputs, **card.segmentor)
    steps = process_of(card.diffusion).steps
    refiner = Refiner(
        card.inputs, card.outputs, segmentor.feature_channels, steps=steps, **card.refiner
    )
    return segmentor, refiner
