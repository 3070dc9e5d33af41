"""Migrations only add: processes of the version before work on the new tables."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.apps import apps
from django.db import connection, migrations
from django.db.migrations.loader import MigrationLoader
from django.db.models import NOT_PROVIDED

OURS = ("trainings", "templates_app")
# What was there when the rule was made.
BEFORE = {"trainings": 10, "templates_app": 99}
ADDS = (
    migrations.CreateModel,
    migrations.AddIndex,
    migrations.AlterModelOptions,
    migrations.AlterModelManagers,
)


def later() -> Iterator[tuple[str, migrations.operations.base.Operation]]:
    """Operations of the migrations that the rule holds for."""
    loader = MigrationLoader(connection)
    for (app, name), migration in sorted(loader.disk_migrations.items()):
        if app in OURS and int(name[:4]) > BEFORE[app]:
            for operation in migration.operations:
                yield f"{app}.{name}: {operation.describe()}", operation


def harm(operation: migrations.operations.base.Operation) -> str:
    """What the version before cannot bear; empty where it can."""
    if isinstance(operation, ADDS):
        return ""
    if isinstance(operation, migrations.AddField):
        field = operation.field
        known = field.null or field.db_default is not NOT_PROVIDED or field.many_to_many
        return "" if known else "it inserts rows without the column"
    if isinstance(operation, migrations.AlterField):
        field = operation.field
        known = field.null or field.db_default is not NOT_PROVIDED or bool(field.choices)
        return "" if known else "it may write what the column does not take"
    return "it may use what is gone or renamed, or does not know what is done to its rows"


@pytest.mark.django_db
def test_every_migration_leaves_the_version_before_at_work() -> None:
    found = list(later())
    assert found, "there are migrations that the rule holds for"
    assert not [f"{said}: {reason}" for said, op in found if (reason := harm(op))]


def test_what_would_stop_it_is_found() -> None:
    field = apps.get_model("trainings", "Training")._meta.get_field("name").clone()
    for operation in (
        migrations.RemoveField("training", "name"),
        migrations.RenameField("training", "name", "title"),
        migrations.DeleteModel("Training"),
        migrations.AddField("training", "title", field),
        migrations.RunPython(migrations.RunPython.noop),
    ):
        assert harm(operation), operation.describe()
