"""What Prometheus is told, read from the database whenever it asks.

Rows are the truth and any web process may be asked, so nothing is counted in a process.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from django.conf import settings
from django.db.models import Count, DurationField, ExpressionWrapper, F, Min
from django.db.models.functions import Now
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from trainings.models import (
    Dataset,
    LanguageModel,
    Rehearsal,
    SaeJob,
    Tokenization,
    Training,
    Worker,
)
from trainings.models.lease import LEASE

LABELS = ("training", "name")


def registry() -> CollectorRegistry:
    found = CollectorRegistry()
    found.register(Studio())
    return found


class Studio(Collector):
    """Gauges over trainings, queues, workers and the disk."""

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Empty: registering asks the database nothing."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield from _trainings()
        yield from _running()
        yield from _queues()
        yield from _workers()
        usage = shutil.disk_usage(settings.HOME)
        yield _one("saestudio_disk_free_bytes", "Free in the data folder.", usage.free)
        yield _one("saestudio_disk_total_bytes", "Size of its file system.", usage.total)


def _one(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, help_text, value=value)


def _trainings() -> Iterator[GaugeMetricFamily]:
    family = GaugeMetricFamily(
        "saestudio_trainings", "Trainings by their status.", labels=["status"]
    )
    counts = Training.objects.visible().by_status()
    for status in ("pending", "running", "completed", "failed", "stopped"):
        family.add_metric([status], counts.get(status, 0))
    yield family
    lost = Training.objects.lost().count()
    yield _one("saestudio_trainings_lost", "Running by their row, with a lease that ran out.", lost)


def _running() -> Iterator[GaugeMetricFamily]:
    families = {
        "step": GaugeMetricFamily("saestudio_training_step", "Steps done.", labels=LABELS),
        "tokens_per_second": GaugeMetricFamily(
            "saestudio_training_tokens_per_second", "At the last logged point.", labels=LABELS
        ),
        "loss": GaugeMetricFamily("saestudio_training_loss", "At the last point.", labels=LABELS),
        "lease": GaugeMetricFamily(
            "saestudio_training_lease_age_seconds",
            f"Since its supervisor renewed the lease; it is lost at {LEASE.total_seconds():.0f}.",
            labels=LABELS,
        ),
    }
    left = ExpressionWrapper(F("lease_expires_at") - Now(), output_field=DurationField())
    for run in Training.objects.visible().filter(status="running").annotate(lease_left=left):
        labels = [str(run.pk), run.name]
        families["step"].add_metric(labels, run.current_step)
        for name in ("tokens_per_second", "loss"):
            if (value := run.latest.get(name)) is not None:
                families[name].add_metric(labels, value)
        if run.lease_left is not None:
            families["lease"].add_metric(labels, (LEASE - run.lease_left).total_seconds())
    yield from families.values()


def _queues() -> Iterator[GaugeMetricFamily]:
    depth = GaugeMetricFamily("saestudio_queue_depth", "What waits for a worker.", labels=["queue"])
    depth.add_metric(["trainings"], Training.objects.queue().count())
    jobs = [rows.objects.claimable() for rows in (LanguageModel, Dataset, Tokenization)]
    waiting = sum(rows.count() for rows in (*jobs, Rehearsal.objects.claimable()))
    depth.add_metric(["jobs"], waiting + Training.objects.to_discard().count())
    depth.add_metric(["saes"], SaeJob.objects.claimable().count())
    yield depth
    oldest = (
        Training.objects.queue()
        .order_by()
        .aggregate(age=ExpressionWrapper(Now() - Min("queued_at"), output_field=DurationField()))[
            "age"
        ]
    )
    yield _one(
        "saestudio_queue_oldest_seconds",
        "How long the training waits that has waited longest.",
        oldest.total_seconds() if oldest else 0,
    )


def _workers() -> Iterator[GaugeMetricFamily]:
    family = GaugeMetricFamily(
        "saestudio_workers", "Workers seen in the last minute.", labels=["kind"]
    )
    counts = dict(Worker.objects.alive().order_by().values_list("kind").annotate(n=Count("pk")))
    for kind in Worker.Kind.values:
        family.add_metric([kind], counts.get(kind, 0))
    yield family
    yield from _gpus()


def _gpus() -> Iterator[GaugeMetricFamily]:
    """As their trainers last told; once each, however many share one."""
    labels = ["host", "gpu", "name"]
    used = GaugeMetricFamily(
        "saestudio_gpu_memory_used_bytes", "By all that uses the GPU.", labels=labels
    )
    total = GaugeMetricFamily("saestudio_gpu_memory_total_bytes", "Of the GPU.", labels=labels)
    told = Worker.objects.alive().exclude(gpus=[]).order_by("seen_at").values_list("host", "gpus")
    newest = {(host, gpu["uuid"]): gpu for host, gpus in told for gpu in gpus}
    for (host, uuid), gpu in sorted(newest.items()):
        used.add_metric([host, uuid, gpu["name"]], gpu["memory_used"])
        total.add_metric([host, uuid, gpu["name"]], gpu["memory_total"])
    yield used
    yield total
