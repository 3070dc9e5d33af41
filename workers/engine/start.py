"""Where a run begins that continues a saved SAE: the SAE read, checked, and its weights taken.

Legend of shapes: B tokens, D input width, O target width, F latents.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .checkpoint import described
from .config import Architecture, Plan, StartSpec
from .failure import TrainingError
from .language_model import Site
from .normalize import Normalizer
from .sae import Sae
from .saved import Kind, SavedSae, open_sae
from .saved.continuing import CannotContinue, has_one_threshold, row_norms, starting
from .saved.folder import files_of
from .saved.hook_names import lens_name
from .saved.proof import digest_of


@dataclass(frozen=True)
class Start:
    """The SAE, and its `spec` with the digest of the files that were read."""

    sae: SavedSae
    spec: StartSpec

    @classmethod
    def read(cls, spec: StartSpec, plan: Plan) -> Start:
        """Raises `UnreadableSae`, or `TrainingError` where it is gone, changed or another kind."""
        if not spec.folder.is_dir():
            raise TrainingError(
                f"The SAE {spec.name}, which this training starts from, is not there any more "
                f"(its folder was {spec.folder}). Start from another SAE."
            )
        sae, digest = open_sae(spec.folder), content_digest(spec)
        if spec.digest and digest != spec.digest:
            raise TrainingError(
                f"The SAE {spec.name}, which this training started from, is another one now. "
                "Start a new training from it."
            )
        _check(sae, plan, spec.name)
        return cls(sae, spec.model_copy(update={"digest": digest}))


def content_digest(spec: StartSpec) -> str:
    """SHA-256 of what `sha256sum` prints for its configuration and its weights."""
    return digest_of({name: described(spec.folder / name) for name in files_of(spec.folder)})


@torch.no_grad()
def take_over(sae: Sae, saved: SavedSae, normalizer: Normalizer) -> None:
    """Give `sae` weights with which it computes in normalized space what `saved` does in raw space.

    With s and t the factors of input and target, and n the norms of the rows of W_dec:
    W_enc n t/s, b_enc n t, θ n t, W_dec / n, b_dec t and W_skip t/s. What takes the largest
    pre-activations has one n for all latents (`saved.continuing`), so it takes the same ones.
    """
    w, s, t = sae.weights, normalizer.scale_in, normalizer.scale_out
    assert isinstance(s, float)  # no crosscoder is continued
    assert isinstance(t, float)
    norm_F = row_norms(saved.W_dec)
    if saved.kind is Kind.TOPK or "threshold" in sae.activation.running:
        norm_F = norm_F.mean().expand_as(norm_F)
    if "threshold" in sae.activation.running and saved.threshold is not None:
        # One for all latents, those of other ranks too.
        saved = replace(saved, threshold=saved.threshold.mean().expand_as(saved.threshold))
    if not sae.ranks.alone:
        own = sae.ranks.share(saved.d_sae)
        saved, norm_F = _latents(saved, own), norm_F[own]
    w["W_dec"].copy_(saved.W_dec).div_(norm_F.float().to(w["W_dec"].device)[:, None])
    w["W_enc"].copy_(saved.W_enc.T).mul_((norm_F * (t / s)).float().to(w["W_enc"].device)[:, None])
    w["b_enc"].copy_(saved.b_enc * norm_F * t)
    w["b_dec"].copy_(saved.b_dec.double() * t)
    if "W_skip" in w:
        assert saved.W_skip is not None
        w["W_skip"].copy_(saved.W_skip.double() * (t / s))
    if saved.threshold is not None:
        _take_thresholds(sae, saved.threshold.clamp_min(0) * norm_F * t)


def _latents(sae: SavedSae, own: slice) -> SavedSae:
    """The same SAE with these latents alone."""
    threshold = None if sae.threshold is None else sae.threshold[own]
    return replace(
        sae,
        W_enc=sae.W_enc[:, own],
        b_enc=sae.b_enc[own],
        W_dec=sae.W_dec[own],
        threshold=threshold,
    )


def _take_thresholds(sae: Sae, threshold_F: Tensor) -> None:
    """Each latent's; the one that all have; in a gate the bias that opens at θ."""
    w, running = sae.weights, sae.activation.running
    if "threshold" in running:
        running["threshold"].copy_(threshold_F[0])
    elif "threshold" in w:
        w["threshold"].copy_(threshold_F)
    else:
        w["b_mag"].copy_(w["b_enc"])
        w["b_enc"].sub_(threshold_F.float().to(w["b_enc"].device))


def _check(sae: SavedSae, plan: Plan, name: str) -> None:
    """Whether a run with this plan can begin with it; what a run is asked with agrees with it."""
    try:
        starting(sae)
    except CannotContinue as error:
        raise TrainingError(f"{name} cannot be continued. {error}") from error
    h = plan.hyperparameters
    reads, writes = Site(plan.layer, h.hook), Site(plan.target_layer, plan.target_hook)
    widths = (sae.d_in, sae.d_sae, sae.d_out), (plan.d_in, plan.d_sae, plan.d_out)
    differs = {
        "widths": widths[0] != widths[1],
        "what it reads": sae.reads != reads,
        "what it writes": sae.writes != writes,
        "how its latents are activated": not _same_activation(sae, plan),
        "its normalization": sae.per_token != (h.normalize_activations == "layer_norm"),
        "its skip connection": not _same_skip(sae, plan),
    }
    wrong = [what for what, differs_here in differs.items() if differs_here]
    if wrong:
        assert sae.reads is not None
        raise TrainingError(
            f"{name} is not what this training was set up to continue: {', '.join(wrong)} differ. "
            f"It is a {sae.kind.value} SAE with {sae.d_sae:,} latents that reads "
            f"{lens_name(sae.reads)}."
        )


def _same_activation(sae: SavedSae, plan: Plan) -> bool:
    if plan.top_k is not None:
        return sae.kind is Kind.TOPK
    if plan.architecture.over_batch:
        return has_one_threshold(sae)
    jumps = plan.architecture in (Architecture.JUMPRELU, Architecture.GATED)
    return sae.kind is (Kind.JUMPRELU if jumps else Kind.RELU)


def _same_skip(sae: SavedSae, plan: Plan) -> bool:
    if plan.architecture is not Architecture.SKIP:
        return sae.W_skip is None
    return sae.W_skip is not None and (plan.learns_skip or sae.skips_by_identity)
