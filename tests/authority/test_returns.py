"""Machines give their activation back: M6, PROTOCOL section 7 and section 5's rows 6, 13 and 14, on both databases."""

from pathlib import Path
from typing import Any

import pytest

from authority_site import ADDRESS, Site
from volact import db
from volact.authority import records
from volact.authority.keyring import Keyring
from volact.authority.store import Store
from volact.protocol import matching, trust
from volact.protocol.problems import Refusal, Refused
from world import DAY, NOW, PRODUCT, claims_of, facts, new_id

YEAR = 365 * DAY
SCRIPTS = Path(db.__file__).parent / "authority" / "migrations"


def code(answer: Any) -> str:
    assert isinstance(answer, Refusal), answer
    return answer.code


# --- the seat ---------------------------------------------------------------------------------------------------


def test_an_online_return_frees_its_seat_at_once(site: Site) -> None:
    key = site.key("mak", 2)
    machine, ref, act = site.activated(key)
    site.activated(key)
    assert site.activate(site.machine(), key) == "no-activations-left"
    site.clock.pass_(10)
    request = machine.request(key, "return", now=site.clock.now(), ref=ref)
    receipt = site.ask_one(request)
    granted = trust.verify(receipt, "receipt", trust.open_roots(site.keyring.roots.first, site.pub))
    asked = trust.open_self_keyed(request, "request").document
    matching.check_answer(granted.document, asked)
    wanted = {
        "sub": machine.cmid, "op": "return", "prd": PRODUCT, "key": asked["key"], "act": act, "iat": NOW + 10,
        "req": asked.jti, "ref": asked.jti,
    }  # fmt: skip
    assert {name: granted.document[name] for name in wanted} == wanted
    assert site.counts(key) == (2, 1, 1)
    assert site.activated(key)
    assert site.counts(key) == (2, 2, 0)


def test_a_return_by_file_frees_its_seat_after_30_days(site: Site) -> None:
    """By file is what came on a medium, and what the machine wrote for one, whoever posts it."""
    returned = []
    for address, file in (("file", False), (ADDRESS, True), ("file", True)):
        key = site.key("mak", 1)
        machine, ref, act = site.activated(key)
        assert site.give_back(machine, key, ref, address=address, file=file)["act"] == act
        assert site.counts(key) == (1, 1, 0)
        returned.append(key)
    for passed, free in ((30 * DAY - 1, False), (30 * DAY, True), (30 * DAY + 1, True)):
        site.clock.time = NOW + passed
        for key in returned:
            assert site.counts(key) == ((1, 0, 1) if free else (1, 1, 0))
            (shown,) = site.office.activations(key.label)
            assert (shown.returned, shown.frees) == (NOW, None if free else NOW + 30 * DAY)
        listed = site.office.keys()
        assert [(row.used, row.returning) for row in listed] == [(0, 0) if free else (1, 1)] * 3
        if not free:
            assert site.activate(site.machine(), returned[0]) == "no-activations-left"
    assert site.office.raise_key(returned[0].label, 2).remaining == 2
    for left in (1, 0):
        assert site.activated(returned[0])
        assert site.counts(returned[0])[2] == left
    assert site.activate(site.machine(), returned[0]) == "no-activations-left"


def test_a_file_that_says_false_is_an_online_return(site: Site) -> None:
    key = site.key("mak", 1)
    machine, ref, _ = site.activated(key)
    request = machine.request(key, "return", ref=ref, file=False)
    assert site.ask_one(request)["token"]
    assert site.counts(key) == (1, 0, 1)


def test_seats_that_fall_due_together_are_counted_once(site: Site) -> None:
    key = site.key("mak", 40)
    machines = [site.activated(key) for _ in range(6)]
    for machine, ref, _ in machines[:4]:
        assert site.give_back(machine, key, ref, file=True)["act"]
    assert site.counts(key) == (40, 6, 34)
    site.clock.pass_(30 * DAY)
    assert site.counts(key) == (40, 2, 38)
    for used in range(3, 6):  # the first of these writes the four off
        assert site.activated(key)
        assert site.counts(key) == (40, used, 40 - used)
    assert site.rows("product_key")[0].used == 5
    assert {row.frees for row in site.rows("returned")} == {None}


