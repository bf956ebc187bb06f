"""What the host keeps of each machine: repetitions, clones, restarts, events, the ledger (K4, K11, K13, K14, T14)."""

import itertools
from typing import Any

import pytest

from kmshost.site import ADDRESS, PRODUCT, SERVER, Machine, Numbers, Site, activated, granted, refused
from volact import signing
from volact.kmshost import store as sql
from volact.kmshost.terms import Terms
from volact.protocol.problems import Refusal
from world import DAY, NOW, facts, new_id

HOUR = 3600
THIRD = "com.example.third"


# --- repetitions ------------------------------------------------------------------------------------------------


def test_the_same_check_in_gets_the_same_bytes_and_is_a_contact_once(site: Site, numbers: Numbers) -> None:
    """K4: asked again under a younger nonce the record lives on from there; nothing else of it changes."""
    machines = activated(site, numbers)
    asked = {"req": new_id(), "name": "pc-17"}
    (first,) = site.send(machines[0].checkin(**asked))
    (before,) = (row for row in site.rows("record") if row.cmid == machines[0].cmid)
    site.clock.pass_(299)
    assert site.send(machines[0].checkin(**asked, state=1, minutes=9)) == [first]
    (after,) = (row for row in site.rows("record") if row.cmid == machines[0].cmid)
    moved = {"last": NOW + 299, "expires": NOW + 299 + numbers.lifetime}
    assert after._asdict() == {**before._asdict(), **moved}
    kept = site.rows("record"), site.rows("event"), site.rows("tally")
    site.restarted()
    assert site.send(*[machines[0].checkin(**asked) for _ in range(3)]) == [first] * 3
    assert (site.rows("record"), site.rows("event"), site.rows("tally")) == kept


def test_a_repetition_under_a_newer_delegation_gets_the_same_bytes(site: Site, numbers: Numbers) -> None:
    machines = activated(site, numbers)
    asked = {"req": new_id()}
    (first,) = site.send(machines[0].checkin(**asked))
    site.clock.pass_(DAY)
    site.delegate()
    (again,) = site.send(machines[0].checkin(**asked))
    assert again == first
    assert site.verified(again)["iat"] == NOW  # type: ignore[arg-type]


def test_twice_in_one_batch_is_a_repetition_too(site: Site, numbers: Numbers) -> None:
    machines = site.machines(numbers.machines)
    site.call(machines[:-1])
    body = machines[-1].checkin()
    one, two = site.send(body, body)
    assert isinstance(one, bytes)
    assert one == two
    assert site.counts() == (numbers.machines, 0)


@pytest.mark.parametrize("other", [{"name": "pc-18"}, {"vm": True}, {"prev": "A" * 22}, {"fp": {}}])
def test_the_same_id_with_other_content_is_refused(
    site: Site, numbers: Numbers, other: dict[str, Any]
) -> None:
    machines = activated(site, numbers)
    asked = {"req": new_id(), "name": "pc-17"}
    (first,) = site.send(machines[0].checkin(**asked))
    before = site.rows("record")
    assert refused("request-id-reused", [machines[0].call(**{**asked, **other})])
    assert site.rows("record") == before
    assert site.send(machines[0].checkin(**asked)) == [first]
    # Another machine, or another product of this one, may choose the same id.
    assert granted([machines[1].call(**{**asked, **other}), machines[0].call(SERVER, **asked)])


def test_a_refused_id_may_come_again_with_other_content(site: Site) -> None:
    one, req = site.machine(), new_id()
    assert refused("count-insufficient", [one.call(req=req), one.call(req=req, name="pc-17")])


def test_2000_captured_requests_change_nothing(site: Site, numbers: Numbers) -> None:
    """T14: who has recorded the traffic gets the answers of its own senders, and after five minutes nothing."""
    machines = activated(site, numbers)
    asked = [one.checkin() for one in machines]
    answers = site.send(*asked)
    before = site.rows("record"), site.rows("event"), site.rows("tally")
    captured = list(itertools.islice(itertools.cycle(asked), 2000))
    for later, expected in ((300, answers), (1, [Refusal("nonce-refused")] * len(asked))):
        site.clock.pass_(later)
        for start in range(0, 2000, 64):
            batch = captured[start : start + 64]
            found = itertools.islice(itertools.cycle(expected), start % len(asked), None)
            assert site.send(*batch) == list(itertools.islice(found, len(batch)))
    assert site.counts() == (numbers.machines, 0)
    assert (site.rows("record"), site.rows("event"), site.rows("tally")) == before


