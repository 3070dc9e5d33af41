"""Every operation of a running server, called with what its schema allows and what it does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.browser.conftest import web
from tests.conftest import Studio

pytestmark = pytest.mark.studio
# What lies between fields, or what there is in the database, no schema says.
UNKNOWABLE = [positive_data_acceptance]


@pytest.fixture(scope="module")
def server(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """Without workers: what is made here is thrown away."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAESTUDIO_API_CALLS", "1000000")
        studio = web(redis_server, tmp_path_factory.mktemp("schema"), "rows.gallery()")
    yield studio
    studio.stop()


@pytest.fixture(scope="module")
def described(server: Studio) -> Any:
    text = server.python(
        "from django.contrib.auth.models import User; from saestudio.access import tokens; "
        "user = User.objects.get_or_create(username='script', is_superuser=True)[0]; "
        "print(tokens.make(user, 'schema', read_only=False, days=None)[1])"
    ).strip()
    headers = {"Authorization": f"Bearer {text}"}
    return schemathesis.openapi.from_url(
        f"{server.url}/api/v1/openapi.json",
        headers=headers,
        config=SchemathesisConfig.from_dict({"headers": headers}),
    )


schema = schemathesis.pytest.from_fixture("described")


@schema.parametrize()
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_operation_does_what_its_schema_says(case: Any) -> None:
    case.call_and_validate(excluded_checks=UNKNOWABLE)