# --- what follows for the machine -------------------------------------------------------------------------------


def test_row_13_a_machine_that_returned_activates_again_and_is_counted(site: Site) -> None:
    key = site.key("mak", 2)
    machine, ref, act = site.activated(key)
    site.give_back(machine, key, ref, file=True)
    again = site.activate(machine, key)
    assert again["act"] != act
    assert site.counts(key) == (2, 2, 0)
    assert site.activate(machine.rebuilt(), key)["act"] == again["act"], "the new row is the one to take over"
    assert site.counts(key) == (2, 2, 0)


def test_a_rebuilt_machine_after_a_return_is_a_new_one(site: Site) -> None:
    key = site.key("mak", 2)
    machine, ref, act = site.activated(key)
    site.give_back(machine, key, ref)
    assert site.activate(machine.rebuilt(), key)["act"] != act
    assert site.counts(key) == (2, 1, 1)


def test_an_old_answer_is_never_given_again_after_a_return(site: Site) -> None:
    key, machine = site.key(), site.machine()
    old = machine.request(key)
    first = claims_of(site.ask_one(old)["token"])
    newer = machine.request(key)
    ref = claims_of(site.ask_one(newer)["token"])["jti"]
    site.give_back(machine, key, ref)
    for _ in range(2):
        assert code(site.ask_one(old)) == code(site.ask_one(newer)) == "activation-returned"
        site.clock.pass_(180 * DAY)
    assert code(site.ask_one(old, by=site.another_authority())) == "activation-returned"
    assert site.activate(machine, key)["act"] != first["act"]
    assert code(site.ask_one(old)) == "activation-returned"


def test_the_same_return_gets_the_same_receipt_for_ever(site: Site) -> None:
    key = site.key("mak", 3)
    machine, ref, _ = site.activated(key)
    request = machine.request(key, "return", ref=ref)
    first = site.ask_one(request)
    site.clock.pass_(100 * DAY)
    assert site.ask_one(request, by=site.another_authority()) == first
    assert site.ask(request, request) == [first, first]
    assert site.activate(machine, key)["act"]
    assert site.ask_one(request) == first, "it concerns the activation that was returned, not the new one"
    assert site.ask_one(request, address="file") == first
    site.office.block_key(key.label, everything=True)
    assert site.ask_one(request) == first
    assert site.counts(key) == (3, 1, 2)
    assert len(site.rows("returned")) == 1


def test_a_second_return_says_so(site: Site) -> None:
    key = site.key()
    machine, ref, _ = site.activated(key)
    site.give_back(machine, key, ref)
    assert site.give_back(machine, key, ref) == "activation-returned"
    assert site.give_back(machine, key, ref, file=True) == "activation-returned"
    assert site.counts(key)[1] == 0


def test_a_return_s_id_with_other_content_is_refused(site: Site) -> None:
    key = site.key()
    machine, ref, _ = site.activated(key)
    request = machine.request(key, "return", ref=ref)
    site.ask_one(request)
    jti = claims_of(request["token"])["jti"]
    other = machine.request(key, "return", ref=ref, jti=jti, now=NOW + 1)
    assert code(site.ask_one(other)) == "request-id-reused"
    assert code(site.ask_one(machine.request(key, jti=jti))) == "request-id-reused"


# --- the status list --------------------------------------------------------------------------------------------


def test_a_returned_activation_is_on_the_status_list(site: Site) -> None:
    key = site.key("mak", 40)
    one, two = site.activated(key), site.activated(key)
    before = site.status()[0]["ver"]
    site.clock.pass_(5)
    site.ask(*[machine.request(key, "return", now=NOW + 5, ref=ref) for machine, ref, _ in (one, two)])
    head, _ = site.status()
    assert head["ver"] == before + 1, "one list a batch"
    assert site.marks() == sorted(f"act {act} returned {NOW + 5}" for _, _, act in (one, two))


