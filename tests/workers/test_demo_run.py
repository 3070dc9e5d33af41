"""The demo as a newcomer gets it: the real model, the real text, a useful SAE at the end."""

from __future__ import annotations

import json

import pytest

from tests.conftest import Studio, wait_for

pytestmark = [pytest.mark.long, pytest.mark.studio]


def test_the_demo_ends_with_a_useful_sae(studio: Studio) -> None:
    code = "from trainings import demo; print(demo.start().pk)"
    pk = studio.python(code).strip()
    session = studio.session()

    def over() -> dict[str, object] | None:
        training = session.get(f"{studio.url}/api/v1/trainings/{pk}").json()
        return training if training["status"] not in ("pending", "running") else None

    training = wait_for(over, "the demo to end", 1500, every=2)
    assert training["status"] == "completed", training["error_message"]
    look = (
        "import json; from trainings.models import Sae;"
        f"print(json.dumps(Sae.objects.get(training='{pk}').evaluation))"
    )
    evaluation = json.loads(studio.python(look))
    assert evaluation["fvu"] < 0.08
    assert evaluation["l0"] <= 70
    assert "held-out tokens" in session.get(studio.url).text
