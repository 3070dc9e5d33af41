from typing import Any

from django.apps import AppConfig


class TemplatesAppConfig(AppConfig):
    name = "templates_app"
    verbose_name = "Training templates"

    def ready(self) -> None:
        from trainings import signals

        signals.started.connect(_count, dispatch_uid="template used")


def _count(sender: object, form: Any, **_: object) -> None:
    """A training that was started from a template counts as its use."""
    from .models import TrainingTemplate

    TrainingTemplate.objects.used(form.get("template", ""))
