from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("templates_app", "0003_owner"),
    ]

    operations = [
        migrations.AlterField(
            model_name="trainingtemplate",
            name="architecture",
            field=models.CharField(
                blank=True,
                choices=[
                    ("standard", "Standard"),
                    ("jumprelu", "JumpReLU"),
                    ("skip", "Skip"),
                    ("transcoder", "Transcoder"),
                    ("batchtopk", "BatchTopK"),
                    ("matryoshka", "Matryoshka BatchTopK"),
                    ("gated", "Gated"),
                    ("p_annealed", "P-annealed"),
                    ("crosscoder", "Crosscoder"),
                ],
                help_text="Empty: the settings are for any.",
                max_length=50,
            ),
        ),
    ]
