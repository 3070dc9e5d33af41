"""What a user writes about a training: its name, its tags, notes."""

from __future__ import annotations

from django import forms
from django.core.exceptions import ValidationError

from trainings.models import Tag, Training, tag
from trainings.models.training import MAX_NOTES


class NotesForm(forms.ModelForm):  # type: ignore[type-arg]
    """Name, tags with commas between them, and notes of one training."""

    tags = forms.CharField(
        required=False,
        help_text="With commas between them.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "list": "known-tags"}),
    )

    class Meta:
        model = Training
        fields = ("name", "notes")
        widgets = {"notes": forms.Textarea(attrs={"rows": 8, "maxlength": MAX_NOTES})}

    field_order = ("name", "tags", "notes")

    def __init__(self, data: object, *, instance: Training) -> None:
        super().__init__(data, instance=instance, auto_id="notes-%s")  # type: ignore[arg-type]
        self.initial["tags"] = ", ".join(instance.tag_names)
        self.fields["notes"].required = False

    @property
    def known_tags(self) -> list[str]:
        return list(Tag.objects.used().values_list("name", flat=True))

    def clean_tags(self) -> list[str]:
        names = tag.split(self.cleaned_data["tags"])
        if found := tag.problem(names):
            raise ValidationError(found)
        return names

    def clean_notes(self) -> str:
        # A browser counts a new line as one character and sends two.
        notes: str = self.cleaned_data["notes"].replace("\r\n", "\n")
        if len(notes) > MAX_NOTES:
            raise ValidationError(f"At most {MAX_NOTES:,} characters; these are {len(notes):,}.")
        return notes

    def keep(self) -> None:
        """Write these columns alone: a worker writes the others meanwhile."""
        words = {name: self.cleaned_data[name] for name in ("name", "notes")}
        Training.objects.filter(pk=self.instance.pk).update(**words)
        Tag.objects.give(self.instance, self.cleaned_data["tags"])
