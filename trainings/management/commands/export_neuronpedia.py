"""The features of an SAE as files that Neuronpedia takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from trainings.management import naming
from trainings.management.drafts import drafted, new_folder
from trainings.models import LanguageModel, Sae
from workers.engine.features import FeatureTable, UnreadableTable
from workers.engine.features.neuronpedia import (
    NotAccepted,
    Target,
    check_names,
    usual_model_id,
    usual_source_set,
    write_upload,
)
from workers.engine.features.neuronpedia_format import Upload

_PLACES = {
    "resid_post": "Residual stream",
    "mlp_in": "MLP input",
    "mlp_out": "MLP output",
    "attn_out": "Attention output",
}


class Command(BaseCommand):
    help = (
        "Write the features of a training's SAE into a folder, as files that Neuronpedia takes: "
        "upload.json and batches of at most 128 features, checked against its schema, whole or "
        "not at all. Exit code: 0 written, 1 it cannot be, 2 there is no such SAE, its features "
        "were not collected, or Neuronpedia has no such names. "
        "Example: manage.py export_neuronpedia smollm2-135m-l5-jumprelu-8x features/l5"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("training", help="Id, its beginning, or name.")
        parser.add_argument("folder", help="New, or empty.")
        parser.add_argument("--source-set", help="There; the training's name if not given.")
        parser.add_argument("--model-id", help="There; made of the model's name if not given.")
        parser.add_argument("--json", action="store_true", help="One object on stdout.")

    def handle(self, *args: Any, **options: Any) -> None:
        sae = naming.sae(options["training"])
        if sae.spans:
            raise CommandError(
                "Neuronpedia has a source for each layer, and a crosscoder's latents belong to "
                f"several ({sae.where}): there is nowhere to upload them to.",
                returncode=2,
            )
        folder = new_folder(options["folder"])
        features = _features(sae)
        target = _target(sae, features, options)
        try:
            with drafted(folder) as draft:
                upload = write_upload(features, target, draft)
        except NotAccepted as error:
            raise CommandError(str(error)) from error
        except (UnreadableTable, OSError) as error:
            raise CommandError(f"It could not be written: {error}") from error
        told = _told(upload, folder)
        self.stdout.write(json.dumps(told) if options["json"] else _said(told))


def _features(sae: Sae) -> FeatureTable:
    naming.fetched(sae.features_path, newest=True)
    try:
        return FeatureTable(sae.features_path)
    except UnreadableTable as error:
        collect = f"manage.py features {sae.training_id or sae.pk}"
        raise CommandError(f"{error} This collects them: {collect}", returncode=2) from error


def _target(sae: Sae, features: FeatureTable, options: dict[str, Any]) -> Target:
    model = sae.language_model
    on_hub = model.source == LanguageModel.Source.HUB
    target = Target(
        model_id=options["model_id"] or usual_model_id(model.known_as),
        source_set=options["source_set"] or usual_source_set(sae.file_stem),
        layer=sae.layer or 0,
        layers=model.n_layers or 0,
        model_name=model.name,
        model_url=f"https://huggingface.co/{model.location}" if on_hub else None,
        description=_description(sae, features),
    )
    try:
        check_names(target)
    except NotAccepted as error:
        hint = "--model-id and --source-set name others."
        raise CommandError(f"{error} {hint}", returncode=2) from error
    return target


def _description(sae: Sae, features: FeatureTable) -> str:
    place = _PLACES[sae.hook]
    return f"{place}, {sae.architecture}, {features.about['latents']:,} latents"


def _told(upload: Upload, folder: Path) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "model_id": upload.model.id,
        "source": upload.source,
        "features": upload.features,
        "latents": upload.latents,
        "files": {batch.file: batch.sha256 for batch in upload.batches},
    }


def _said(told: dict[str, Any]) -> str:
    return (
        f"{told['features']:,} of {told['latents']:,} latents in {len(told['files'])} batches "
        f"for {told['source']} of {told['model_id']}, in {told['folder']}"
    )
