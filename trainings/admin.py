"""The tables as an administrator sees them; metrics are too many to be listed."""

from django.contrib import admin

from .models import Checkpoint, Dataset, LanguageModel, Rehearsal, Sae, Tokenization, Training


@admin.register(Training)
class TrainingAdmin(admin.ModelAdmin[Training]):
    list_display = (
        "name",
        "status",
        "priority",
        "architecture",
        "model",
        "layer",
        "current_step",
        "created_at",
    )
    list_filter = ("status", "architecture")
    search_fields = ("name", "id")
    list_select_related = ("model",)


@admin.register(LanguageModel)
class LanguageModelAdmin(admin.ModelAdmin[LanguageModel]):
    list_display = ("name", "source", "architecture", "d_model", "n_layers", "status")
    list_filter = ("status", "source")
    search_fields = ("name", "location")


@admin.register(Dataset)
class DatasetAdmin(admin.ModelAdmin[Dataset]):
    list_display = ("name", "source", "n_documents", "status")
    list_filter = ("status", "source")
    search_fields = ("name", "location")


@admin.register(Tokenization)
class TokenizationAdmin(admin.ModelAdmin[Tokenization]):
    list_display = ("dataset", "model", "context_length", "n_tokens", "status")
    list_filter = ("status",)
    list_select_related = ("dataset", "model")


@admin.register(Checkpoint)
class CheckpointAdmin(admin.ModelAdmin[Checkpoint]):
    list_display = ("training", "step", "attempt", "fvu", "pinned", "size_bytes", "created_at")
    list_filter = ("pinned",)
    list_select_related = ("training",)


@admin.register(Rehearsal)
class RehearsalAdmin(admin.ModelAdmin[Rehearsal]):
    list_display = ("__str__", "status", "beside_training", "asked_at", "ended_at")
    list_filter = ("status",)
    list_select_related = ("tokenization__dataset", "tokenization__model")


@admin.register(Sae)
class SaeAdmin(admin.ModelAdmin[Sae]):
    list_display = ("training", "step", "format", "path", "created_at")
    list_select_related = ("training",)
