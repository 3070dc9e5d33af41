"""Sweeps: what a grid and a list of settings make, checked as a whole, and started as one group."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import prod
from typing import Any

from django.db import transaction

from workers.engine.config import (
    FIELDS,
    ConfigError,
    ModelFacts,
    Problem,
    TrainingConfig,
    check,
    plan,
    warnings,
)
from workers.engine.config.fields import show
from workers.engine.config.sharing import differing, reading

from . import nudge
from .continuing import settled
from .models import Sae, Sweep, Tokenization, Training
from .models.transitions import ANY_WORKER, Priority
from .needs import Needs

MOST = 64
ARCHITECTURE = "architecture"
SEED = "seed"
# What a member is called by, in the table of a sweep and in its name.
VARIABLE = (ARCHITECTURE, *FIELDS)
# What the page offers to vary.
OFFERED = (
    ARCHITECTURE,
    "latent_dim",
    "l1_alpha",
    "target_l0",
    "top_k_sparsity",
    "learning_rate",
    SEED,
)
_NAME = 255


@dataclass(frozen=True)
class Asked:
    """A configuration to begin with, and what varies: all of a grid, and those of a list.

    `base`: `architecture`, `layer` and `hyperparameters`, by name. `grid`: the values of each name
    in `VARIABLE`. `members`: other such names of one member each.
    """

    base: Mapping[str, Any]
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    members: Sequence[Mapping[str, Any]] = ()

    @property
    def n_grid(self) -> int:
        """How many trainings the grid makes, without making them."""
        return prod(map(len, self.grid.values())) if self.grid else 0

    @property
    def n_members(self) -> int:
        return self.n_grid + len(self.members)


@dataclass(frozen=True)
class Member:
    """One training of a sweep: its settings, and what of them is its own."""

    config: TrainingConfig
    own: Mapping[str, Any]

    @property
    def words(self) -> str:
        """As in `l1_alpha 0.001, seed 2`."""
        return ", ".join(f"{name} {show(value)}" for name, value in self.own.items())


def members(asked: Asked, source: Tokenization, sae: Sae | None = None) -> list[Member]:
    """Every training that is asked for. Raises `ConfigError` naming the fields that are wrong."""
    _check_names(asked)
    wrong: dict[tuple[str, str], Problem] = {}
    made: list[Member] = []
    for own in _varied(asked):
        try:
            made.append(_member(asked, own, source, sae))
        except ConfigError as error:
            # Of several members with one fault it is said once.
            wrong |= {(p.field, p.message): p for p in error.problems}
    if wrong:
        raise ConfigError(wrong.values())
    made = _one_order(made)
    check_shared(made, source.model.facts)
    return made


def check_shared(made: Sequence[Member], facts: ModelFacts | None) -> None:
    """Raises `ConfigError` where they cannot share a stream, or two of them are the same."""
    if facts is None:
        raise ConfigError([Problem("model", "The model is not ready yet.")])
    named = [(member.words or "the first", member) for member in made]
    found = differing([(name, reading(plan(each.config, facts))) for name, each in named])
    if any(member.config.hyperparameters.gpus > 1 for member in made):
        found.append(
            Problem("gpus", "Trainings that share their activations have one GPU each; choose 1.")
        )
    # An order of tokens that follows from the seed is the same as one that is named.
    settled_order = [_with(m, data_seed=plan(m.config, facts).data_seed) for m in made]
    for digest, count in Counter(m.config.digest() for m in settled_order).items():
        if count > 1:
            twice = next(m.words for m in settled_order if m.config.digest() == digest)
            found.append(Problem("grid", f"{twice} is there {count} times; once is enough."))
    if found:
        raise ConfigError(found)


def found_warnings(made: Sequence[Member], source: Tokenization) -> list[Problem]:
    """Warnings of any of them, each once."""
    facts = source.model.facts
    assert facts is not None
    all_of_them = [p for m in made for p in warnings(m.config, facts, source.n_tokens)]
    return list({(p.field, p.message): p for p in all_of_them}.values())


def start(
    *,
    name: str,
    source: Tokenization,
    asked: Asked,
    made: Sequence[Member],
    priority: int = Priority.NORMAL,
    needs: Needs = ANY_WORKER,
    owner: Any = None,
    pk: uuid.UUID | None = None,
) -> tuple[Sweep, bool]:
    """The sweep with its queued trainings, and whether it was made now; the same pk a second time
    changes nothing."""
    with transaction.atomic():
        sweep, created = Sweep.objects.get_or_create(
            pk=pk or uuid.uuid4(),
            defaults={"name": name, "asked": as_read(asked, made, source), "owner": owner},
        )
        if created:
            _queue(sweep, source, made, priority, needs, owner)
    return sweep, created


def as_read(asked: Asked, made: Sequence[Member], source: Tokenization) -> dict[str, Any]:
    """What was asked for, each value as it was understood: "1e-3" is 0.001."""
    of_grid, of_list = made[: asked.n_grid], made[asked.n_grid :]
    common: dict[str, Any] = {}
    for name in asked.base.get("hyperparameters", {}):
        if others := [each for each in made if name not in each.own]:
            common[name] = others[0].config.hyperparameters.model_dump(mode="json")[name]
    place = next((each for each in made if ARCHITECTURE not in each.own), made[0]).config
    return {
        ARCHITECTURE: place.architecture.value,
        "layer": place.layer,
        "hyperparameters": common,
        "grid": {n: list(dict.fromkeys(each.own[n] for each in of_grid)) for n in asked.grid},
        "members": [dict(each.own) for each in of_list],
        "tokenization_id": str(source.pk),
        "start_from": str(place.start_from) if place.start_from else None,
    }


def as_json(asked: Asked, made: Sequence[Member], source: Tokenization) -> dict[str, Any]:
    """The same as it comes back from the database: JSON has no tuples."""
    found: dict[str, Any] = json.loads(json.dumps(as_read(asked, made, source)))
    return found


def add(sweep: Sweep, asked: Asked) -> list[Training]:
    """More trainings of it, which read what the others read: most of that lies in the cache.

    `asked.base` may be empty: it is that of the sweep; so is the owner. Raises `ConfigError`.
    """
    with transaction.atomic():
        if not Sweep.objects.held(sweep.pk):
            raise ConfigError([Problem("sweep", "It is not there any more.")])
        there, made = added(sweep, asked)
        first = there[0]
        needs, source = Needs(**first.needs), first.tokenization
        return _queue(sweep, source, made, first.priority, needs, sweep.owner)


def added(sweep: Sweep, asked: Asked) -> tuple[list[Training], list[Member]]:
    """The trainings that are there, and those that would come to them. Raises `ConfigError`."""
    there = list(
        sweep.trainings.visible()
        .select_related("tokenization__model", "started_from")
        .order_by("created_at")
    )
    if not there:
        raise ConfigError([Problem("sweep", "None of its trainings is left.")])
    first = there[0]
    source, sae = first.tokenization, first.started_from
    if first.origin and sae is None:
        gone = f"The SAE {first.origin['name']}, which its trainings continue, was deleted."
        raise ConfigError([Problem("start_from", gone)])
    if len(there) + asked.n_members > MOST:
        raise ConfigError([_too_many(len(there) + asked.n_members)])
    made = members(replace(asked, base=_base(sweep, sae)), source, sae)
    seed = plan(first.config, _facts(source)).data_seed
    made = [_with(member, data_seed=seed) for member in made]
    named = [Member(run.config, {"name": run.name}) for run in there]
    check_shared([*named, *made], _facts(source))
    return there, made


def own_names(runs: Sequence[Training]) -> list[str]:
    """What they differ in, in the order in which forms have it; the seed last, as a repetition.

    Not the seed of the order of tokens, which is one, whether it is named or follows.
    """
    if not runs:
        return []
    names = [name for name in VARIABLE if name != "data_seed"]
    found = [name for name in names if len({repr(value_of(run, name)) for run in runs}) > 1]
    return sorted(found, key=SEED.__eq__)


def in_order(runs: Sequence[Training]) -> list[Training]:
    """By what is their own, what is automatic last."""
    names = own_names(runs)

    def place(run: Training) -> tuple[Any, ...]:
        values = [value_of(run, name) for name in names]
        return tuple((value is None, 0 if value is None else value) for value in values)

    return sorted(runs, key=place)


def value_of(run: Training, name: str) -> Any:
    if name == ARCHITECTURE:
        return run.architecture
    return run.hyperparameters.get(name, FIELDS[name].default)


def _base(sweep: Sweep, sae: Sae | None) -> dict[str, Any]:
    """The configuration that its members began with."""
    h = {"hyperparameters": sweep.asked["hyperparameters"]}
    return h if sae else {**h, **{name: sweep.asked[name] for name in (ARCHITECTURE, "layer")}}


def _queue(
    sweep: Sweep,
    source: Tokenization,
    made: Sequence[Member],
    priority: int,
    needs: Needs,
    owner: Any,
) -> list[Training]:
    queued = [
        Training.objects.start(
            name=_name(sweep.name, member),
            tokenization=source,
            config=member.config,
            priority=priority,
            needs=needs,
            owner=owner,
            sweep=sweep,
            nudge_workers=False,
        )
        for member in made
    ]
    # Whoever takes one takes all of them.
    nudge.run(queued[0].pk)
    return queued


def _name(sweep: str, member: Member) -> str:
    name = f"{sweep} {member.words}".strip()
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"


def _varied(asked: Asked) -> Iterator[Mapping[str, Any]]:
    """What is each one's own."""
    if asked.grid:
        for values in product(*asked.grid.values()):
            yield dict(zip(asked.grid, values, strict=True))
    yield from asked.members


