"""V5, V6: what the API does once however often it is sent, and what it does beside: undertakings, actions, schedules."""

import threading
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

from vamt.api_site import ADA, ApiSite
from volact.protocol.policy import DAY
from volact.protocol.problems import Refused, UsageError
from volact.vamt import actions
from volact.vamt.api import bodies as apibodies

ALL = {"all": True}


@pytest.fixture
def site(tmp_path: Path, api_template: Path) -> Iterator[ApiSite]:
    with ApiSite(tmp_path / "home", api_template) as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, api_template: Path) -> Iterator[ApiSite]:
    """One for all tests that leave nothing behind."""
    with ApiSite(tmp_path_factory.mktemp("shared") / "home", api_template) as made:
        yield made


# --- once --------------------------------------------------------------------------------------------------------


def test_the_same_request_with_the_same_key_is_done_once(site: ApiSite) -> None:
    once = {"idempotency-key": "k1"}
    first = site.call("POST", "/v1/groups", {"group": "g"}, headers=once)
    second = site.call("POST", "/v1/groups", {"group": "g"}, headers=once)
    assert first.status == 201
    assert (first.status, first.body, first.headers) == (second.status, second.body, second.headers)
    assert site.call("POST", "/v1/groups", {"group": "g"}).code == "already-exists"
    assert site.call("POST", "/v1/groups", {"group": "h"}, headers=once).code == "request-id-reused"
    assert site.call("POST", "/v1/groups?x=1", {"group": "g"}, headers=once).code == "request-id-reused"
    other = site.call("POST", "/v1/groups", {"group": "g"}, headers=once, role="operator")
    assert other.code == "already-exists", "another's key is another key"
    refused = site.call("POST", "/v1/groups", {"group": "g"}, headers={"idempotency-key": "k2"})
    site.call("DELETE", "/v1/groups/g")
    again = site.call("POST", "/v1/groups", {"group": "g"}, headers={"idempotency-key": "k2"})
    assert refused.body == again.body, "a no is a result, too"


def test_an_undertaking_is_begun_once(site: ApiSite) -> None:
    site.call("POST", "/v1/machines", {"name": "nowhere.invalid"})
    found = [
        site.call("POST", "/v1/collections", {"selection": ALL}, headers={"idempotency-key": "one"})
        for _ in range(3)
    ]
    assert len({one.headers["location"] for one in found}) == 1
    site.ended(found[0])
    assert len([one for one in site.call("GET", "/v1/log").json if one["action"] == "collect"]) == 1


@pytest.mark.parametrize(("key", "status"), [("k" * 64, 404), ("k" * 65, 400), ("a b", 400), ("ä", 400)])
def test_how_a_key_may_look(shared: ApiSite, key: str, status: int) -> None:
    assert shared.call("DELETE", "/v1/groups/none", headers={"idempotency-key": key}).status == status


def test_an_answer_is_kept_for_a_day(site: ApiSite) -> None:
    began = site.clock.time
    for number, (passed, is_kept) in enumerate([(DAY - 1, True), (DAY, False), (DAY + 1, False)]):
        for cleaned in (False, True):
            wanted, once = {"group": f"{number} {cleaned}"}, {"idempotency-key": f"{number}-{cleaned}"}
            assert site.call("POST", "/v1/groups", wanted, headers=once).status == 201
            site.clock.time = began + passed
            if cleaned:
                site.app.repeats.forget()
            assert site.call("POST", "/v1/groups", wanted, headers=once).status == (201 if is_kept else 409)
            site.clock.time = began


def test_what_was_under_way_when_the_service_died_is_not_done_again(site: ApiSite) -> None:
    signed = site.app._sign_in.identify(f"Bearer {site.tokens['operator']}", "127.0.0.1")
    request = b"\n".join((b"POST", b"/v1/groups", b"", b'{"group": "g"}'))
    assert site.app.repeats.begin(signed, "k", request) is None  # type: ignore[arg-type]  # it is no refusal
    assert (
        site.call(
            "POST", "/v1/groups", {"group": "g"}, role="operator", headers={"idempotency-key": "k"}
        ).code
        == "busy"
    )
    site.app.repeats = type(site.app.repeats)(site.opened.store, site.clock)  # as after a start
    after = site.call("POST", "/v1/groups", {"group": "g"}, role="operator", headers={"idempotency-key": "k"})
    assert (after.status, after.code) == (409, "outcome-unknown")


def test_a_token_is_told_once_and_kept_nowhere(site: ApiSite) -> None:
    refused = site.call("POST", "/v1/people/viewer/tokens", {}, headers={"idempotency-key": "k"})
    assert refused.code == "request-malformed"
    made = site.call("POST", "/v1/people/viewer/tokens", {}).json["token"]
    for file in (site.opened.folder).glob("vamt.db*"):
        assert made.encode() not in file.read_bytes()
    assert made.encode() not in site.call("GET", "/v1/tokens").body + site.call("GET", "/v1/log").body


