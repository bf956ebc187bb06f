"""K9 at the publisher's side: KMS hosts are activated and extended; and the status list (M5)."""

from typing import Any

import pytest

from authority_site import Site
from volact.protocol import status
from volact.protocol.keys import ProductKey
from volact.protocol.policy import HOST_MACHINES
from volact.protocol.problems import Refusal, Refused
from world import DAY, NOW, PRODUCT, Machine, claims_of, new_id, verified


def host_of(site: Site) -> Machine:
    return site.machine()


def activate_host(site: Site, host: Machine, key: ProductKey, **more: Any) -> Any:
    """The delegation's claims, verified to the root, or the refusal's code."""
    answer = site.ask_one(host.request(key, op="host", now=site.clock.now()), **more)
    if isinstance(answer, Refusal):
        return answer.code
    granted = verified(answer, "delegation", site.keyring.roots.first, site.pub)
    assert len(granted.chain) == 1
    return granted.document.claims


def extend(site: Site, host: Machine, key: ProductKey, ref: str, **more: Any) -> Any:
    request = host.request(key, op="extend", ref=ref, now=site.clock.now())
    request["usage"] = host.usage(ref, site.clock.now())
    answer = site.ask_one(request, **more)
    if isinstance(answer, Refusal):
        return answer.code
    return verified(answer, "delegation", site.keyring.roots.first, site.pub).document.claims


def test_a_hosts_delegation_says_what_it_may(site: Site) -> None:
    site.product("com.example.long", validity=365 * DAY)
    key, host = site.key("kms-host", None, PRODUCT, "com.example.long"), host_of(site)
    claims = activate_host(site, host, key)
    assert claims["sub"] == host.cmid
    assert claims["rol"] == "kms-host"
    assert claims["exp"] - claims["iat"] == 90 * DAY
    assert claims["prd"] == sorted([PRODUCT, "com.example.long"])
    assert claims["lmax"] == 365 * DAY
    assert claims["cmax"] == HOST_MACHINES
    assert claims["min_ver"] == {}
    assert claims["cus"] == site.office.customers()[0].cus
    by_file = activate_host(site, host, key, address="file")
    assert by_file["exp"] - by_file["iat"] == 400 * DAY
    assert by_file["act"] == claims["act"]


@pytest.mark.parametrize(("said", "days"), [({"file": True}, 400), ({"file": False}, 90), ({}, 90)])
def test_a_request_that_set_out_by_file_has_its_400_days_whoever_brings_it(
    site: Site, said: dict[str, Any], days: int
) -> None:
    """PROTOCOL section 4; P1: the VAMT outside posts what came on the medium."""
    key, host = site.key("kms-host"), host_of(site)
    bundle = host.request(key, "host", **said)
    claims = verified(site.ask_one(bundle), "delegation", site.keyring.roots.first, site.pub).document.claims
    assert claims["exp"] - claims["iat"] == days * DAY


def test_a_host_keys_order_sets_the_most_machines(site: Site) -> None:
    key = site.key("kms-host", None, PRODUCT, cmax=500)
    assert activate_host(site, host_of(site), key)["cmax"] == 500


def test_a_key_serves_6_hosts_each_10_times(site: Site) -> None:
    key = site.key("kms-host")
    hosts = [host_of(site) for _ in range(6)]
    for host in hosts:
        assert activate_host(site, host, key)["act"]
    assert site.counts(key) == (6, 6, 0)
    assert activate_host(site, host_of(site), key) == "no-activations-left"
    for _ in range(9):
        assert activate_host(site, hosts[0], key)["sub"] == hosts[0].cmid
    assert activate_host(site, hosts[0], key) == "host-activated-too-often"
    assert activate_host(site, hosts[1], key)["act"]
    assert site.counts(key) == (6, 6, 0)


