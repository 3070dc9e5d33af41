"""Training templates as an administrator sees them."""

from django.contrib import admin

from trainings.admin import Changed

from .models import TrainingTemplate


@admin.register(TrainingTemplate)
class TrainingTemplateAdmin(Changed):
    """Settings are changed where they are checked: on the page, or over the API."""

    list_display = (
        "name",
        "architecture",
        "owner",
        "is_favorite",
        "usage_count",
        "last_used_at",
        "updated_at",
    )
    list_filter = ("is_favorite", "architecture", "owner")
    search_fields = ("name", "description")
    list_select_related = ("owner",)
    fields = ("name", "description", "is_favorite", "owner", "architecture", "hyperparameters")
    readonly_fields = ("architecture", "hyperparameters")
