"""Templates as a JSON file: written whole, read with every fault named, imported all or none."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from django.db import transaction

from workers.engine.config import ConfigError, Problem

from .models import TrainingTemplate
from .settings import named, settled

FORMAT: Final = "sae-studio/training-templates"
VERSION: Final = 1
MOST_BYTES: Final = 256 * 1024
MOST_TEMPLATES: Final = 200
MOST_DEPTH: Final = 6
KEYS: Final = ("name", "description", "architecture", "hyperparameters", "is_favorite")


@dataclass
class Proposal:
    """One template of a file: what it would become, or what is wrong with it."""

    place: int
    name: str = ""
    description: str = ""
    architecture: str = ""
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    is_favorite: bool = False
    problems: list[Problem] = field(default_factory=list)


def write(templates: Iterable[TrainingTemplate]) -> str:
    """The file's text; `read` gives back the same templates."""
    items = [{key: getattr(template, key) for key in KEYS} for template in templates]
    whole = {"format": FORMAT, "version": VERSION, "templates": items}
    return json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read(data: bytes) -> list[Proposal]:
    """Every template of the file, judged. Raises `ConfigError` where it is no such file."""
    items = _items(_parsed(data))
    return [_judged(place, item) for place, item in enumerate(items, 1)]


def take(data: bytes, owner: Any = None) -> list[TrainingTemplate]:
    """Import all of the file, or nothing: raises `ConfigError` with each fault and its place."""
    proposals = read(data)
    faults = [
        Problem(f"templates.{proposal.place - 1}.{problem.field}", problem.message)
        for proposal in proposals
        for problem in proposal.problems
    ]
    if faults:
        raise ConfigError(faults)
    with transaction.atomic():
        return [
            TrainingTemplate.objects.create(
                name=TrainingTemplate.objects.free_name(proposal.name),
                description=proposal.description,
                architecture=proposal.architecture,
                hyperparameters=proposal.hyperparameters,
                is_favorite=proposal.is_favorite,
                owner=owner,
            )
            for proposal in proposals
        ]


def _parsed(data: bytes) -> Any:
    if len(data) > MOST_BYTES:
        raise _no_file(f"It has {len(data):,} bytes; at most {MOST_BYTES:,} are read.")
    try:
        found = json.loads(data.decode("utf-8-sig"), parse_constant=_no_constant,
                           object_pairs_hook=_no_twice)  # fmt: skip
    except UnicodeDecodeError as error:
        raise _no_file("It is no text in UTF-8.") from error
    except RecursionError as error:
        raise _no_file(f"It is nested more than {MOST_DEPTH} deep.") from error
    except ValueError as error:
        raise _no_file(f"It is no JSON: {error}.") from error
    if _depth(found) > MOST_DEPTH:
        raise _no_file(f"It is nested more than {MOST_DEPTH} deep.")
    return found


def _items(found: Any) -> list[Any]:
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise _no_file(f'It does not say "format": "{FORMAT}", as an export does.')
    if found.get("version") != VERSION:
        raise _no_file(f"It has version {found.get('version')!r}; version {VERSION} is read.")
    unknown = sorted(found.keys() - {"format", "version", "templates"})
    if unknown:
        raise ConfigError([Problem(key, "There is no such key.") for key in unknown])
    items = found.get("templates")
    if not isinstance(items, list) or not items:
        raise ConfigError([Problem("templates", "Write a list of at least one template.")])
    if len(items) > MOST_TEMPLATES:
        raise ConfigError([Problem("templates", f"At most {MOST_TEMPLATES} at once.")])
    return items


def _judged(place: int, item: Any) -> Proposal:
    found = Proposal(place)
    if not isinstance(item, dict):
        found.problems = [Problem("template", "Write an object.")]
        return found
    found.problems = [Problem(key, "There is no such key.") for key in sorted(item.keys() - KEYS)]
    name, description = item.get("name"), item.get("description", "")
    found.problems += named(name, description)
    found.name, found.description = str(name or "").strip()[:255], str(description)[:4000]
    favorite, architecture = item.get("is_favorite", False), item.get("architecture", "")
    if not isinstance(favorite, bool):
        found.problems.append(Problem("is_favorite", "Write true or false."))
    found.is_favorite = favorite is True
    if not isinstance(architecture, str):
        found.problems.append(Problem("architecture", "Write text, empty for any."))
        architecture = ""
    found.architecture = architecture
    try:
        found.hyperparameters = settled(architecture, item.get("hyperparameters"))
    except ConfigError as error:
        found.problems += error.problems
    return found


def _no_file(message: str) -> ConfigError:
    return ConfigError([Problem("file", message)])


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no number in JSON")


def _no_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found


def _depth(value: Any) -> int:
    """How deep objects and lists are nested, without recursion."""
    deepest, level = 0, [value]
    while level:
        inner = [v for v in level if isinstance(v, dict | list)]
        deepest += bool(inner)
        level = [x for v in inner for x in (v.values() if isinstance(v, dict) else v)]
    return deepest