def test_one_request_is_one_activation_of_a_host(site: Site) -> None:
    key, host = site.key("kms-host"), host_of(site)
    request = host.request(key, op="host")
    first = site.ask_one(request)
    assert site.ask(request, request) == [first, first]
    assert [row.activations for row in site.rows("host")] == [1]


def test_two_new_hosts_in_one_batch_share_the_last_place(site: Site) -> None:
    key = site.key("kms-host")
    for _ in range(5):
        activate_host(site, host_of(site), key)
    answers = site.ask(*[host_of(site).request(key, op="host") for _ in range(2)])
    assert [getattr(one, "code", "granted") for one in answers] == ["granted", "no-activations-left"]


def test_a_host_extends_its_own_delegation_with_a_usage_statement(site: Site) -> None:
    key, host, other = site.key("kms-host"), host_of(site), host_of(site)
    first, foreign = activate_host(site, host, key), activate_host(site, other, key)
    site.clock.pass_(60 * DAY)
    again = extend(site, host, key, first["jti"])
    assert again["iat"] == NOW + 60 * DAY
    assert (again["act"], again["sub"]) == (first["act"], first["sub"])
    assert extend(site, host, key, again["jti"])["sub"] == host.cmid
    assert extend(site, host, key, first["jti"])["sub"] == host.cmid  # its answer was lost
    assert [row.activations for row in site.rows("host")] == [1, 1]
    assert len(site.rows("usage")) == 3
    assert extend(site, host, key, foreign["jti"]) == "delegation-unknown"
    assert extend(site, host, key, new_id()) == "delegation-unknown"
    request = host.request(key, op="extend", ref=first["jti"])
    assert site.ask_one(request).code == "document-refused"
    for usage in (other.usage(first["jti"]), host.usage(foreign["jti"]), {"token": "x", "jwk": {}}):
        assert site.ask_one({**request, "usage": usage}).code == "document-refused"


def test_a_blocked_host_or_host_key_gets_none(site: Site) -> None:
    key, host, other = site.key("kms-host"), host_of(site), host_of(site)
    first, second = activate_host(site, host, key), activate_host(site, other, key)
    site.office.block_activation(first["act"])
    assert activate_host(site, host, key) == "machine-blocked"
    assert extend(site, host, key, first["jti"]) == "machine-blocked"
    assert extend(site, other, key, second["jti"])["sub"] == other.cmid
    site.office.block_key(key.label, everything=False)
    assert extend(site, other, key, second["jti"]) == "key-blocked"
    assert activate_host(site, host_of(site), key) == "key-blocked"


def test_blocking_all_of_a_host_key_blocks_its_hosts(site: Site) -> None:
    """M5: machines know the host of their lease, not its key; a host that two keys name is listed once."""
    key, second, hosts = site.key("kms-host"), site.key("kms-host"), [host_of(site), host_of(site)]
    for host in hosts:
        activate_host(site, host, key)
    act = activate_host(site, hosts[0], second)["act"]
    site.office.block_key(key.label, everything=False)
    assert [one for one in entries(site) if one[0] == "host"] == []
    site.clock.pass_(60)
    site.office.block_key(key.label, everything=True)
    listed = sorted(("host", host.cmid, "all", NOW + 60) for host in hosts)
    assert [one for one in entries(site) if one[0] == "host"] == listed
    site.clock.pass_(60)
    site.office.block_activation(act)
    site.office.block_key(second.label, everything=True)
    assert sorted(one[1] for one in entries(site) if one[0] == "host") == sorted(one.cmid for one in hosts)


def test_an_issuer_past_its_delegation_signs_nothing(site: Site) -> None:
    key, machine = site.key(), site.machine()
    site.clock.pass_(365 * DAY)
    assert site.activate(machine, key)["act"]
    site.clock.pass_(1)
    assert site.activate(machine, key) == "authority-expired"
    assert not isinstance(site.authority.store, Refusal)
    assert site.ask_one({"proof": "x"}).code == "document-refused"
    assert len(site.rows("answer")) == 1


# --- the status list --------------------------------------------------------------------------------------------