def test_a_returned_entry_goes_after_400_days_and_a_block_does_not(site: Site) -> None:
    key = site.key()
    machine, ref, act = site.activated(key)
    _, _, blocked = site.activated(key)
    site.give_back(machine, key, ref)
    site.office.block_activation(blocked)
    for passed, listed in ((400 * DAY - 1, 1), (400 * DAY, 0), (400 * DAY + 1, 0)):
        with site.store.reading() as tx:
            entries = records.blocked(tx, NOW + passed)
        left = [(act, "returned")] * listed
        assert sorted((one.id, one.mode) for one in entries) == sorted([*left, (blocked, "all")])


def test_without_a_status_key_nothing_is_returned_and_the_others_are_served(site: Site) -> None:
    key = site.key()
    machine, ref, _ = site.activated(key)
    ring = site.keyring
    issuer = [one for one in ring._delegations.values() if one.rol == "issuer"]
    without = site.another_authority(Keyring(ring.publisher, ring.roots, issuer, ring.issuer, ring.status))
    answers = site.ask(machine.request(key, "return", ref=ref), site.machine().request(key), by=without)
    assert code(answers[0]) == "authority-expired"
    assert answers[1]["token"]
    assert not site.rows("returned")
    assert site.marks() == []


# --- who may ----------------------------------------------------------------------------------------------------


def test_only_the_machine_that_holds_the_activation_returns_it(site: Site) -> None:
    site.product("com.example.other")
    key, other, hosts = site.key(), site.key("mak", 5, "com.example.other"), site.key("kms-host")
    machine, ref, _ = site.activated(key)
    thief = site.machine()
    assert site.give_back(thief, key, ref) == "nothing-to-return"
    assert site.give_back(machine, site.key(), ref) == "nothing-to-return", "another key of the same product"
    assert site.give_back(machine, other, ref) == "key-wrong-product"
    assert site.give_back(machine, hosts, ref) == "key-wrong-kind"
    forged = thief.request(key, "return", ref=ref, sub=machine.cmid)
    assert code(site.ask_one(forged)) == "document-refused"
    proved = machine.request(key, "return", ref=ref) | {"proof": machine.request(key)["proof"]}
    assert code(site.ask_one(proved)) == "document-refused"
    assert code(site.ask_one(machine.request(key, "return", ref=ref) | {"usage": {}})) == "document-refused"
    assert site.counts(key)[1] == 1


def test_no_key_is_needed_to_return_and_no_binding_holds_it_up(site: Site) -> None:
    """PROTOCOL 2: the machine's signature alone; a list of machines is about what is new."""
    key = site.key()
    machine, ref, _ = site.activated(key)
    site.office.bind_key(key.label, [site.machine().cmid], ["198.51.100.0/24"])
    assert site.give_back(machine, key, ref, address="203.0.113.7")["act"]
    assert {row.network for row in site.rows("source")} == {ADDRESS}, "nobody used the key from elsewhere"


def test_row_6_after_a_takeover_only_the_new_identity_returns(site: Site) -> None:
    key = site.key("mak", 2)
    machine, ref, act = site.activated(key)
    fresh, newer, same = site.activated(key, machine.rebuilt())
    assert same == act
    site.clock.pass_(90 * DAY)
    assert site.give_back(machine, key, ref) == "nothing-to-return"
    assert site.give_back(machine, key, newer) == "nothing-to-return"
    assert site.give_back(fresh, key, newer)["act"] == act
    assert code(site.ask_one(machine.request(key, "return", ref=ref))) == "nothing-to-return"
    assert site.counts(key) == (2, 0, 2)


def test_the_return_names_the_newest_confirmation(site: Site) -> None:
    """A promise on a medium is void once its machine has activated again: that was not counted."""
    key = site.key("mak", 2)
    machine, old, act = site.activated(key)
    promise = machine.request(key, "return", ref=old, file=True)
    site.clock.pass_(DAY)
    _, new, same = site.activated(key, machine)
    assert same == act
    assert code(site.ask_one(promise)) == "confirmation-superseded"
    assert site.give_back(machine, key, new_id()) == "confirmation-superseded"
    assert site.give_back(machine, key, claims_of(promise["token"])["jti"]) == "confirmation-superseded"
    assert site.counts(key) == (2, 1, 1)
    assert site.give_back(machine, key, new)["act"] == act


