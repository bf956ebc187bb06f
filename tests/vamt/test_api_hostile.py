"""V6, M8: who would harm VAMT by its API: what a token of a lesser role reaches, fills, or has kept."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vamt.api_site import ADA, ApiSite
from volact.protocol.policy import MINUTE
from volact.vamt.acting import REFUSALS_AT_ONCE
from volact.vamt.api.works import Work


@pytest.fixture
def site(tmp_path: Path, api_template: Path) -> Iterator[ApiSite]:
    with ApiSite(tmp_path / "home", api_template) as made:
        yield made


def _refused(site: ApiSite) -> list[Any]:
    found = site.call("GET", "/v1/log?limit=1000&who=viewer").json
    return [one for one in found if one["result"] == "role-insufficient"]


def test_who_is_refused_again_and_again_does_not_fill_the_log(site: ApiSite) -> None:
    """All are refused alike; so many are in the log, and the next one that is says how many were not."""
    for _ in range(REFUSALS_AT_ONCE + 3):
        assert site.call("GET", "/v1/log", role="viewer").code == "role-insufficient"
    assert len(_refused(site)) == REFUSALS_AT_ONCE
    site.call("POST", "/v1/groups", {"group": "g"}, role="auditor")
    other = site.call("GET", "/v1/log?limit=1").json[0]
    assert (other["who"], other["result"]) == ("auditor", "role-insufficient"), (
        "nobody shuts another out of it"
    )
    site.clock.time += MINUTE
    assert site.call("POST", "/v1/groups", {"group": "g"}, role="viewer").code == "role-insufficient"
    found = _refused(site)
    assert len(found) == REFUSALS_AT_ONCE + 1
    assert (found[0]["action"], found[0]["detail"]) == (
        "change-groups",
        "3 more refusals before were not written.",
    )


def test_a_computer_list_is_fetched_by_who_may_write_one(site: ApiSite) -> None:
    """It holds requests that are proved with keys: who brings it to the publisher has them counted."""

    def run(work: Work) -> dict[str, Any]:
        with site.works.writing(work, "questions.cil", "application/octet-stream") as file:
            file.write(b"rows")
        return {}

    work = site.works.start(ADA, "export", {}, run)
    until = time.monotonic() + 60
    while not work.is_over and time.monotonic() < until:
        time.sleep(0.01)
    for role, status in (("viewer", 403), ("auditor", 403), ("operator", 200), ("key-administrator", 200)):
        assert site.call("GET", f"/v1/undertakings/{work.id}/file", role=role).status == status


@pytest.mark.parametrize(
    "path", ["/v1/people/ada/tokens", "/v1/people/ada/tokens/", "/v1/people/ada//tokens", "/v1//people/ada/tokens",
             "//v1/people/ada/tokens", "/v1/people/ada/tokens//"]
)  # fmt: skip
def test_no_spelling_of_a_path_has_a_token_kept(site: ApiSite, path: str) -> None:
    site.vamt.access.put(ADA, "ada", "viewer")
    answer = site.call("POST", path, {}, headers={"idempotency-key": "k"})
    assert answer.status in (400, 404), answer
    assert b"vamt_" not in answer.body


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("operator", 400)])
def test_an_account_in_a_directory_s_address_is_refused_and_written_nowhere(
    site: ApiSite, role: str, status: int
) -> None:
    """M8: the log is read by auditors, and undertakings by everybody."""
    asked = {"url": "ldaps://reader:a-password@dc1.corp.test", "base": "dc=corp,dc=test"}
    assert site.call("POST", "/v1/discoveries/ldap", asked, role=role).status == status
    for path in ("/v1/log?limit=1000", "/v1/undertakings"):
        found = site.call("GET", path)
        assert (found.status, b"a-password" in found.body) == (200, False)