# --- K14 --------------------------------------------------------------------------------------------------------


def swapped(one: Machine, serial: int) -> Machine:
    """The machine after a board swap: the same disk, system and card."""
    board = facts(serial)
    parts = {**one.parts, "uuid": board["uuid"], "board": board["board"]}
    return Machine(one.site, parts=parts, signer=one.signer)


def vector(site: Site, one: Machine) -> Any:
    with site.store.reading() as tx:
        return tx.exec_driver_sql(
            f"SELECT fp, before, last, outcome FROM record WHERE cmid = '{one.cmid}'"
        ).one()


def test_k14_row_2_a_changed_vector_is_taken_and_row_4_who_switches_back_is_a_clone(
    site: Site, numbers: Numbers
) -> None:
    one = activated(site, numbers)[0]
    old = vector(site, one).fp
    site.clock.pass_(HOUR)
    new = swapped(one, 900_001)
    assert granted([new.call(), new.call()])
    taken = vector(site, one)
    assert (taken.before, taken.last) == (old, NOW + HOUR)
    assert taken.fp != old
    site.clock.pass_(HOUR)
    assert refused("identity-cloned", [one.call(), one.call()])
    assert vector(site, one) == taken  # kept as it was: not even its end has moved
    assert granted([new.call(), swapped(one, 900_002).call()])  # a third board is no way back
    assert site.counts() == (numbers.machines, 0)


def test_k14_row_5_a_newcomer_that_is_foreign_is_a_clone_and_counts_nothing(
    site: Site, numbers: Numbers
) -> None:
    machines = site.machines(numbers.machines - 1)
    site.call(machines)
    kept = vector(site, machines[0])
    site.clock.pass_(HOUR)
    copy = site.machine(signer=machines[0].signer)
    assert refused("identity-cloned", [copy.call(), copy.call()])
    assert vector(site, machines[0]) == kept
    assert site.counts() == (numbers.machines - 1, 0)
    # Row 3: its own new identity counts for itself.
    assert granted([site.machine(parts=copy.parts).call()])


def test_k14_vectors_are_compared_within_one_product(site: Site, numbers: Numbers) -> None:
    one = activated(site, numbers)[0]
    copy = site.machine(signer=one.signer)
    assert granted([copy.call(SERVER)])
    assert refused("identity-cloned", [copy.call(), one.call(SERVER)])


def test_k14_nothing_to_compare_leaves_the_vector(site: Site, numbers: Numbers) -> None:
    one = activated(site, numbers)[0]
    old = vector(site, one).fp
    site.clock.pass_(HOUR)
    lease = site.machine(signer=one.signer, parts={}).call()
    assert lease["fp"] == {}
    assert (vector(site, one).fp, vector(site, one).last) == (old, NOW + HOUR)


@pytest.mark.parametrize("later", [-1, 0])
def test_k4_a_record_that_ended_is_no_record(site: Site, numbers: Numbers, later: int) -> None:
    """Its vectors are forgotten, its row is a new machine's, whether or not it was deleted meanwhile."""
    one = activated(site, numbers)[0]
    asked = {"req": new_id()}
    (first,) = site.send(one.checkin(**asked))
    site.clock.pass_(numbers.lifetime + later)
    site.call(site.machines(numbers.machines))
    copy = site.machine(signer=one.signer)
    if later < 0:
        assert refused("identity-cloned", [copy.call()])
        assert site.send(one.checkin(**asked)) == [first]
        return
    (again,) = site.send(one.checkin(**asked))
    assert again != first
    assert site.count(f"SELECT COUNT(*) FROM record WHERE cmid = '{one.cmid}'") == 1
    assert site.count(f"SELECT first FROM record WHERE cmid = '{one.cmid}'") == site.clock.now()
    assert site.count(f"SELECT renewals FROM record WHERE cmid = '{one.cmid}'") == 0
    site.clock.pass_(numbers.lifetime)
    assert isinstance(copy.call(), Refusal)
    assert refused("identity-cloned", [one.call()])


# --- K11 --------------------------------------------------------------------------------------------------------


def test_k11_a_restart_keeps_the_count(site: Site, numbers: Numbers) -> None:
    machines = site.machines(numbers.machines)
    for place, one in enumerate(machines[:-1], start=1):
        assert dict(one.call().extra)["count"] == place
        site.restarted()
    body = machines[-1].checkin()  # with the nonce of the host before its restart
    site.restarted()
    assert site.ask(body)[0]["cnt"] == numbers.machines
    assert site.counts() == (numbers.machines, 0)


