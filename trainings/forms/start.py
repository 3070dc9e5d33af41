"""A training to start. Its hyperparameters come from `workers.engine.config`, which judges them."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from typing import Any, cast

from django import forms
from django.http import QueryDict

from trainings import sweeps
from trainings.continuing import settled, starting
from trainings.models import Sae, Tokenization
from trainings.models.transitions import Priority
from trainings.needs import Needs
from workers.engine.config import (
    FIELDS,
    Architecture,
    ConfigError,
    ModelFacts,
    Problem,
    StartingSae,
    TrainingConfig,
    check,
    sections,
    warnings,
)
from workers.engine.config.fields import show

from .hyper import hyper_field
from .vary import grid_of, place_of, varies, vary_bound, vary_fields

GROUPED = re.compile(r"\d{1,3}(,\d{3})+")


# How many GPUs is a hyperparameter.
_NEEDED = ("gpu_class", "gpu_memory_gb")
_NUMERIC = {"inputmode": "numeric", "autocomplete": "off", "spellcheck": "false"}

# More would be no width, and no whole number that is read.
MOST_DIGITS = 12


class StartForm(forms.Form):
    """A training to start. `config` is there once it is valid; `found` are its warnings.

    Where something varies it is a sweep: `asked`, and `made`, each of its trainings. `start` is
    there where it continues an SAE, `sae`; then it has no fields for what follows.
    """

    id = forms.UUIDField(widget=forms.HiddenInput)
    start_from = forms.CharField(required=False, widget=forms.HiddenInput)
    name = forms.CharField(
        max_length=255,
        required=False,
        label="Name",
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "aria-describedby": "start-name_helptext"}
        ),
    )
    tokenization = forms.ModelChoiceField(
        Tokenization.objects.none(), label="Source", empty_label=None
    )
    architecture = forms.ChoiceField(
        choices=[(a.value, a.label) for a in Architecture], label="Architecture"
    )
    layer = forms.ChoiceField(label="Layer")
    priority = forms.TypedChoiceField(
        choices=Priority.choices,
        coerce=int,
        required=False,
        label="Priority",
        help_text="Of the runs that wait, the higher one starts first.",
    )
    gpu_class = forms.CharField(
        required=False,
        max_length=100,
        label="GPU class",
        help_text="Part of its name, as H100.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    gpu_memory_gb = forms.FloatField(
        required=False,
        min_value=0,
        max_value=10_000,
        label="GPU memory",
        help_text="Of each GPU at least, in GB.",
        widget=forms.TextInput(attrs={**_NUMERIC, "inputmode": "decimal"}),
    )
    accepted = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, data: QueryDict) -> None:
        self.filled = data.copy()
        super().__init__(self.filled, auto_id="start-%s")
        self.found: list[Problem] = []
        self.config: TrainingConfig | None = None
        self.asked: sweeps.Asked | None = None
        self.made: list[sweeps.Member] = []
        self.sae: Sae | None = None
        self.start: StartingSae | None = None
        self._refused: list[Problem] = []
        self._continue()
        self.source = self._source()
        self.chosen = self._architecture_shown()
        self.filled.setdefault("priority", str(Priority.NORMAL.value))
        self._add_layers()
        if self.start and self.start.groups is not None:
            self.filled.setdefault("matryoshka_groups", str(self.start.groups))
        following = (*self.start.fixed, *self.start.unused) if self.start else ()
        for spec in FIELDS.values():
            if spec.applies_to(self.chosen) and spec.name not in following:
                self.fields[spec.name] = hyper_field(spec)
                self.filled.setdefault(spec.name, show(spec.default))
        self.fields |= vary_fields(self.chosen, ("architecture", *following) if self.start else ())
        if self.start and self.start.k is not None:
            name = "target_l0" if self.chosen.over_batch else "top_k_sparsity"
            own = f"as the SAE: K = {self.start.k:,}"
            self.fields[name].widget.attrs["placeholder"] = own

    @property
    def facts(self) -> ModelFacts | None:
        return self.source.model.facts if self.source else None

    @property
    def sections(self) -> list[dict[str, Any]]:
        """Bound hyperparameter fields by section, the usual ones apart from the advanced."""
        found = []
        for section, specs in sections().items():
            pairs = [(s, self[s.name]) for s in specs if s.name in self.fields]
            plain = [pair for pair in pairs if not pair[0].advanced]
            advanced = [pair for pair in pairs if pair[0].advanced]
            failed = any(field.errors for _, field in advanced)
            found.append(
                {"title": section.value, "plain": plain, "advanced": advanced, "open": failed}
            )
        return found

    @property
    def varied(self) -> list[forms.BoundField]:
        """Fields that take several values."""
        return vary_bound(self)

    @property
    def varies(self) -> bool:
        """Whether any of them is filled in."""
        return varies(self)

    @property
    def sweep_open(self) -> bool:
        return self.varies or bool(self["grid"].errors)

    @property
    def suggested_name(self) -> str:
        """Model, layer, architecture and width, as in `smollm2-135m-l5-jumprelu-8x`."""
        if self.source is None:
            return ""
        if self.sae:
            return f"{self.sae.name}-continued{'-sweep' * self.varies}"[:255]
        model = re.sub(r"[^a-z0-9.]+", "-", str(self.source.model).lower()).strip("-")
        place = f"{model}-l{self._layers()}"
        if self.varies:
            return f"{place}-sweep"[:255]
        name = f"{place}-{self.chosen.value}"
        return f"{name}-{self._width()}"[:255]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        self._add_problems(self._refused)
        if self.source is None or self._refused or not (self.start or "layer" in cleaned):
            return cleaned
        place = {} if self.start else {"architecture": self.chosen, "layer": cleaned["layer"]}
        try:
            asked = place | {"hyperparameters": self._hyperparameters()}
            self.config = settled(asked, self.source, self.sae)
            if grid := grid_of(cleaned):
                self.asked = sweeps.Asked(asked, grid)
                self.made = sweeps.members(self.asked, self.source, self.sae)
        except ConfigError as error:
            self._add_problems(error.problems)
            return cleaned
        if self.made:
            self.found = sweeps.found_warnings(self.made, self.source)
        elif self.facts is not None:
            self._add_problems(check(self.config, self.facts))
            self.found = warnings(self.config, self.facts, self.source.n_tokens)
        return cleaned

    def clean_name(self) -> str:
        return self.cleaned_data["name"].strip() or self.suggested_name

    @property
    def needs(self) -> Needs:
        """Of the worker; once the form is valid."""
        given = {name: self.cleaned_data.get(name) for name in _NEEDED}
        return Needs(**{name: value for name, value in given.items() if value})

    @property
    def names_needs(self) -> bool:
        """Whether any is filled in, or wrong."""
        return any(self[name].value() or self[name].errors for name in _NEEDED)

    @property
    def accepts_warnings(self) -> bool:
        """Whether every warning stood on the page when the button was pressed."""
        accepted = set(self.cleaned_data.get("accepted", "").split(","))
        return {problem.field for problem in self.found} <= accepted

    @property
    def warned_fields(self) -> str:
        return ",".join(problem.field for problem in self.found)

    def _continue(self) -> None:
        """Look for the SAE that is continued, if one is; then nothing else is to be chosen."""
        asked = str(self.filled.get("start_from", "")).strip()
        if not asked:
            return
        try:
            found = Sae.objects.to_continue(asked)
            self.start = starting(found)
            self.sae = found
        except ConfigError as error:
            self._refused = error.problems
            return
        for name in ("architecture", "layer"):
            del self.fields[name]

    def _source(self) -> Tokenization | None:
        """The tokenization that was chosen, or the newest ready one."""
        ready = Tokenization.objects.ready().filter(model__status="ready")
        if self.sae:
            ready = ready.filter(model=self.sae.language_model)
        ready = ready.select_related("model", "dataset")
        field: Any = self.fields["tokenization"]
        field.queryset, field.label_from_instance = ready, _source_label
        newest = ready.order_by("-created_at").first()
        self.filled.setdefault("tokenization", str(newest.pk) if newest else "")
        try:
            chosen = uuid.UUID(str(self.filled["tokenization"]))
        except ValueError:
            return None
        return cast("Tokenization | None", ready.filter(pk=chosen).first())

    def _architecture_shown(self) -> Architecture:
        """The one whose fields are shown; whether it was a valid choice, the field says."""
        if self.start:
            return self.start.architecture
        self.filled.setdefault("architecture", Architecture.STANDARD.value)
        value = str(self.filled["architecture"])
        return Architecture(value) if value in set(Architecture) else Architecture.STANDARD

    def _add_layers(self) -> None:
        if self.start:
            return
        depth = self.facts.n_layers if self.facts else 0
        field: Any = self.fields["layer"]
        field.choices = [(str(n), str(n)) for n in range(depth)]
        field.help_text = f"of {depth} decoder blocks, counted from 0"
        self.filled.setdefault("layer", str(depth // 2))

    def _layers(self) -> str:
        """As a name has them: 3, or of a crosscoder 3-5."""
        named = self["layers"].value() if "layers" in self.fields else ""
        first = str(self["layer"].value() or 0)
        if self.chosen.spans and not named:
            return f"{first}-{int(first) + 1}" if first.isdecimal() else first
        return "-".join(re.findall(r"\d+", str(named))) or first

    def _width(self) -> str:
        text = str(self["latent_dim"].value() or "").replace(",", "")
        if not text.isdecimal() or len(text) > MOST_DIGITS or not self.facts:
            return "8x"
        times = int(text) / self.facts.d_model
        return f"{times:g}x" if times.is_integer() else text

    def _hyperparameters(self) -> dict[str, Any]:
        """What was filled in, as text for pydantic to judge; empty means automatic or default."""
        given: dict[str, Any] = {}
        for name, spec in FIELDS.items():
            text = str(self.cleaned_data.get(name, "")).strip()
            if text:
                grouped = spec.kind != "list" and GROUPED.fullmatch(text)
                given[name] = text.replace(",", "") if grouped else text
            elif spec.optional and name in self.fields:
                given[name] = None
        return given

    def _add_problems(self, found: list[Problem]) -> None:
        for problem in found:
            place = place_of(problem, self.fields, self.asked.grid if self.asked else ())
            self.add_error(place if place not in ("", "start_from") else None, problem.message)


def texts(hyperparameters: Mapping[str, Any]) -> dict[str, str]:
    """Values as they stand in the form's fields; empty means automatic."""
    return {name: show(value) for name, value in hyperparameters.items() if name in FIELDS}


def _source_label(row: Tokenization) -> str:
    tokens = f"{row.n_tokens:,} tokens" if row.n_tokens else "tokens not counted"
    return f"{row.dataset} · {row.model} · context {row.context_length} · {tokens}"
