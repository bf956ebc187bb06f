"""Machines activate: M1 to M5, M7, M10 and PROTOCOL section 5's table, on both databases."""

from collections.abc import Callable
from typing import Any

import pytest

from authority_site import ADDRESS, Cut, Site
from volact.config import AuthoritySettings
from volact.protocol.problems import Refusal
from world import DAY, NOW, Machine, claims_of, facts, key_signer, new_key, prove, remaining

YEAR = 365 * DAY


def code(answer: Any) -> str:
    assert isinstance(answer, Refusal), answer
    return answer.code


# --- M1, M3: the count ------------------------------------------------------------------------------------------


def test_a_mak_of_n_activates_n_machines_and_a_top_up_one_more(site: Site) -> None:
    key = site.key("mak", 3)
    for done in range(1, 4):
        assert site.activate(site.machine(), key)["sub"]
        assert site.counts(key) == (3, done, 3 - done)
    late = site.machine()
    refused = site.ask_one(late.request(key))
    assert code(refused) == "no-activations-left"
    assert dict(refused.extra) == {"bought": 3, "remaining": 0}
    site.office.raise_key(key.label, 4)
    assert site.activate(late, key)["sub"] == late.cmid
    assert site.counts(key) == (4, 4, 0)


def test_a_retail_key_is_for_one_machine(site: Site) -> None:
    key = site.key("retail")
    assert site.activate(site.machine(), key)["act"]
    assert site.activate(site.machine(), key) == "no-activations-left"


def test_a_batch_that_does_not_fit_is_granted_in_part_and_in_order(site: Site) -> None:
    key = site.key("mak", 3)
    answers = site.ask(*[site.machine().request(key) for _ in range(5)])
    assert [isinstance(one, Refusal) for one in answers] == [False] * 3 + [True] * 2
    assert site.counts(key) == (3, 3, 0)


# --- PROTOCOL section 5 -----------------------------------------------------------------------------------------


def test_row_1_the_same_machine_again_is_not_counted(site: Site) -> None:
    key, machine = site.key(), site.machine()
    first = site.activate(machine, key)
    site.clock.pass_(DAY)
    again = site.activate(machine, key)
    assert (first["act"], first["sub"]) == (again["act"], again["sub"])
    assert first["jti"] != again["jti"]
    assert site.counts(key)[1] == 1


def test_row_2_changed_hardware_moves_once_in_365_days(site: Site) -> None:
    key, machine = site.key(), site.machine()
    act = site.activate(machine, key)["act"]

    def swap_board() -> Any:
        # A new board brings a UUID, a serial and a network card; disk, system and CPU stay.
        fresh = facts()
        machine.parts.update({name: fresh[name] for name in ("uuid", "board")})
        return site.activate(machine, key)

    assert swap_board()["act"] == act
    site.clock.pass_(YEAR - 1)
    refused = swap_board()
    assert refused == "moved-too-often"
    site.clock.pass_(1)
    assert site.activate(machine, key)["act"] == act
    assert site.counts(key)[1] == 1


def test_row_2_says_when_it_may_move_again(site: Site) -> None:
    key, machine = site.key(), site.machine()
    site.activate(machine, key)
    for _ in range(2):
        fresh = facts()
        machine.parts.update({name: fresh[name] for name in ("uuid", "board")})
        refused = site.ask_one(machine.request(key, now=site.clock.now()))
        site.clock.pass_(100)
    assert dict(refused.extra) == {"retry_after": YEAR - 100}


def test_row_5_one_identity_on_foreign_hardware_is_a_clone_and_nothing_is_counted(site: Site) -> None:
    key, machine = site.key(), site.machine()
    act = site.activate(machine, key)["act"]
    original, machine.parts = machine.parts, facts()
    assert site.activate(machine, key) == "identity-cloned"
    assert site.counts(key)[1] == 1
    machine.parts = original
    assert site.activate(machine, key)["act"] == act


