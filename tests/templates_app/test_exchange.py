"""Templates as a file: what is written is read back, and what is wrong is named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from templates_app import exchange
from templates_app.models import TrainingTemplate
from templates_app.settings import settled
from workers.engine.config import ConfigError

pytestmark = pytest.mark.django_db


def a_template(name: str = "mine", **columns: Any) -> TrainingTemplate:
    architecture = columns.pop("architecture", "jumprelu")
    hyperparameters = settled(architecture, columns.pop("hyperparameters", {"num_steps": 2000}))
    return TrainingTemplate.objects.create(
        name=name, architecture=architecture, hyperparameters=hyperparameters, **columns
    )


def a_file(*items: Any, **more: Any) -> bytes:
    whole = {"format": exchange.FORMAT, "version": 1, "templates": list(items), **more}
    return json.dumps(whole).encode()


def faults(data: bytes) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        exchange.take(data)
    assert not TrainingTemplate.objects.exists()
    return {problem.field: problem.message for problem in caught.value.problems}


def test_what_is_exported_comes_back_the_same() -> None:
    first = a_template("ünïcode ☂", description="line\nline", is_favorite=True)
    second = a_template("any", architecture="")
    text = exchange.write([first, second])
    TrainingTemplate.objects.all().delete()
    found = exchange.take(text.encode())
    for old, new in zip((first, second), found, strict=True):
        for key in exchange.KEYS:
            assert getattr(new, key) == getattr(old, key), key
    assert exchange.write(found) == text


def test_a_taken_name_gets_a_number() -> None:
    text = exchange.write([a_template("mine")]).encode()
    assert [exchange.take(text)[0].name for _ in range(2)] == ["mine (2)", "mine (3)"]
    long = a_template("x" * 255)
    assert len(exchange.take(exchange.write([long]).encode())[0].name) == 255


def test_every_fault_is_named_and_nothing_is_imported() -> None:
    good = {"name": "good", "hyperparameters": {}}
    bad = {
        "name": " ",
        "colour": "red",
        "is_favorite": "yes",
        "architecture": "standard",
        "hyperparameters": {"num_steps": -1, "lernrate": 1, "batch_size": "x"},
    }
    assert set(faults(a_file(good, bad))) == {
        f"templates.1.{name}"
        for name in ("name", "colour", "is_favorite", "num_steps", "lernrate", "batch_size")
    }


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "UTF-8"),
        (b"[" * 100_000, "nested"),
        (b"[" * 100_000 + b"]" * 100_000, "nested"),
        (a_file({"name": "a", "hyperparameters": {"a": [[[[[1]]]]]}}), "nested"),
        (b" " * (exchange.MOST_BYTES + 1), "bytes"),
        (b'{"format": NaN}', "NaN"),
        (b'{"format": 1, "format": 2}', "twice"),
        (b"1" * 100_000, "no JSON"),
        (b"[]", "format"),
        (b"null", "format"),
        (json.dumps({"format": exchange.FORMAT, "version": 2}).encode(), "version 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value[:12]),
)
def test_what_is_no_such_file_is_refused_with_a_reason(data: bytes, words: str) -> None:
    assert words in faults(data)["file"]


@pytest.mark.parametrize(
    ("item", "field"),
    [
        (5, "template"),
        ({"hyperparameters": {}}, "name"),
        ({"name": 5, "hyperparameters": {}}, "name"),
        ({"name": "x" * 256, "hyperparameters": {}}, "name"),
        ({"name": "a\x00b", "hyperparameters": {}}, "name"),
        ({"name": "a", "description": 5, "hyperparameters": {}}, "description"),
        ({"name": "a", "architecture": 5, "hyperparameters": {}}, "architecture"),
        ({"name": "a", "architecture": "gpt", "hyperparameters": {}}, "architecture"),
        ({"name": "a"}, "hyperparameters"),
        ({"name": "a", "hyperparameters": []}, "hyperparameters"),
        ({"name": "a", "hyperparameters": {"num_steps": 1e400}}, "num_steps"),
        ({"name": "a", "hyperparameters": {"num_steps": {"a": 1}}}, "num_steps"),
    ],
)
def test_each_part_of_a_template_is_judged(item: Any, field: str) -> None:
    found = faults(a_file(item).replace(b"Infinity", b"1e400"))
    assert f"templates.0.{field}" in found


def test_lists_that_are_empty_or_too_long_and_unknown_keys_are_refused() -> None:
    assert "templates" in faults(a_file())
    many = [{"name": "a", "hyperparameters": {}}] * (exchange.MOST_TEMPLATES + 1)
    assert "templates" in faults(a_file(*many))
    assert "extra" in faults(a_file({"name": "a", "hyperparameters": {}}, extra=1))
