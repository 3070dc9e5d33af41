import uuid

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("trainings", "0002_checkpoint_retention")]

    operations = [
        migrations.CreateModel(
            name="Rehearsal",
            fields=[
                ("attempt", models.PositiveIntegerField(default=0)),
                ("worker", models.CharField(blank=True, default="", max_length=255)),
                ("lease_expires_at", models.DateTimeField(blank=True, null=True)),
                (
                    "id",
                    models.UUIDField(
                        default=uuid.uuid4, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("digest", models.CharField(max_length=64, unique=True)),
                ("configuration", models.JSONField()),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("running", "Measuring"),
                            ("done", "Measured"),
                            ("failed", "Failed"),
                        ],
                        default="pending",
                        max_length=50,
                    ),
                ),
                ("interruptions", models.PositiveIntegerField(default=0)),
                ("error_message", models.TextField(blank=True, default="")),
                ("figures", models.JSONField(default=dict, help_text="What the engine measured.")),
                (
                    "beside_training",
                    models.BooleanField(
                        default=False, help_text="Whether a training ran while this was measured."
                    ),
                ),
                (
                    "asked_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
                ),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                (
                    "tokenization",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="trainings.tokenization",
                    ),
                ),
            ],
            options={"db_table": "rehearsals", "ordering": ("-asked_at",)},
        ),
    ]
