"""Tells another service that a training has ended, at `SAESTUDIO_WEBHOOK_URL`.

At least once: the row remembers what was told, and the sweeper has it told until the service has
answered with 2xx, for a day.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from datetime import timedelta
from typing import Any

import httpx
from django.conf import settings
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now
from django.urls import reverse

from .models import Training
from .models.transitions import ENDED

TIMEOUT_SECONDS = 10.0
TRIED_FOR = timedelta(days=1)
SIGNATURE = "X-SAEStudio-Signature"
logger = logging.getLogger(__name__)


def untold() -> QuerySet[Training]:
    """Runs whose end the service has not heard of; none where there is no service."""
    if not settings.WEBHOOK_URL:
        return Training.objects.none()
    news = Q(told_at=None) | Q(told_at__lt=F("completed_at"))
    recent = Q(status__in=ENDED, completed_at__gt=Now() - TRIED_FOR)
    found: QuerySet[Training] = Training.objects.visible().filter(news & recent)
    return found


def tell() -> None:
    """Send every end that is untold, the oldest first, until one is not taken."""
    for run in untold().select_related("model", "dataset", "sae").order_by("completed_at"):
        if not _send(run):
            return
        # The end that was told: by its attempt, since two databases write a time in two ways.
        same = Training.objects.filter(pk=run.pk, attempt=run.attempt, status=run.status)
        same.update(told_at=Now())


def _send(run: Training) -> bool:
    """Whether the service took this run's end."""
    body = json.dumps(message(run)).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "SAE-Studio"}
    if settings.WEBHOOK_SECRET:
        headers[SIGNATURE] = signature(body)
    try:
        answer = httpx.post(
            settings.WEBHOOK_URL, content=body, headers=headers, timeout=TIMEOUT_SECONDS
        )
        answer.raise_for_status()
    except httpx.HTTPStatusError as error:
        logger.warning("The webhook answered %s; tried again", error.response.status_code)
        return False
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # Not its words: they hold the address, which may be a secret.
        logger.warning("The webhook cannot be reached (%s); tried again", type(error).__name__)
        return False
    return True


def signature(body: bytes) -> str:
    """HMAC-SHA256 of the body under `SAESTUDIO_WEBHOOK_SECRET`, as `sha256=<hex>`."""
    key = settings.WEBHOOK_SECRET.encode()
    return "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest()


def message(run: Training) -> dict[str, Any]:
    """What is sent; `text` is a sentence, which Slack and Mattermost show as it is."""
    sae = getattr(run, "sae", None)
    evaluation = sae.evaluation if sae else {}
    measured = {name: evaluation.get(name) for name in ("fvu", "l0", "alive_fraction", "tokens")}
    address = settings.PUBLIC_URL + reverse("training", args=[run.pk])
    return {
        "event": f"training.{run.status}",
        "text": _sentence(run, evaluation, address if settings.PUBLIC_URL else ""),
        "training": {
            "id": str(run.pk),
            "name": run.name,
            "status": run.status,
            "attempt": run.attempt,
            "model": run.model.name,
            "dataset": run.dataset.name,
            "layer": run.layer,
            "architecture": run.architecture,
            "current_step": run.current_step,
            "num_steps": run.num_steps,
            "final_loss": run.final_loss,
            "evaluation": measured if evaluation else None,
            "sae_path": run.sae_path,
            "error_message": run.error_message,
            "started_at": run.started_at and run.started_at.isoformat(),
            "completed_at": run.completed_at and run.completed_at.isoformat(),
            "url": address if settings.PUBLIC_URL else None,
        },
    }


def _sentence(run: Training, evaluation: dict[str, Any], address: str) -> str:
    """One line: what ended, how, and how good it is or why it failed."""
    words = f"{run.name} {'failed' if run.status == 'failed' else f'is {run.status}'}"
    if run.error_message:
        words += f": {run.error_message.splitlines()[0]}"
    elif evaluation.get("fvu") is not None:
        words += f": FVU {evaluation['fvu']:.3f} at L0 {evaluation['l0']:.1f}"
    for sign, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        words = words.replace(sign, name)  # else Slack reads `<!channel>` as a call to everybody
    return f"{words} {address}".strip()
