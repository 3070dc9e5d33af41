"""The names that tools give to places in a model, and the places they mean."""

from __future__ import annotations

import re

from ..config.hyperparameters import Hook
from ..language_model import Site

# TransformerLens's names; what a block reads is what the block before it wrote.
_LENS = re.compile(r"blocks\.(\d+)\.hook_(resid_pre|resid_post|mlp_out|attn_out)")
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
    module = _MODULE.fullmatch(name)
    hook = _PARTS.get(module[2]) if module else None
    return Site(int(module[1]), hook) if module and hook else None


def lens_name(site: Site) -> str:
    """The name TransformerLens gives to the place."""
    return f"blocks.{site.layer}.hook_{site.hook}"


def module_name(site: Site) -> str:
    """The name sparsify gives to it: that of the module whose output it is, in a Llama's words."""
    part = {"resid_post": "", "mlp_out": ".mlp", "attn_out": ".self_attn"}[site.hook]
    return f"layers.{site.layer}{part}"
