"""What is to be done with an SAE: evaluated, features collected, a text read, an export written."""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import timedelta
from typing import Any, Self

from django.conf import settings
from django.db import IntegrityError, models, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from trainings import nudge

from . import catalog
from .lease import Leased, LeasedQuerySet, ago
from .sae import Sae

# A job that took its worker along twice will not get through by repeating.
MAX_INTERRUPTIONS = 2
# What a text activates is looked at once.
KEEP_PROBES = timedelta(days=7)
_TRIES = 3


class SaeJobQuerySet(LeasedQuerySet):
    def claimable(self) -> Self:
        """Not of a training that is being deleted."""
        return super().claimable().filter(sae__training__delete_requested_at=None)

    def wanted(self, pk: Any) -> bool:
        """Whether its SAE is there and not being deleted."""
        return self.filter(pk=pk, sae__training__delete_requested_at=None).exists()

    def unfinished(self) -> Self:
        return self.filter(status__in=(SaeJob.Status.PENDING, SaeJob.Status.RUNNING))

    def ask(
        self,
        sae: Sae,
        kind: SaeJob.Kind,
        tokenization: catalog.Tokenization,
        *,
        text: str = "",
        format: str = "",
        options: dict[str, Any] | None = None,
        owner: Any = None,
    ) -> SaeJob:
        """A job of this kind on this text; the one that is under way, if there is one."""
        key = _key(sae, kind, tokenization, text, format)
        asked = {"kind": kind, "tokenization": tokenization, "owner": owner, "step": sae.step}
        asked |= {"text": text, "format": format, "options": options or {}}
        for _ in range(_TRIES):
            try:
                with transaction.atomic():
                    job: SaeJob = self.create(sae=sae, key=key, **asked)
            except IntegrityError:
                under_way: SaeJob | None = self.unfinished().filter(sae=sae, key=key).first()
                if under_way:
                    return under_way
                continue  # it ended between the two: then this is a new one
            nudge.sae_job(job)
            return job
        raise Sae.DoesNotExist(f"The SAE {sae.pk} was deleted meanwhile.")

    def finish(self, pk: Any, attempt: int, result: dict[str, Any]) -> bool:
        done = {"progress": 1.0, "progress_note": "", "ended_at": Now()}
        return self.end(pk, attempt, SaeJob.Status.DONE, result=result, **done)

    def fail(self, pk: Any, attempt: int, message: str) -> bool:
        return self.end(pk, attempt, SaeJob.Status.FAILED, error_message=message, ended_at=Now())

    def hand_back(self, pk: Any, attempt: int) -> bool:
        """A worker that ends in good order leaves the job to the next one."""
        return self.end(pk, attempt, SaeJob.Status.PENDING, progress=0.0, progress_note="")

    def requeue_lost(self, pk: Any) -> bool:
        """A job whose worker vanished starts anew, a few times at most."""
        lost = self.lost().filter(pk=pk, interruptions__lt=MAX_INTERRUPTIONS)
        again = {"status": SaeJob.Status.PENDING, "lease_expires_at": None, "progress": 0.0}
        return bool(lost.update(interruptions=F("interruptions") + 1, **again))

    def give_up_lost(self, pk: Any, reason: str) -> bool:
        lost = self.lost().filter(pk=pk, interruptions__gte=MAX_INTERRUPTIONS)
        failed = {"status": SaeJob.Status.FAILED, "error_message": reason, "ended_at": Now()}
        return bool(lost.update(lease_expires_at=None, **failed))

    def dismiss(self, job: SaeJob) -> int:
        """Forget a failure, and those before it that it stands for. Returns how many.

        What an import was told is needed to try it again, so it stays.
        """
        if job.kind == SaeJob.Kind.IMPORT:
            return 0
        alike = {"kind": job.kind} if job.kind == SaeJob.Kind.PROBE else {"key": job.key}
        failed = self.filter(sae=job.sae_id, status=SaeJob.Status.FAILED, **alike)
        return failed.delete()[0] if job.status == SaeJob.Status.FAILED else 0

    def prune(self) -> int:
        """Forget probes of last week. Returns how many."""
        ended = self.exclude(status__in=(SaeJob.Status.PENDING, SaeJob.Status.RUNNING))
        return ended.filter(kind=SaeJob.Kind.PROBE, ended_at__lt=ago(KEEP_PROBES)).delete()[0]


class SaeJob(Leased):
    """One piece of work over one SAE, with its progress and what came of it."""

    class Kind(models.TextChoices):
        EVALUATE = "evaluate", "Evaluation"
        FEATURES = "features", "Features"
        PROBE = "probe", "Text"
        EXPORT = "export", "Export"
        IMPORT = "import", "Import"

    class Status(models.TextChoices):
        PENDING = "pending", "Pending"
        RUNNING = "running", "Running"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    sae = models.ForeignKey(Sae, models.CASCADE, related_name="jobs")
    kind = models.CharField(max_length=20, choices=Kind.choices)
    tokenization = models.ForeignKey(catalog.Tokenization, models.CASCADE, related_name="+")
    text = models.TextField(blank=True, default="", help_text="What a probe reads.")
    options = models.JSONField(default=dict, help_text="What an import was told.")
    step = models.PositiveIntegerField(
        default=0, help_text="Of the SAE when this was asked for; a later one is another SAE."
    )
    format = models.CharField(max_length=20, blank=True, default="")
    key = models.CharField(max_length=64, help_text="What it has in common with the same job.")
    status = models.CharField(max_length=20, choices=Status.choices, default=Status.PENDING)
    progress = models.FloatField(default=0.0, help_text="Share done, 0 to 1.")
    progress_note = models.CharField(max_length=255, blank=True, default="")
    interruptions = models.PositiveIntegerField(default=0)
    error_message = models.TextField(blank=True, default="")
    result = models.JSONField(default=dict)
    asked_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+"
    )

    objects = SaeJobQuerySet.as_manager()

    class Meta:
        db_table = "sae_jobs"
        ordering = ("-asked_at",)
        verbose_name = "SAE job"
        constraints = [
            models.UniqueConstraint(
                fields=("sae", "key"),
                condition=Q(status__in=("pending", "running")),
                name="sae_job_under_way_once",
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.sae}"

    @property
    def under_way(self) -> bool:
        return self.status in (self.Status.PENDING, self.Status.RUNNING)


def _key(
    sae: Sae, kind: SaeJob.Kind, tokenization: catalog.Tokenization, text: str, format: str
) -> str:
    """What two jobs have in common that are one: the SAE as it is now, and what is written.

    Features and exports are files in one place, whichever text they are made with.
    """
    one_place = kind in (SaeJob.Kind.FEATURES, SaeJob.Kind.EXPORT)
    on = "" if one_place else str(tokenization.pk)
    whole = json.dumps([kind, on, text, format, sae.path, sae.step])
    return hashlib.sha256(whole.encode()).hexdigest()
