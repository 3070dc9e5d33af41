"""The names that tools give to places in a model, and the places they mean."""

from __future__ import annotations

import re
from typing import Any

from ..config.hyperparameters import Hook
from ..language_model import Site
from .sae import SavedSae

# TransformerLens's names; what a block reads is what the block before it wrote.
_LENS = re.compile(r"blocks\.(\d+)\.hook_(resid_pre|resid_post|mlp_out|attn_out)")
# An MLP's input, behind the norm with its gain: the name that circuit-tracer, SAELens's
# HookedSAETransformer and TransformerLens's bridge have for it. What a plain HookedTransformer
# has lies before the gain (`ln2.hook_normalized`) or before the norm (`hook_mlp_in`): other
# places, so their names are neither written nor read.
_MLP_IN = re.compile(r"blocks\.(\d+)\.mlp\.hook_in")
# Names of modules: whatever stands before the list of blocks, its index, and a part of the block.
_MODULE = re.compile(r"(?:[\w.]*\.)?(?:layers|h|blocks)\.(\d+)(?:\.(\w+))?")
_PARTS: dict[str | None, Hook] = {
    None: "resid_post",
    "mlp": "mlp_out",
    "feed_forward": "mlp_out",
    "self_attn": "attn_out",
    "attn": "attn_out",
    "attention": "attn_out",
}


def site_of(name: str) -> Site | None:
    """The place that a hook name of TransformerLens, or a module's name, means; None if unknown."""
    if lens := _LENS.fullmatch(name):
        layer, place = int(lens[1]), lens[2]
        if place != "resid_pre":
            return Site(layer, place)  # type: ignore[arg-type]
        return Site(layer - 1, "resid_post") if layer else None
    if mlp_in := _MLP_IN.fullmatch(name):
        return Site(int(mlp_in[1]), "mlp_in")
    module = _MODULE.fullmatch(name)
    hook = _PARTS.get(module[2]) if module else None
    return Site(int(module[1]), hook) if module and hook else None


def lens_name(site: Site) -> str:
    """The name TransformerLens, or those who work with it, give to the place."""
    if site.hook == "mlp_in":
        return f"blocks.{site.layer}.mlp.hook_in"
    return f"blocks.{site.layer}.hook_{site.hook}"


def module_name(site: Site) -> str:
    """The name sparsify gives to it: that of the module whose output it is, in a Llama's words."""
    part = {"resid_post": "", "mlp_out": ".mlp", "attn_out": ".self_attn"}[site.hook]
    return f"layers.{site.layer}{part}"


def read_by_module(site: Site) -> Site | None:
    """The place that the module reads whose output is `site`; None where that has no name here."""
    if site.hook == "mlp_out":
        return Site(site.layer, "mlp_in")
    return Site(site.layer - 1, "resid_post") if site.hook == "resid_post" and site.layer else None


def metadata_with_hooks(sae: SavedSae) -> dict[str, Any]:
    """Its metadata, and in TransformerLens's words where it reads and, if elsewhere, writes."""
    found = dict(sae.metadata)
    if sae.reads:
        found["hook_name"] = lens_name(sae.reads)
    if sae.writes and (sae.is_transcoder or sae.W_skip is not None):
        found["hook_name_out"] = lens_name(sae.writes)
    elif sae.writes:
        found.pop("hook_name_out", None)
    if sae.across:
        found["hook_names"] = [lens_name(site) for site in sae.across]
    return found
