"""docs/api.md's examples, run as they stand against a running studio."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.conftest import ROOT, Studio

pytestmark = pytest.mark.studio
MAKE_TOKEN = """
from uuid import uuid4
from django.contrib.auth.models import User
from saestudio.access import tokens
user = User.objects.get_or_create(username="script", is_superuser=True)[0]
print(tokens.make(user, f"{uuid4()}", read_only=False, days=None)[1])
"""


def token_of(studio: Studio) -> str:
    return studio.python(MAKE_TOKEN).strip()


def test_the_examples_run_in_their_order(
    studio: Studio, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 12
    names: dict[str, Any] = {"STUDIO": studio.url, "TOKEN": token_of(studio)}
    # The last one waits for an event: of the training that an earlier one deletes.
    *ordinary, listening = blocks
    for block in ordinary:
        exec(compile(block, "docs/api.md", "exec"), names)
    out = capsys.readouterr().out
    assert "'measured_runs'" in out
    assert "FVU" in out
    assert "422" in out
    assert "CE recovered" in out
    assert "4 trainings" in out
    assert "none beats first try in both FVU" in out
    assert names["training"]["status"] == "completed"
    fresh = names["api"].post("/trainings", json=names["wanted"] | {"hyperparameters": {}})
    names["training"] = fresh.raise_for_status().json()
    exec(compile(listening, "docs/api.md", "exec"), names)
    assert "'event'" in capsys.readouterr().out
    names["api"].delete(f"/trainings/{fresh.json()['id']}")
