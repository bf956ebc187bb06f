"""Schemathesis tries every route against the description of the API: no 5xx, and every answer as the description says.

The app is called in this process, without a network: what would call a machine or a directory finds none, and says so.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from vamt.api_site import ApiSite
from volact.vamt.api import app as api

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
SEED = 20261124
QUICK, LONG = 2, 150


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, api_template: Path) -> Iterator[ApiSite]:
    with ApiSite(tmp_path_factory.mktemp("site") / "home", api_template, sealed=True) as made:
        made.call("POST", "/v1/machines", {"name": "web1.example.com", "group": "g"})
        yield made


def run(site: ApiSite, examples: int) -> int:
    """Try every operation with so many requests, as a key administrator; how many there were."""
    headers = {"host": "localhost", "authorization": f"Bearer {site.tokens['key-administrator']}"}
    schema = schemathesis.openapi.from_asgi("/v1/openapi.json", site.app, headers=headers)
    tried = 0
    for result in schema.get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]  # a description that is none fails here

        @seed(SEED)
        @settings(
            max_examples=examples,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate],
        )
        @given(case=operation.as_strategy())
        def try_it(case: Any) -> None:
            if _forbidden(case):
                return
            response = case.call(headers=headers)
            case.validate_response(response, checks=CHECKS)

        try_it()
        tried += 1
    return tried


def _forbidden(case: Any) -> bool:
    """Whether a request would take its own caller away: the other ones would not be let in any more."""
    return (
        case.operation.definition.raw["operationId"] in ("put_person", "remove_person")
        and str(case.path_parameters.get("name")) == "key-administrator"
    )


def test_nothing_that_may_be_sent_makes_it_fail(site: ApiSite) -> None:
    assert run(site, QUICK) == len(api.ROUTES)


@pytest.mark.slow
def test_nothing_that_may_be_sent_in_a_long_time_makes_it_fail(site: ApiSite) -> None:
    assert run(site, LONG) == len(api.ROUTES)
