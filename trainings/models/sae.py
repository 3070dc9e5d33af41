"""What a training is for, the sparse autoencoder it left behind; and those from elsewhere."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.text import slugify

from workers.engine.config import Architecture, ConfigError, Plan, Problem, places
from workers.engine.config.sae_job import FEATURES_FILE, FORMATS

from .catalog import LanguageModel, Tokenization
from .owner import owned

# What an SAE reads where nothing else is said.
USUAL_HOOK = "resid_post"


class SaeQuerySet(models.QuerySet[Any]):
    def visible(self) -> Self:
        """Not of a training that is being deleted, with what a page says of each."""
        related = ("training__model", "training__dataset", "training__tokenization")
        own = ("own_model", "own_text__dataset", "own_text__model", "owner", "training__owner")
        found = self.filter(training__delete_requested_at=None)
        return found.select_related(*related, *own)

    def of_model(self, model: Any) -> Self:
        return self.filter(Q(training__model=model) | Q(own_model=model))

    def of_architecture(self, architecture: str) -> Self:
        """As the API writes it: of a training its value, of one that was imported its words."""
        own = Q(training=None, facts__architecture=architecture)
        return self.filter(Q(training__architecture=architecture) | own)

    def at_layer(self, layer: int) -> Self:
        return self.filter(Q(training__layer=layer) | Q(training=None, facts__layer=layer))

    def reading(self, hook: str) -> Self:
        """What they read at their layer; where nothing is said, that is the block's output."""
        found = Q(training__hyperparameters__hook=hook) | Q(training=None, facts__hook=hook)
        if hook == USUAL_HOOK:
            silent = ~Q(training__hyperparameters__has_key="hook")
            found |= Q(training__isnull=False) & silent
        return self.filter(found)

    def imported(self, imported: bool) -> Self:
        return self.filter(training__isnull=imported)

    def to_continue(self, pk: Any) -> Sae:
        """The one that a training starts from. Raises `ConfigError` where there is none."""
        try:
            found: Sae | None = self.visible().filter(pk=uuid.UUID(str(pk))).first()
        except ValueError:
            found = None
        if found is None:
            raise ConfigError([Problem("start_from", "There is no such SAE (any more).")])
        return found