def test_row_6_a_rebuilt_machine_is_the_same_activation_six_times_in_365_days(site: Site) -> None:
    key, machine = site.key("mak", 2), site.machine()
    act = site.activate(machine, key)["act"]
    for _ in range(6):
        machine = machine.rebuilt()
        assert site.activate(machine, key)["act"] == act
        site.clock.pass_(DAY)
    seventh = machine.rebuilt()
    site.clock.time = NOW + YEAR - 1
    refused = site.ask_one(seventh.request(key, now=site.clock.now()))
    assert code(refused) == "reactivated-too-often"
    assert dict(refused.extra) == {"retry_after": 1}
    site.clock.pass_(1)
    assert site.activate(seventh, key)["act"] == act
    assert site.counts(key) == (2, 1, 1)


def test_row_6_belongs_to_the_newest_key_afterwards(site: Site) -> None:
    key, machine = site.key(), site.machine()
    site.activate(machine, key)
    fresh = machine.rebuilt()
    site.activate(fresh, key)
    (row,) = site.rows("activation")
    assert row.cmid == fresh.cmid
    # The old image on the same hardware is again a machine with an unknown key: a second rebuild.
    assert site.activate(machine, key)["sub"] == machine.cmid
    assert len(site.rows("change")) == 2
    assert site.counts(key)[1] == 1


def test_row_7_of_several_rows_the_nearest_is_taken_then_the_latest(site: Site) -> None:
    key = site.key()
    board = facts()["board"]
    # Two machines on one board, told apart by their UUIDs; a caller without UUID resembles both.
    parts = {"board": board, "disk": "D", "net": "02:00:00:00:00:01", "cpu": "x"}
    first = site.activate(site.machine(parts={**parts, "uuid": "1" * 32, "os": "a" * 32}), key)
    site.clock.pass_(10)
    second = site.activate(site.machine(parts={**parts, "uuid": "2" * 32, "os": "b" * 32}), key)
    assert first["act"] != second["act"]
    latest = site.activate(site.machine(parts=parts), key)
    assert latest["act"] == second["act"]
    nearest = site.activate(site.machine(parts={**parts, "os": "a" * 32}), key)
    assert nearest["act"] in {first["act"], second["act"]}
    assert site.counts(key)[1] == 2


def test_row_8_a_thin_machine_is_never_recognised(site: Site) -> None:
    key = site.key()
    parts = {"os": "a" * 32, "net": "02:00:00:00:00:01", "cpu": "x"}  # S = 7, S + D = 7
    site.activate(site.machine(parts=parts), key)
    site.activate(site.machine(parts=parts), key)
    site.activate(site.machine(parts={}), key)
    site.activate(site.machine(parts={}), key)
    assert site.counts(key)[1] == 4


def test_own_key_without_a_common_part_is_still_the_same(site: Site) -> None:
    key, machine = site.key(), site.machine()
    act = site.activate(machine, key)["act"]
    parts, machine.parts = machine.parts, {}
    assert site.activate(machine, key)["act"] == act
    # and the known vector stayed: the rebuilt machine is recognised by it
    machine.parts = parts
    assert site.activate(machine.rebuilt(), key)["act"] == act


def test_row_14_a_blocked_activation_blocks_its_rebuilt_machine(site: Site) -> None:
    key, machine = site.key(), site.machine()
    site.office.block_activation(site.activate(machine, key)["act"])
    assert site.activate(machine, key) == "machine-blocked"
    assert site.activate(machine.rebuilt(), key) == "machine-blocked"
    assert site.counts(key)[1] == 1


def test_rebuilds_and_moves_follow_the_products_own_policy(make_site: Callable[..., Site]) -> None:
    site = make_site()
    site.product(rebuilds_per_year=0, moves_per_year=0)
    key, machine = site.key(), site.machine()
    site.activate(machine, key)
    refused = site.ask_one(machine.rebuilt().request(key))
    assert (code(refused), dict(refused.extra)) == ("reactivated-too-often", {})
    site.product(rebuilds_per_year=1)  # version 2 holds at once
    assert site.activate(machine.rebuilt(), key)["act"]