def test_a_copy_of_the_identity_on_foreign_hardware_returns_nothing(site: Site) -> None:
    key = site.key("mak", 40)
    machine, ref, act = site.activated(key)
    own, machine.parts = machine.parts, facts()
    assert site.give_back(machine, key, ref) == "identity-cloned"
    assert site.counts(key)[1] == 1
    machine.parts = {}
    assert site.give_back(machine, key, ref)["act"] == act, "nothing in common to compare"
    machine, ref, act = site.activated(key)
    machine.parts = {"disk": machine.parts["disk"], "board": own["board"], "cpu": own["cpu"]}
    assert site.give_back(machine, key, ref)["act"] == act, "changed"


def test_row_14_a_blocked_activation_is_not_returned(site: Site) -> None:
    """Else its seat would be new again, and the block void."""
    key = site.key("mak", 2)
    machine, ref, act = site.activated(key)
    site.office.block_activation(act)
    assert site.give_back(machine, key, ref) == "machine-blocked"
    assert site.counts(key) == (2, 1, 1)
    assert [line.split()[2] for line in site.marks()] == ["all"]


def test_a_blocked_key_s_activations_are_returned_unless_they_are_blocked_too(site: Site) -> None:
    key = site.key("mak", 2)
    one, other = site.activated(key), site.activated(key)
    site.office.block_key(key.label, everything=False)
    assert site.give_back(one[0], key, one[1])["act"] == one[2]
    assert site.activate(one[0], key) == "key-blocked"
    site.office.block_key(key.label, everything=True)
    assert site.give_back(other[0], key, other[1]) == "key-blocked"
    assert site.counts(key) == (2, 1, 1)


def test_a_returned_activation_cannot_be_blocked(site: Site) -> None:
    key = site.key()
    machine, ref, act = site.activated(key)
    site.give_back(machine, key, ref)
    with pytest.raises(Refused) as refused:
        site.office.block_activation(act)
    assert refused.value.refusal.code == "activation-returned"
    assert [line.split()[2] for line in site.marks()] == ["returned"]


def test_a_return_is_an_event_and_is_reported(site: Site) -> None:
    key = site.key("mak", 40)
    online, by_file = site.activated(key), site.activated(key)
    site.give_back(online[0], key, online[1])
    site.give_back(by_file[0], key, by_file[1], file=True)
    found = [row.detail for row in site.rows("event") if row.name == "activation-returned"]
    assert found == [
        f'{{"act": "{online[2]}", "file": false, "frees": {NOW}}}',
        f'{{"act": "{by_file[2]}", "file": true, "frees": {NOW + 30 * DAY}}}',
    ]
    told = [fields for name, fields in site.reported if name == "activation-returned"]
    assert told == [{"label": key.label, "activation": one[2]} for one in (online, by_file)]


def test_the_list_of_activations_shows_whose_it_was(site: Site) -> None:
    key = site.key("mak", 40)
    machine, ref, act = site.activated(key)
    host = site.machine()
    assert site.ask_one(host.request(site.key("kms-host"), "host"))["token"]
    site.clock.pass_(7)
    site.give_back(machine, key, ref)
    rows = {row.act: row for row in site.office.activations()}
    shown = rows.pop(act)
    assert (shown.id, shown.blocked, shown.returned, shown.frees, shown.times) == (
        machine.cmid, "", NOW + 7, None, 1,
    )  # fmt: skip
    (other,) = rows.values()
    assert (other.kind, other.returned, other.frees) == ("host", None, None)


# --- an older store ---------------------------------------------------------------------------------------------


def test_activations_of_the_schema_before_are_returned_after_the_upgrade(database: str | Path) -> None:
    engine = db.connect(database)
    store = Store(engine)
    site = Site(database)
    site.product()
    key = site.key("mak", 3)
    machine, ref, act = site.activated(key)
    with site.store.writing() as tx:
        tx.exec_driver_sql("DROP TABLE returned")
        tx.exec_driver_sql("DROP INDEX ix_activation_blocked")
        tx.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    store.migrate()
    assert site.give_back(machine, key, ref)["act"] == act
    assert site.counts(key) == (3, 0, 3)
    site.close()
    store.close()