def entries(site: Site) -> list[tuple[str, str, str, int]]:
    head, body = site.status()
    assert head["len"] == len(body)
    return [(one.kind, one.id, one.mode, one.since) for one in status.read(body.splitlines(keepends=True))]


def test_the_first_list_is_empty_and_signed(site: Site) -> None:
    head, body = site.status()
    assert body == b""
    assert (head["ver"], head["nxt"]) == (1, NOW + 7 * DAY)


def test_every_block_is_a_new_version_with_everything_that_is_blocked(site: Site) -> None:
    mak, host_key = site.key(), site.key("kms-host")
    machine, host = site.machine(), host_of(site)
    act = site.activate(machine, mak)["act"]
    host_act = activate_host(site, host, host_key)["act"]
    site.clock.pass_(100)
    assert site.office.block_activation(act) == 2
    assert entries(site) == [("act", act, "all", NOW + 100)]
    site.clock.pass_(100)
    site.office.block_key(mak.label, everything=False)
    site.office.block_activation(host_act)
    key = claims_of(machine.request(mak)["token"])["key"]
    assert entries(site) == [
        ("act", act, "all", NOW + 100),
        ("host", host.cmid, "all", NOW + 200),
        ("key", key, "new", NOW + 200),
    ]
    site.clock.pass_(100)
    site.office.block_key(mak.label, everything=True)
    with pytest.raises(Refused, match="blocked already"):  # and keeps its date
        site.office.block_activation(act)
    assert ("key", key, "all", NOW + 300) in entries(site)
    assert ("act", act, "all", NOW + 100) in entries(site)
    assert site.status()[0]["ver"] == 5
    assert len(site.rows("status_list")) == 1


def test_a_host_blocked_under_two_keys_stands_once(site: Site) -> None:
    host = host_of(site)
    for _ in range(2):
        site.office.block_activation(activate_host(site, host, site.key("kms-host"))["act"])
        site.clock.pass_(10)
    assert entries(site) == [("host", host.cmid, "all", NOW)]


@pytest.mark.parametrize(("later", "version"), [(DAY - 1, 1), (DAY, 2), (DAY + 1, 2)])
def test_the_list_is_written_anew_when_it_is_a_day_old(site: Site, later: int, version: int) -> None:
    site.clock.pass_(later)
    site.authority.renew_status_list()
    site.authority.renew_status_list()
    head, body = site.status()
    assert (head["ver"], body) == (version, b"")


def test_a_hosts_answer_brings_the_products_of_its_delegation_as_they_are_when_it_is_answered(
    site: Site,
) -> None:
    site.product("com.example.other")
    site.product("com.example.server", edition="server")
    key, host = site.key("kms-host", None, PRODUCT, "com.example.server"), host_of(site)
    request = host.request(key, op="host")

    def versions(answer: dict[str, Any]) -> dict[str, int]:
        found = [verified(one, "product", one["root"], site.pub).document for one in answer["products"]]
        assert all(one["root"] == site.keyring.roots.first for one in answer["products"])
        return {one["sub"]: one["ver"] for one in found}

    first = site.ask_one(request)
    assert versions(first) == {PRODUCT: 1, "com.example.server": 1}
    site.office.add_product(
        {"sub": PRODUCT, "name": PRODUCT, "edition": "client", "pol": {"retry": 3600}, "url": ""}, []
    )
    again = site.ask_one(request)
    assert versions(again) == {PRODUCT: 2, "com.example.server": 1}
    assert {name: again[name] for name in ("token", "chain", "roots")} == {
        name: first[name] for name in ("token", "chain", "roots")
    }
    ref = claims_of(first["token"])["jti"]
    extended = host.request(key, op="extend", ref=ref)
    assert versions(site.ask_one({**extended, "usage": host.usage(ref)})) == {
        PRODUCT: 2,
        "com.example.server": 1,
    }
    assert "products" not in site.ask_one(site.machine().request(site.key()))