# --- M5: blocks -------------------------------------------------------------------------------------------------


def test_a_blocked_key_gives_nothing_new_and_leaves_recorded_answers(site: Site) -> None:
    key, machine = site.key(), site.machine()
    request = machine.request(key)
    first = site.ask_one(request)
    site.office.block_key(key.label, everything=False)
    assert site.activate(site.machine(), key) == "key-blocked"
    assert site.activate(machine, key) == "key-blocked"
    assert site.ask_one(request) == first
    site.office.block_key(key.label, everything=True)
    assert code(site.ask_one(request)) == "key-blocked"
    assert site.counts(key) == (5, 1, 4)


def test_a_replay_after_a_block_is_refused_for_ever(site: Site) -> None:
    key, machine = site.key(), site.machine()
    request = machine.request(key)
    act = claims_of(site.ask_one(request)["token"])["act"]
    site.office.block_activation(act)
    assert code(site.ask_one(request)) == "machine-blocked"
    assert code(site.ask_one(request, by=site.another_authority())) == "machine-blocked"


# --- replies, F2, F3 --------------------------------------------------------------------------------------------


def test_the_same_request_gets_the_same_bytes_also_after_a_restart(site: Site) -> None:
    key, machine = site.key(), site.machine()
    request = machine.request(key)
    first = site.ask_one(request)
    site.clock.pass_(3 * DAY)
    assert site.ask_one(request) == first
    assert site.ask_one(request, by=site.another_authority()) == first
    assert site.ask(request, request) == [first, first]
    assert site.counts(key)[1] == 1


def test_the_same_request_twice_in_one_batch_is_one_row(site: Site) -> None:
    key, machine = site.key(), site.machine()
    request = machine.request(key)
    one, two = site.ask(request, request)
    assert one == two
    assert len(site.rows("activation")) == len(site.rows("answer")) == 1


def test_two_requests_of_one_machine_in_one_batch_are_one_activation(site: Site) -> None:
    key, machine = site.key("mak", 1), site.machine()
    rebuilt = machine.rebuilt()
    answers = site.ask(machine.request(key), machine.request(key), rebuilt.request(key), machine.request(key))
    assert len({claims_of(one["token"])["act"] for one in answers}) == 1
    assert site.counts(key) == (1, 1, 0)
    assert [row.how for row in site.rows("change")] == ["taken over", "taken over"]


def test_a_request_id_with_other_content_is_refused(site: Site) -> None:
    """PROTOCOL 6 and 7: an id belongs to its asker, who cannot ask something else under it."""
    key, machine = site.key(), site.machine()
    request = machine.request(key)
    site.ask_one(request)
    jti = claims_of(request["token"])["jti"]
    assert code(site.ask_one(machine.request(key, jti=jti, now=NOW + 1))) == "request-id-reused"
    assert site.counts(key)[1] == 1
    assert site.ask_one(site.machine().request(key, jti=jti))["token"], "another machine's id is its own"
    assert site.counts(key)[1] == 2


def test_the_old_request_of_a_machine_that_was_rebuilt_gives_its_old_answer_and_moves_nothing(
    site: Site,
) -> None:
    """A replay after a takeover finds the recorded answer: the row stays with the new CMID (row 6, T14)."""
    key, machine = site.key(), site.machine()
    old = machine.request(key)
    first = site.ask_one(old)
    rebuilt = machine.rebuilt()
    assert site.ask_one(rebuilt.request(key))["token"]
    assert site.ask_one(old) == first
    assert site.counts(key)[1] == 1
    assert [row.cmid for row in site.rows("activation")] == [rebuilt.cmid]


