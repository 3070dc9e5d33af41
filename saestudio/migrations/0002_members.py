"""The group whose users may start trainings."""

from typing import Any

from django.conf import settings
from django.db import migrations


def make(apps: Any, _schema_editor: Any) -> None:
    apps.get_model("auth", "Group").objects.get_or_create(name="members")


class Migration(migrations.Migration):
    dependencies = [
        ("saestudio", "0001_api_tokens"),
        ("auth", "0012_alter_user_first_name_max_length"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [migrations.RunPython(make, migrations.RunPython.noop)]
