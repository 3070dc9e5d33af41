from django.apps import AppConfig


class StudioConfig(AppConfig):
    name = "saestudio"
    verbose_name = "SAE Studio"