def test_f2_f3_a_cut_between_commit_and_signature_loses_and_doubles_nothing(site: Site) -> None:
    """The record is there before any signature is; a repetition gets what would have been answered."""
    key = site.key("mak", 40)
    cut = site.cut_before_signing()
    for done in range(1, 21):
        request = site.machine().request(key)
        with pytest.raises(Cut):
            site.ask_one(request, by=cut)
        assert len(site.rows("answer")) == done
        answer = site.ask_one(request)
        assert claims_of(answer["token"])["req"] == claims_of(request["token"])["jti"]
        assert site.ask_one(request) == answer
        assert site.counts(key)[1] == done


def test_a_failure_inside_the_transaction_leaves_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from volact.authority import store

    key, request = site.key(), site.machine().request(site.key())
    request = site.machine().request(key)

    def fail(*_: object) -> bool:
        raise Cut

    monkeypatch.setattr(store, "count", fail)
    with pytest.raises(Cut):
        site.ask_one(request)
    monkeypatch.undo()
    assert not site.rows("activation")
    assert not site.rows("answer")
    assert site.counts(key) == (5, 0, 5)
    assert site.ask_one(request)["token"]


# --- who may ask ------------------------------------------------------------------------------------------------


def test_wrong_keys_have_four_different_codes(site: Site) -> None:
    site.product("com.example.other")
    site.product("com.example.third")
    host_key, other = site.key("kms-host"), site.key("mak", 5, "com.example.other")
    assert site.activate(site.machine(), host_key) == "key-wrong-kind"
    assert site.activate(site.machine(), other) == "key-wrong-product"
    assert site.activate(site.machine(), new_key()) == "key-unknown"
    assert code(site.ask_one(remaining(new_key(), site.pub))) == "key-unknown"
    assert code(site.ask_one(site.machine().request(site.key(), op="host"))) == "key-wrong-kind"
    assert code(site.ask_one(remaining(other, site.pub))) == "key-wrong-product"


def test_an_unknown_key_is_answered_the_same_whatever_its_proof(site: Site) -> None:
    """T5, T39: nothing in the answer tells a wrong proof from a key that is not there."""
    machine, key = site.machine(), new_key()
    good = machine.request(key)
    bad = {**machine.request(key), "proof": good["proof"]}
    assert site.ask_one(good) == site.ask_one(bad)
    assert not site.rows("answer")
    assert {row.name for row in site.rows("event")} == {"customer-added", "product-added"}


def test_a_mak_holder_cannot_act_for_another_machine(site: Site) -> None:
    key, victim, thief = site.key(), site.machine(), site.machine()
    request = victim.request(key)
    members = claims_of(request["token"])
    # The thief has the MAK, and can prove anything with it, but has no signature of the victim.
    forged = thief.request(key, sub=victim.cmid)
    assert code(site.ask_one(forged)) == "document-refused"
    stolen = {"token": request["token"], "jwk": thief.signer.jwk.members(), "proof": request["proof"]}
    assert code(site.ask_one(stolen)) == "document-refused"
    # Nor does the victim's request with a proof for another one of its requests.
    other = prove(key_signer(key, site.pub), victim.request(key)["token"], members)
    assert code(site.ask_one({**request, "proof": other})) == "document-refused"
    # Nor with a proof for another machine, operation, product, publisher or laboratory.
    for wrong in (
        {"sub": thief.cmid},
        {"op": "host"},
        {"prd": "com.example.other"},
        {"pub": thief.cmid, "aud": thief.cmid},
        {"lab": False},
    ):
        proof = prove(key_signer(key, site.pub), request["token"], members, **wrong)
        assert code(site.ask_one({**request, "proof": proof})) == "document-refused", wrong
    assert site.counts(key)[1] == 0


