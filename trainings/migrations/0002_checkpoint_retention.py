from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("trainings", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="checkpoint",
            name="fvu",
            field=models.FloatField(help_text="Of the last logged point before it.", null=True),
        ),
        migrations.AddField(
            model_name="checkpoint",
            name="pinned",
            field=models.BooleanField(
                default=False, help_text="Never deleted while the training is."
            ),
        ),
        migrations.AddField(
            model_name="checkpoint",
            name="set_aside",
            field=models.CharField(
                blank=True,
                help_text="Why it can no longer be used; empty if it can.",
                max_length=500,
            ),
        ),
    ]
