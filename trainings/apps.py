from django.apps import AppConfig
from django.db.models.signals import post_migrate


class TrainingsConfig(AppConfig):
    name = "trainings"
    verbose_name = "Trainings"

    def ready(self) -> None:
        from .models import release

        post_migrate.connect(release.keep, sender=self)
