"""SAEs from elsewhere: asked for, and removed again."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from django.db import transaction

from . import store
from .models import Sae, SaeJob
from .wishes import unless_gone

MAX_NAME = 255


@transaction.atomic
def ask(asked: Mapping[str, Any], owner: Any) -> Sae:
    """The row of an SAE that a job will take in; `asked` is what `ImportForm` cleaned."""
    subfolder = asked.get("subfolder", "").strip("/")
    place = "/".join(part for part in (asked["location"], subfolder) if part)
    sae = Sae(
        own_name=(asked.get("name") or place.rstrip("/").rsplit("/", 1)[-1])[:MAX_NAME],
        own_model=asked["tokenization"].model,
        own_text=asked["tokenization"],
        location=place,
        ready=False,
        owner=owner,
    )
    sae.path = str(sae.home / "sae")
    sae.save(force_insert=True)
    again(
        sae,
        {name: asked.get(name) for name in ("source", "revision", "layer", "hook")}
        | {
            "location": asked["location"],
            "subfolder": subfolder,
        },
    )
    return sae


def again(sae: Sae, options: Mapping[str, Any]) -> SaeJob:
    return SaeJob.objects.ask(
        sae, SaeJob.Kind.IMPORT, sae.text, options=dict(options), owner=sae.owner
    )


def remove(sae: Sae) -> None:
    """Row and files of one that was imported; a training's goes with its training."""
    assert sae.training is None
    home = sae.home  # a deleted row has no id
    sae.delete()
    shutil.rmtree(home, onerror=unless_gone)
    store.discard_later(home)