# --- K13, events ------------------------------------------------------------------------------------------------


def test_event_12290_says_everything_of_a_request(site: Site, numbers: Numbers) -> None:
    machines = site.machines(numbers.machines)
    site.call(machines[:-2])
    site.reported.clear()
    site.clock.pass_(HOUR)
    asked: dict[str, Any] = {"iat": 17, "vm": True, "state": 3, "minutes": 99}
    site.call(machines[-2:], **asked)
    machines[0].call(THIRD, **asked)
    most = numbers.machines
    found = site.reported
    assert [
        (one.result, one.product, one.cmid, one.required, one.current, one.renewal, one.retry)
        for one in found
    ] == [
        ("count-insufficient", PRODUCT, machines[-2].cmid, most, most - 1, None, None),
        ("ok", PRODUCT, machines[-1].cmid, most, most, numbers.renewal, numbers.retry),
        ("product-not-served", THIRD, machines[0].cmid, None, None, None, None),
    ]
    for one in found:
        assert (one.time, one.event, one.host) == (NOW + HOUR, 12290, ADDRESS)
        assert (one.client_time, one.virtual, one.state, one.minutes) == (17, True, 3, 99)
    with site.store.reading() as tx:
        assert sql.events(tx, since=NOW + HOUR) == found
        assert len(sql.events(tx)) == most - 2 + 3


def test_k13_requests_are_counted_by_outcome_and_reported_state(site: Site, numbers: Numbers) -> None:
    machines = site.machines(numbers.machines)
    site.call(machines[:-1], state=2)
    site.call(machines[:2], state=5)
    site.call(machines, state=2)
    machines[0].call(THIRD, state=0)
    site.machine(signer=machines[0].signer).call(state=1)
    machines[0].call(nonce="A" * 43)  # nobody's until it is verified
    assert {(row.outcome, row.state): row.n for row in site.rows("tally")} == {
        ("count-insufficient", 2): 2 * (numbers.machines - 1),
        ("count-insufficient", 5): 2,
        ("product-not-served", 0): 1,
        ("identity-cloned", 1): 1,
        ("ok", 2): 1,
    }


def test_k13_the_ledger_says_who_since_when_until_when_and_why_not(site: Site, numbers: Numbers) -> None:
    one = site.machine()
    one.call(name="pc-17", state=3, minutes=99, vm=True)
    site.clock.pass_(HOUR)
    one.call(name="pc-17", state=3, minutes=39, vm=True)
    (row,) = site.rows("record")
    assert (row.cmid, row.prd, row.grp, bool(row.server)) == (one.cmid, PRODUCT, "publisher", False)
    assert (row.first, row.last, row.expires) == (NOW, NOW + HOUR, NOW + HOUR + numbers.lifetime)
    assert (row.state, row.minutes, bool(row.virtual), row.name, row.address) == (
        3,
        39,
        True,
        "pc-17",
        ADDRESS,
    )
    assert (row.outcome, row.req, row.lease_end, row.renewals) == ("count-insufficient", None, None, 0)
    site.call(site.machines(numbers.machines - 1))
    leases = [one.call() for _ in range(3)]
    row = next(found for found in site.rows("record") if found.cmid == one.cmid)
    assert (row.outcome, row.req, row.lease, row.lease_end, row.renewals) == (
        "ok",
        leases[2]["req"],
        leases[2]["jti"],
        NOW + HOUR + numbers.validity,
        2,
    )
    assert row.kid == site.signer.kid


# --- GET /v1/host -----------------------------------------------------------------------------------------------


def test_the_introduction_is_the_same_for_everybody_and_a_second_old_at_most(site: Site) -> None:
    first = site.introduction()
    assert site.introduction() == first
    site.clock.pass_(1)
    second = site.introduction()
    assert second["nonce"] != first["nonce"]
    assert second["chain"] == first["chain"]
    assert set(second) == {"root", "roots", "chain", "token", "nonce"}
    site.host.use(Terms(site.keyring(), tls=("B" * 43,)))
    assert site.introduction()["token"] != second["token"]


def test_an_address_that_calls_with_a_key_of_its_own_is_its_own_machine(site: Site) -> None:
    one = site.machine()
    two = site.machine(parts=one.parts, signer=signing.generate())
    one.call()
    assert dict(two.call().extra)["count"] == 2