def test_requests_of_another_publisher_role_or_shape_are_refused(site: Site) -> None:
    key, machine = site.key(), site.machine()
    good = machine.request(key)
    elsewhere = Machine(key_signer(key, site.pub).kid).request(key)
    not_lab = Machine(site.pub, lab=False).request(key)
    statement = site.ask_one(remaining(key, site.pub))
    refused = [
        elsewhere,
        not_lab,
        {**good, "token": statement["token"]},
        {"token": good["proof"], "jwk": machine.signer.jwk.members(), "proof": good["proof"]},
        {"proof": good["token"]},
        {"proof": statement["token"]},
        {"token": good["token"], "jwk": good["jwk"]},
        {**good, "usage": {}},
        {**good, "token": good["token"][:-2]},
        {**good, "token": "nonsense"},
        {**good, "token": ""},
        machine.request(key, op="return", ref=claims_of(good["token"])["jti"]) | {"proof": good["proof"]},
    ]
    codes = {code(one) for one in site.ask(*refused)}
    assert codes <= {"document-refused", "key-unknown"}
    assert code(site.ask_one({"proof": good["proof"]})) == "document-refused"
    assert code(site.ask_one({})) == "request-malformed"
    assert site.counts(key)[1] == 0


def test_a_proof_for_the_remaining_count_ends(site: Site) -> None:
    key = site.key()
    proof = remaining(key, site.pub)
    site.clock.pass_(90 * DAY)
    assert site.ask_one(proof)["token"]
    site.clock.pass_(1)
    assert code(site.ask_one(proof)) == "document-refused"


# --- M10 --------------------------------------------------------------------------------------------------------


def test_a_bound_key_serves_its_machines_and_networks_only(site: Site) -> None:
    key, listed, near, far = site.key(), site.machine(), site.machine(), site.machine()
    site.office.bind_key(key.label, [listed.cmid], ["198.51.100.0/24", "2001:db8:1::/48"])
    assert site.activate(listed, key)["act"]
    assert site.activate(near, key, address="198.51.100.200")["act"]
    assert site.activate(site.machine(), key, address="2001:db8:1::5")["act"]
    assert site.activate(site.machine(), key, address="::ffff:198.51.100.7")["act"]
    assert site.activate(far, key, address="198.51.101.1") == "machine-not-entitled"
    assert site.activate(far, key, address="file") == "machine-not-entitled"
    site.office.bind_key(key.label, [far.cmid])
    assert site.activate(far, key, address="203.0.113.1")["act"]
    assert site.activate(listed, key) == "machine-not-entitled"
    site.office.bind_key(key.label, [], [])
    assert site.activate(site.machine(), key) == "no-activations-left"
    assert site.counts(key)[1] == 5


def test_the_first_use_from_a_new_source_is_one_event(site: Site) -> None:
    key = site.key()
    for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"):
        site.activate(site.machine(), key, address=address)
    events = [row.detail for row in site.rows("event") if row.name == "first-use-from-source"]
    assert [name for name, _ in site.reported] == ["first-use-from-source"] * len(events)
    assert len(events) == 3
    assert any("2001:db8::/64" in detail for detail in events)
    site.activate(site.machine(), key, address="192.0.2.1", by=site.another_authority())
    assert len(site.rows("source")) == 3
    site.clock.pass_(5)
    site.activate(site.machine(), key, address="192.0.2.3")
    newest = site.office.newest_sources(key.label)
    assert newest[0] == ("192.0.2.3", NOW + 5)
    assert len(newest) == 4


def test_speed_is_limited_per_source_and_per_key(make_site: Callable[..., Site]) -> None:
    site = make_site(settings=AuthoritySettings(key_rate=60, key_burst=4, source_rate=30, source_burst=3))
    site.product()
    key = site.key("mak", 100)
    for _ in range(3):
        assert site.activate(site.machine(), key)["act"]
    slow = site.ask_one(site.machine().request(key))
    assert (code(slow), dict(slow.extra)) == ("too-many-requests", {"retry_after": 2})
    assert site.activate(site.machine(), key, address="192.0.2.99")["act"]
    assert site.activate(site.machine(), key, address="192.0.2.98") == "too-many-requests"
    site.clock.pass_(2)
    assert site.activate(site.machine(), key, address=ADDRESS)["act"]
    assert site.activate(site.machine(), key, address="file")["act"]  # a medium has no speed
    assert len(site.rows("activation")) == 6