# --- undertakings ------------------------------------------------------------------------------------------------


def test_collecting_says_why_a_machine_gave_nothing(site: ApiSite) -> None:
    site.call("POST", "/v1/machines", {"name": "web1.example.com"})
    begun = site.call("POST", "/v1/collections", {"selection": ALL}, role="operator")
    assert begun.json["who"] == "operator"
    found = site.ended(begun)
    assert (found["state"], found["done"], found["failed"], found["total"]) == ("done", 0, 1, 1)
    (row,) = site.call("GET", begun.headers["location"] + "/rows").json["rows"]
    assert (row["machine"], row["code"], row["state"]) == ("web1.example.com", "login-missing", "failed")
    assert row["next"]
    assert [one["id"] for one in site.call("GET", "/v1/undertakings").json] == [found["id"]]
    assert site.call("GET", begun.headers["location"] + "/file").code == "not-found"


def test_an_action_is_planned_begun_and_known_by_its_own_id(site: ApiSite) -> None:
    site.call("POST", "/v1/machines", {"name": "web1.example.com"})
    act = {"action": "refresh-status", "selection": ALL}
    planned = site.call("POST", "/v1/actions/plan", act)
    assert (planned.json["id"], planned.json["dry_run"], len(planned.json["rows"])) == (None, True, 1)
    assert site.call("GET", "/v1/actions").json == []
    found = site.ended(site.call("POST", "/v1/actions", act))
    aid = found["about"]["action_id"]
    assert [one["id"] for one in site.call("GET", "/v1/actions").json] == [aid]
    assert site.call("GET", f"/v1/actions/{aid}").json["rows"][0]["code"] == "login-missing"
    went_on = site.ended(site.call("POST", f"/v1/actions/{aid}/resume", {}))
    assert went_on["result"]["counts"] == {"failed": 1}
    (happened,) = site.call("GET", "/v1/machines/web1/history").json
    assert (happened["kind"], happened["what"], happened["state"]) == ("action", "refresh-status", "failed")


def test_the_names_of_actions_are_those_of_the_code() -> None:
    assert set(typing.get_args(apibodies.ActionName)) == set(actions.LEAST)


def test_schedules(site: ApiSite) -> None:
    site.call("POST", "/v1/machines", {"name": "web1.example.com"})
    wanted = {"name": "nightly", "what": "collect", "selection": ALL, "every": "1d", "at": "02:00"}
    made = site.call("POST", "/v1/schedules", wanted)
    assert (made.status, made.json["every"], made.json["by"]) == (201, DAY, "key-administrator")
    assert site.call("GET", "/v1/schedules").json == [made.json]
    for wrong in ({"every": "1s"}, {"at": "25:00"}, {"key": "M0000"}, {"what": "dance"}):
        assert (
            site.call("POST", "/v1/schedules", {**wanted, "name": "x", **wrong}).code == "request-malformed"
        )
    assert site.call("DELETE", "/v1/schedules/nightly").status == 200


def test_a_malformed_list_of_machines_is_refused_before_anything_is_taken_in(site: ApiSite) -> None:
    body = {"kind": "csv", "name": "l", "text": "name,address\nweb1,192.0.2.1\nweb2,not an address\n"}
    refused = site.call("POST", "/v1/discoveries/file", body)
    assert refused.status in (202, 422)
    if refused.status == 422:
        assert "3" in refused.json["detail"]
        assert site.call("GET", "/v1/machines").json["total"] == 0


def test_as_many_undertakings_as_may_be_wait(site: ApiSite) -> None:
    """The service never holds more than so many; the next one is told to come again."""
    gate = threading.Event()
    try:
        for _ in range(36):
            site.works.start(ADA, "collect", {}, lambda _: {"went": gate.wait(60)})
        with pytest.raises(Refused) as refused:
            site.works.start(ADA, "collect", {}, lambda _: {})
        assert refused.value.refusal.code == "busy"
    finally:
        gate.set()


# --- tokens by command -------------------------------------------------------------------------------------------


def test_a_person_is_admitted_with_a_token_or_not_at_all(site: ApiSite) -> None:
    access = site.vamt.access
    with pytest.raises(UsageError):
        access.admit(ADA, "zoe", "viewer", days=0)
    assert "zoe" not in [one.name for one in access.people(ADA)], "nothing half done"
    access.admit(ADA, "zoe", "viewer")
    access.admit(ADA, "zoe", "viewer")
    with pytest.raises(Refused) as refused:
        access.admit(ADA, "zoe", "operator")
    assert refused.value.refusal.code == "already-exists"
    with pytest.raises(Refused) as unknown:
        access.admit(ADA, "nobody")
    assert unknown.value.refusal.code == "person-unknown"
    assert [one.tokens for one in access.people(ADA) if one.name == "zoe"] == [2]