def _check_names(asked: Asked) -> None:
    """Raises `ConfigError` for what is no grid or list, and for more than is made."""
    if asked.n_members > MOST:
        raise ConfigError([_too_many(asked.n_members)])
    names = dict.fromkeys([*asked.grid, *(name for each in asked.members for name in each)])
    found = [
        Problem("grid", f"{name} is no hyperparameter; {ARCHITECTURE} may vary, too.")
        for name in names
        if name not in VARIABLE
    ]
    found += [
        Problem("grid", f"{name} has no value; name at least one.")
        for name, values in asked.grid.items()
        if not values
    ]
    if not found and not asked.n_members:
        found = [Problem("grid", "Nothing varies; name a setting and its values.")]
    if found:
        raise ConfigError(found)


def _too_many(count: int) -> Problem:
    return Problem("grid", f"A sweep has at most {MOST} trainings; these are {count:,}.")


def _member(asked: Asked, own: Mapping[str, Any], source: Tokenization, sae: Sae | None) -> Member:
    given = {name: value for name, value in own.items() if name != ARCHITECTURE}
    place = {ARCHITECTURE: own[ARCHITECTURE]} if ARCHITECTURE in own else {}
    if place.get(ARCHITECTURE, "") is None:
        raise ConfigError([Problem(ARCHITECTURE, "Name one; it has no default here.")])
    h = {**asked.base.get("hyperparameters", {}), **given}
    config = settled({**asked.base, **place, "hyperparameters": h}, source, sae)
    if found := check(config, _facts(source)):
        raise ConfigError(found)
    # As they were read: "1e-3" is 0.001.
    read = {name: getattr(config.hyperparameters, name) for name in given}
    return Member(config, {**({ARCHITECTURE: config.architecture.value} if place else {}), **read})


def _one_order(made: Sequence[Member]) -> list[Member]:
    """Those of several seeds read in one order: by default that of the first."""
    first = made[0].config.hyperparameters
    several = len({member.config.hyperparameters.seed for member in made}) > 1
    if not several or first.data_seed is not None:
        return list(made)
    return [_with(member, data_seed=first.seed) for member in made]


def _with(member: Member, **h: Any) -> Member:
    hyperparameters = member.config.hyperparameters.model_copy(update=h)
    config = member.config.model_copy(update={"hyperparameters": hyperparameters})
    return replace(member, config=config)


def _facts(source: Tokenization) -> ModelFacts:
    if source.model.facts is None:
        raise ConfigError([Problem("model", f"{source.model} is not ready yet.")])
    return source.model.facts