class Sae(models.Model):
    """An exported SAE: its folder, and what it does on tokens it never saw.

    One that was trained here has name, model and text from its training. One that was imported has
    them in columns of its own, and `facts` (`workers.engine.saved.importing.facts`) once it is
    `ready`.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    training = models.OneToOneField(
        "trainings.Training", models.CASCADE, related_name="sae", null=True, blank=True
    )
    path = models.CharField(max_length=500)
    format = models.CharField(max_length=50)
    step = models.PositiveIntegerField(default=0)
    evaluation = models.JSONField(default=dict)
    export = models.JSONField(default=dict)
    created_at = models.DateTimeField(db_default=Now())

    own_name = models.CharField(max_length=255, blank=True, default="", db_default="")
    own_model = models.ForeignKey(
        LanguageModel, models.PROTECT, null=True, blank=True, related_name="imported_saes"
    )
    own_text = models.ForeignKey(
        Tokenization, models.PROTECT, null=True, blank=True, related_name="imported_saes"
    )
    location = models.CharField(
        max_length=500,
        blank=True,
        default="",
        db_default="",
        help_text="The folder, or repository and folder, that it was imported from.",
    )
    facts = models.JSONField(default=dict, db_default=models.Value({}, models.JSONField()))
    ready = models.BooleanField(default=True, db_default=True)
    owner = owned()

    objects = SaeQuerySet.as_manager()

    class Meta:
        db_table = "saes"
        ordering = ("-created_at",)
        verbose_name = "SAE"

    def __str__(self) -> str:
        return f"SAE of {self.training}" if self.training else self.own_name

    @property
    def name(self) -> str:
        return self.training.name if self.training else self.own_name

    @property
    def file_stem(self) -> str:
        """Its name as that of a file, without an ending."""
        return slugify(self.name) or str(self.id)

    @property
    def origin(self) -> dict[str, Any]:
        """What a training that starts from it keeps of it."""
        return {"id": str(self.pk), "name": self.name, "path": self.path, "step": self.step}

    @property
    def hook(self) -> str:
        """What it reads at the layer."""
        if self.training:
            return str(self.training.hyperparameters.get("hook", USUAL_HOOK))
        return str(self.facts.get("hook", USUAL_HOOK))

    @property
    def language_model(self) -> LanguageModel:
        model: LanguageModel | None = self.training.model if self.training else self.own_model
        assert model is not None
        return model

    @property
    def text(self) -> Tokenization:
        """What it is evaluated on where nobody says otherwise."""
        text: Tokenization | None = self.training.tokenization if self.training else self.own_text
        assert text is not None
        return text

    @property
    def layer(self) -> int | None:
        """The layer it reads; None until an import has found out."""
        layer: int | None = self.training.layer if self.training else self.facts.get("layer")
        return layer

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers it reads, more than one if it is a crosscoder; none before it is known."""
        if self.training:
            return self.training.layers
        one = () if self.layer is None else (self.layer,)
        return tuple(self.facts.get("layers", one))

    @property
    def where(self) -> str:
        """Where it reads, in words; empty before it is known."""
        return places(self.layers) if self.layers else ""

    @property
    def spans(self) -> bool:
        """Whether it is a crosscoder."""
        return len(self.layers) > 1

    @property
    def architecture(self) -> str:
        """As a page writes it."""
        if self.training:
            return Architecture(self.training.architecture).label
        return str(self.facts.get("architecture", ""))

    @property
    def width(self) -> int | None:
        """Number of latents."""
        if not self.training:
            width: int | None = self.facts.get("d_sae")
            return width
        facts = self.training.model.facts
        return Plan.of(self.training.config, facts).d_sae if facts else None

    @property
    def place(self) -> str:
        """Where it reads and, if elsewhere, what it reconstructs; empty until that is known."""
        if self.layer is None:
            return ""
        if self.spans:  # another place than its first layer alone
            return f"{self.where}, {self.hook}"
        reads, writes = (self.layer, self.hook), self._writes()
        said = [f"layer {layer}, {hook}" for layer, hook in dict.fromkeys((reads, writes))]
        return " → ".join(said)

    def _writes(self) -> tuple[int | None, str]:
        if not self.training:
            facts = self.facts
            return facts.get("target_layer", self.layer), facts.get("target_hook", self.hook)
        model = self.training.model.facts
        if model is None:
            return self.layer, self.hook
        plan = Plan.of(self.training.config, model)
        return plan.target_layer, plan.target_hook

    @property
    def held_out_tokens(self) -> int | None:
        """How many tokens of its text it was never trained on; None where nobody knows."""
        if not self.training:
            return None
        found: int | None = self.training.hyperparameters.get("held_out_tokens")
        return found

    @property
    def folder(self) -> Path:
        return Path(self.path)

    @property
    def home(self) -> Path:
        """Of one that was imported: all that the studio keeps of it."""
        return Path(settings.HOME, "saes", str(self.id))

    def export_path(self, format: str) -> Path:
        """Where it is written in another tool's format."""
        return self.folder.with_name("exports") / format

    def exported_file(self, format: str, name: str) -> Path | None:
        """A file of an export that is there, and no link out of it."""
        if format not in FORMATS:
            return None
        try:
            folder = self.export_path(format).resolve()
            path = (folder / name).resolve()
            return path if path.is_relative_to(folder) and path.is_file() else None
        except (OSError, ValueError):  # a name that no file can have
            return None

    @property
    def features_path(self) -> Path:
        """Beside the folder, which holds only what other tools read."""
        return self.folder.with_name(FEATURES_FILE)
