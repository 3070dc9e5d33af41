"""What of a sweep varies: for each setting a field that takes several values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django import forms
from django.http import QueryDict

from trainings import sweeps
from trainings.models import Sweep, Training
from trainings.sweeps import ARCHITECTURE, Asked, Member
from workers.engine.config import FIELDS, Architecture, ConfigError, Problem

PREFIX = "vary_"
# Where what is wrong with the combinations is said.
GRID = "grid"


def vary_fields(shown: Architecture, without: Iterable[str] = ()) -> dict[str, forms.Field]:
    """A field for each setting that may vary in trainings of this architecture."""
    names = [n for n in sweeps.OFFERED if n not in set(without) and _applies(n, shown)]
    grid = forms.CharField(required=False, label="Sweep", widget=forms.HiddenInput)
    return {PREFIX + name: _field(name) for name in names} | {GRID: grid}


def grid_of(cleaned: Mapping[str, Any]) -> dict[str, list[str]]:
    """The values of each setting that has some: what stands between the commas."""
    found = {}
    for name in sweeps.OFFERED:
        texts = [text.strip() for text in str(cleaned.get(PREFIX + name, "")).split(",")]
        if values := [text for text in texts if text]:
            found[name] = values
    return found


def place_of(problem: Problem, fields: Mapping[str, forms.Field], varied: Iterable[str]) -> str:
    """The field of the form at which it is shown; empty where it has none."""
    name = PREFIX + problem.field if problem.field in set(varied) else problem.field
    return name if name in fields else ""


class AddForm(forms.Form):
    """More trainings of a sweep. `made` are they, once it is valid."""

    def __init__(self, sweep: Sweep, first: Training, data: QueryDict | None = None) -> None:
        super().__init__(data, auto_id="add-%s")
        self.sweep = sweep
        self.first = first
        self.made: list[Member] = []
        # How many trainings there are once it was sent.
        self.total = 0
        shown = Architecture(first.architecture)
        # What follows from the SAE that they continue is no matter of choice.
        fixed = (ARCHITECTURE, "latent_dim") if first.origin else ()
        self.fields |= vary_fields(shown, fixed)

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        try:
            there, self.made = sweeps.added(self.sweep, self.asked)
            self.total = len(there) + len(self.made)
        except ConfigError as error:
            self.refuse(error)
        return cleaned

    def refuse(self, error: ConfigError) -> None:
        for problem in error.problems:
            place = place_of(problem, self.fields, self.asked.grid)
            self.add_error(place or None, problem.message)

    @property
    def asked(self) -> Asked:
        return Asked({}, grid_of(self.cleaned_data))

    @property
    def found(self) -> list[Problem]:
        """Warnings of any that would come, each once."""
        return sweeps.found_warnings(self.made, self.first.tokenization)

    @property
    def varies(self) -> bool:
        return varies(self)

    @property
    def varied(self) -> list[forms.BoundField]:
        return vary_bound(self)


def vary_bound(form: forms.Form) -> list[forms.BoundField]:
    return [form[name] for name in form.fields if name.startswith(PREFIX)]


def varies(form: forms.Form) -> bool:
    """Whether any of those fields has a value."""
    return any(str(field.value() or "").strip(" ,") for field in vary_bound(form))


def _applies(name: str, shown: Architecture) -> bool:
    return name == ARCHITECTURE or FIELDS[name].applies_to(shown)


def _field(name: str) -> forms.Field:
    if name == ARCHITECTURE:
        label, example = "architecture", f"Of {', '.join(Architecture)}."
    else:
        spec = FIELDS[name]
        # An abbreviation stays one.
        word = spec.label[1:2].islower()
        label = spec.label[:1].lower() + spec.label[1:] if word else spec.label
        example = f"Each {spec.range_text}." if spec.range_text else ""
    attrs = {"autocomplete": "off", "spellcheck": "false"}
    return forms.CharField(
        required=False,
        label=f"Vary {label}",
        help_text=example,
        widget=forms.TextInput(attrs=attrs),
    )
