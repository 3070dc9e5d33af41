from django.contrib import admin

from .models import TrainingTemplate


@admin.register(TrainingTemplate)
class TrainingTemplateAdmin(admin.ModelAdmin[TrainingTemplate]):
    list_display = ("name", "architecture", "is_favorite", "usage_count", "updated_at")
    list_filter = ("is_favorite", "architecture")
    search_fields = ("name", "description")
