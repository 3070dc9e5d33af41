"""The tables as an administrator sees them; metrics are too many to be listed.

What changes a training goes through the same transitions as on its page: state cannot be typed in,
and a row is not deleted before its files are.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from . import catalog, wishes
from .models import (
    Checkpoint,
    Dataset,
    LanguageModel,
    Rehearsal,
    Sae,
    Sweep,
    Tag,
    Tokenization,
    Training,
    Worker,
)
from .models.catalog import Prepared
from .wishes import Action


class Changed(admin.ModelAdmin[Any]):
    """Writes what was changed in the form and nothing else: workers write the rest meanwhile."""

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        columns = {field.name for field in obj._meta.concrete_fields}
        names = [name for name in form.changed_data if name in columns]
        if names:
            values = {name: getattr(obj, name) for name in names}
            type(obj)._default_manager.filter(pk=obj.pk).update(**values)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


class Kept(admin.ModelAdmin[Any]):
    """Rows that the studio makes itself: to be looked at."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Training)
class TrainingAdmin(Changed):
    """Name, notes, tags and owner can be changed; the rest happens by actions."""

    list_display = (
        "name",
        "shown_status",
        "owner",
        "architecture",
        "model",
        "layer",
        "sweep",
        "current_step",
        "priority",
        "attempt",
        "created_at",
        "completed_at",
    )
    list_filter = ("status", "architecture", "model", "owner", "tags", "created_at")
    search_fields = ("name", "id", "notes", "error_message")
    list_select_related = ("model", "owner", "sweep")
    date_hierarchy = "created_at"
    fields = ("name", "notes", "tags", "owner")
    autocomplete_fields = ("tags",)
    actions = ("stop", "resume", "retry", "retry_from_scratch", "delete_with_files")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Training]:
        return Training.objects.visible()

    def has_delete_permission(self, request: HttpRequest, obj: Training | None = None) -> bool:
        """By the action, which removes the files, too."""
        return False

    @admin.action(description="Stop: save a checkpoint and the SAE, then end")
    def stop(self, request: HttpRequest, chosen: QuerySet[Training]) -> None:
        self._act(request, "stop", chosen)

    @admin.action(description="Resume from the newest checkpoint")
    def resume(self, request: HttpRequest, chosen: QuerySet[Training]) -> None:
        self._act(request, "resume", chosen)

    @admin.action(description="Retry from the newest checkpoint")
    def retry(self, request: HttpRequest, chosen: QuerySet[Training]) -> None:
        self._act(request, "retry", chosen)

    @admin.action(description="Retry from scratch")
    def retry_from_scratch(self, request: HttpRequest, chosen: QuerySet[Training]) -> None:
        self._act(request, "retry", chosen, from_scratch=True)

    @admin.action(description="Delete with all files")
    def delete_with_files(self, request: HttpRequest, chosen: QuerySet[Training]) -> None:
        self._act(request, "delete", chosen)

    def _act(
        self,
        request: HttpRequest,
        action: Action,
        chosen: QuerySet[Training],
        *,
        from_scratch: bool = False,
    ) -> None:
        ids = list(chosen.values_list("pk", flat=True))
        outcomes = wishes.act(request.user, action, ids, from_scratch=from_scratch)
        for (done, message), n in Counter((o.done, o.message) for o in outcomes).items():
            level = messages.SUCCESS if done else messages.WARNING
            self.message_user(request, f"{n} × {message}", level)


@admin.register(Sweep)
class SweepAdmin(Changed):
    """Name and owner can be changed; it goes with the last of its trainings."""

    list_display = ("name", "owner", "created_at")
    list_filter = ("owner", "created_at")
    search_fields = ("name", "id")
    list_select_related = ("owner",)
    date_hierarchy = "created_at"
    fields = ("name", "owner", "asked")
    readonly_fields = ("asked",)

    def has_delete_permission(self, request: HttpRequest, obj: Sweep | None = None) -> bool:
        return False


class PreparedAdmin(Changed):
    """What a job prepares: it can be tried again, and deleted where nothing uses it."""

    actions = ("prepare_again", "delete_unused")
    readonly_fields = ("status", "progress", "progress_note", "error_message", "size_bytes")
    fields: ClassVar[Any] = ("name", "owner", *readonly_fields)
    list_select_related: ClassVar[Any] = ("owner",)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """By the action, which removes the files, too."""
        return False

    @admin.action(description="Prepare again what failed")
    def prepare_again(self, request: HttpRequest, chosen: QuerySet[Prepared]) -> None:
        done = sum(catalog.prepare_again(row) for row in chosen)
        self.message_user(request, f"{done} of {len(chosen)} are prepared again.")

    @admin.action(description="Delete with all files, unless in use")
    def delete_unused(self, request: HttpRequest, chosen: QuerySet[Prepared]) -> None:
        for row in chosen:
            reason = catalog.remove(row)
            level = messages.WARNING if reason else messages.SUCCESS
            self.message_user(request, reason or f"{row} was deleted.", level)


@admin.register(LanguageModel)
class LanguageModelAdmin(PreparedAdmin):
    list_display = ("name", "source", "architecture", "d_model", "n_layers", "status", "owner")
    list_filter = ("status", "source", "owner")
    search_fields = ("name", "location")


@admin.register(Dataset)
class DatasetAdmin(PreparedAdmin):
    list_display = ("name", "source", "n_documents", "status", "owner")
    list_filter = ("status", "source", "owner")
    search_fields = ("name", "location")


@admin.register(Tokenization)
class TokenizationAdmin(PreparedAdmin):
    list_display = ("dataset", "model", "context_length", "n_tokens", "status", "owner")
    list_filter = ("status", "model", "owner")
    search_fields = ("dataset__name", "model__name")
    list_select_related = ("dataset", "model", "owner")
    fields = ("owner", *PreparedAdmin.readonly_fields)


@admin.register(Tag)
class TagAdmin(Kept):
    list_display = ("name",)
    search_fields = ("name",)


@admin.register(Checkpoint)
class CheckpointAdmin(Kept):
    list_display = ("training", "step", "attempt", "fvu", "pinned", "size_bytes", "created_at")
    list_filter = ("pinned", "created_at")
    search_fields = ("training__name", "sha256")
    list_select_related = ("training",)


@admin.register(Rehearsal)
class RehearsalAdmin(Kept):
    list_display = ("__str__", "status", "beside_training", "asked_at", "ended_at")
    list_filter = ("status",)
    list_select_related = ("tokenization__dataset", "tokenization__model")


@admin.register(Sae)
class SaeAdmin(Kept):
    list_display = ("training", "step", "format", "path", "created_at")
    list_filter = ("format", "created_at")
    search_fields = ("training__name", "path")
    list_select_related = ("training",)


@admin.register(Worker)
class WorkerAdmin(Kept):
    list_display = ("kind", "host", "pid", "started_at", "seen_at")
    list_filter = ("kind", "host")
    search_fields = ("host",)
