"""P1 to P5, F31, F33, F40: whole trips, with a real authority at one end and requests of real keys at the other."""

from __future__ import annotations

import secrets

import pytest

from vamt.proxy.trips import ALL, ON_BOTH, Trip, rows_of
from vamt.site import OPERATOR, VIEWER
from volact.authority import statuslist
from volact.protocol import ids
from volact.protocol.problems import DocumentRefused, Refusal, Refused, Unreachable
from volact.vamt import receipts
from volact.vamt.applying import Applied
from volact.vamt.receipts import Kept
from volact.vamt.selecting import Selection
from world import claims_of, key_signer, remaining


@ON_BOTH
def test_out_and_back(trip: Trip) -> None:
    """P1: export, import, acquire, export, import, apply; each machine gets its own confirmation."""
    key = trip.authority.key(activations=5)
    trip.estate(3)
    lid, back = trip.round_trip(key)
    assert trip.inside.states(back) == ["answered"] * 3
    assert (back.ref, back.damage, back.again, back.older) == (lid, "", False, False)
    assert trip.authority.counts(key) == (5, 3, 2)
    done = trip.inside.applying.apply(OPERATOR, lid, trip.bring)
    assert [one.state for one in done] == ["applied"] * 3
    assert {name: claims["sub"] for name, claims in trip.applied.items()} == {
        name: one.cmid for name, one in trip.machines.items()
    }


@ON_BOTH
def test_a_trip_is_receipted_on_both_sides(trip: Trip) -> None:
    """Issue 5 item 4: which row, which key, when, by whom."""
    key = trip.authority.key(activations=5)
    trip.estate(2)
    trip.inside.site.clock.pass_(10)
    lid, _ = trip.round_trip(key)
    for side, direction in ((trip.inside, "out"), (trip.outside, "in")):
        found, rows = side.proxy.receipt(VIEWER, lid)
        assert (found.direction, found.rows, found.who) == (direction, 2, OPERATOR.name)
        thumbprint = key_signer(key, trip.pub).kid
        assert {(item.state, item.who, item.key) for item, _ in rows} == {
            ("answered", OPERATOR.name, thumbprint)
        }
        assert {item.at for item, _ in rows} == {side.site.clock.now()}
    assert [(who, what, result) for who, what, result, _ in trip.inside.site.log()][-2:] == [
        (OPERATOR.name, "export", "ok"),
        (OPERATOR.name, "import", "ok"),
    ]


def test_proxy_data_only_says_nothing_of_anybody(trip: Trip) -> None:
    """P2: none of the planted names, domains, addresses, MACs is in the file; and it still comes back to its rows."""
    key = trip.authority.key(activations=50)
    canaries = []
    for number in range(12):
        name, domain = f"canary{number}n", f"canary{number}d.example"
        address, mac = f"203.0.113.{number + 1}", f"0260aabbcc{number:02x}"
        trip.join(name, domain=domain, addresses=(address,), macs=(mac,))
        canaries += [name, domain, address, mac]
    canaries += [OPERATOR.name, "UTC"]
    assert len(canaries) == 50
    trip.export(key, mode="full")
    full = trip.inside.file.decode()
    assert sum(one in full for one in canaries) == 48
    done = trip.export(key, mode="proxy")
    file = trip.inside.file
    in_clear = file + b"".join(map(_opened, rows_of(file)))
    assert [one for one in canaries if one.encode() in in_clear] == []
    trip.outside.take(file)
    back = trip.inside.take(trip.answer(done.written.lid))
    assert trip.inside.states(back) == ["answered"] * 12


def _opened(row: dict[str, object]) -> bytes:
    """All that is base64url in a row, in clear."""
    found = b""
    for text in (row["proof"], row["request"]["token"]):  # type: ignore[index]
        found += b"".join(ids.unb64u(part) for part in str(text).split(".")[:2])
    return found


def test_two_exports_share_no_row_id(trip: Trip) -> None:
    key = trip.authority.key()
    trip.estate(3)
    trip.export(key)
    first = trip.inside.file
    trip.export(key)
    found = [{row["row"] for row in rows_of(file)} for file in (first, trip.inside.file)]
    assert [len(one) for one in found] == [3, 3]
    assert not found[0] & found[1]


@ON_BOTH
def test_twice_is_once(trip: Trip) -> None:
    """P3: the same list twice, both ways."""
    key = trip.authority.key(activations=5)
    trip.estate(3)
    done = trip.export(key)
    trip.outside.take(trip.inside.file)
    again = trip.outside.take(trip.inside.file)
    assert (again.again, trip.outside.states(again)) == (True, ["known"] * 3)
    answer = trip.answer(done.written.lid)
    trip.acquire(done.written.lid)
    assert trip.authority.counts(key) == (5, 3, 2)
    trip.inside.take(answer)
    before = trip.inside.proxy.receipt(VIEWER, done.written.lid)
    again = trip.inside.take(answer)
    assert (again.again, trip.inside.states(again)) == (True, ["known"] * 3)
    assert trip.inside.proxy.receipt(VIEWER, done.written.lid) == before


def test_a_batch_of_100_on_a_key_with_60_left(trip: Trip) -> None:
    """F40: 60 activated, 40 no-activations-left, and resumable after a top-up."""
    key = trip.authority.key(activations=60)
    trip.estate(100)
    done = trip.export(key)
    trip.outside.take(trip.inside.file)
    acquired = trip.acquire(done.written.lid)
    assert (acquired.answered, acquired.before, trip.wire.batches) == (60, 0, [100])
    codes = [one.refusal.code for one in acquired.outcomes if one.refusal]
    assert codes == ["no-activations-left"] * 40
    back = trip.inside.take(trip.answer(done.written.lid))
    assert sorted(trip.inside.states(back)) == ["answered"] * 60 + ["refused no-activations-left"] * 40
    trip.authority.office.raise_key(key.label, 100)
    acquired = trip.acquire(done.written.lid)
    assert (acquired.answered, acquired.before) == (40, 60)
    assert trip.wire.batches == [100, 40, 40]
    back = trip.inside.take(trip.answer(done.written.lid))
    assert sorted(trip.inside.states(back)) == ["answered"] * 40 + ["known"] * 60


def test_an_authority_that_goes_away_half_way(trip: Trip) -> None:
    """What was answered is kept; acquiring goes on with the rest."""
    key = trip.authority.key(activations=200)
    trip.estate(102)
    done = trip.export(key)
    trip.outside.take(trip.inside.file)
    trip.wire.after = Unreachable(Refusal("authority-unreachable", "It is down."))
    with pytest.raises(Unreachable):
        trip.acquire(done.written.lid)
    trip.wire.after = None
    trip.wire.batches.clear()
    acquired = trip.acquire(done.written.lid)
    assert (acquired.answered, acquired.before, trip.wire.batches) == (2, 100, [2])
    assert trip.authority.counts(key) == (200, 102, 98)


@ON_BOTH
def test_three_of_five_and_a_machine_rebuilt_between_the_trips(trip: Trip) -> None:
    """F33: the report is exact; the rebuilt machine is activated by what came for its former self (row 12)."""
    key = trip.authority.key(activations=3)
    trip.estate(5)
    lid, back = trip.round_trip(key)
    assert sorted(trip.inside.states(back)) == ["answered"] * 3 + ["refused no-activations-left"] * 2
    answered = [one.machine for one in back.outcomes if one.state == "answered"]
    _, rows = trip.inside.proxy.receipt(VIEWER, lid)
    first = next(said.machine for _, said in rows if said.state == "answered").partition(".")[0]
    trip.join(first, trip.machines[first].rebuilt())
    done = trip.inside.applying.apply(OPERATOR, lid, trip.bring)
    assert len(done) == len(answered) == 3
    assert {one.state for one in done} == {"applied"}
    assert first in trip.applied


def test_other_hardware_under_an_old_name_refuses(trip: Trip) -> None:
    """Row 12: else `other-machine`; the others are applied, and the row is tried again next time."""
    key = trip.authority.key(activations=3)
    trip.estate(2)
    lid, _ = trip.round_trip(key)
    trip.join("pc0")
    done = trip.inside.applying.apply(OPERATOR, lid, trip.bring)
    assert sorted((one.machine, one.state) for one in done) == [
        ("pc0.secret.example", "failed"),
        ("pc1.secret.example", "applied"),
    ]
    (again,) = trip.inside.applying.apply(OPERATOR, lid, trip.bring)
    assert (again.machine, again.refusal and again.refusal.code) == ("pc0.secret.example", "other-machine")


@ON_BOTH
def test_kept_confirmations_are_given_again(trip: Trip) -> None:
    """P4: a machine rebuilt on the same hardware; no count spent, no one contacted."""
    key = trip.authority.key(activations=3)
    trip.estate(2)
    trip.round_trip(key)
    trip.join("pc0", trip.machines["pc0"].rebuilt())
    trip.pending.clear()
    trip.wire.batches.clear()
    (done,) = trip.inside.applying.reactivate(OPERATOR, Selection(("pc0",)), trip.bring)
    assert (done.machine, done.state) == ("pc0", "applied")
    assert set(trip.applied) == {"pc0"}
    assert trip.authority.counts(key) == (3, 2, 1)
    assert trip.wire.batches == []


def test_an_export_says_for_whom_a_confirmation_is_kept(trip: Trip) -> None:
    key = trip.authority.key(activations=3)
    trip.estate(2)
    trip.round_trip(key)
    trip.join("pc0", trip.machines["pc0"].rebuilt())
    trip.join("pc1")
    trip.pending.clear()
    done = trip.export(key)
    assert sorted((one.machine, one.state) for one in done.outcomes) == [("pc0", "kept"), ("pc1", "written")]
    done = trip.export(key, again=True)
    assert {one.state for one in done.outcomes} == {"written"}


@ON_BOTH
def test_hosts_returns_and_counts_travel_too(trip: Trip) -> None:
    """P5, M3, M6: a host's request, a return and a remaining proof are rows; what comes back is what was asked for."""
    mak, host_key = trip.authority.key(activations=3), trip.authority.key("kms-host")
    machine, ref, act = trip.authority.activated(mak)
    host = trip.authority.machine()
    with trip.inside.site.store.writing() as tx:
        claims = Kept(trip.pub, "com.example.cad", "k", machine.cmid, act, {}, {}, "m", 1, 1)
        receipts.keep(tx, [claims])
    bundles = [
        host.request(host_key, "host"),
        machine.request(mak, "return", ref=ref),
        remaining(mak, trip.pub),
    ]
    done = trip.inside.proxy.export(OPERATOR, trip.pub, trip.inside.out, bundles=bundles, mode="proxy")
    assert [one.op for one in done.outcomes] == ["host", "return", "remaining"]
    trip.outside.take(trip.inside.file)
    back = trip.inside.take(trip.answer(done.written.lid))
    assert trip.inside.states(back) == ["answered"] * 3
    _, rows = trip.inside.proxy.receipt(VIEWER, done.written.lid)
    assert [item.state for item, _ in rows] == ["answered", "applied", "applied"]
    with trip.inside.site.store.reading() as tx:
        assert receipts.kept(tx, ["m"]) == []
    brought = []

    def bring(works: object) -> object:
        for one in works:  # type: ignore[attr-defined]
            brought.append((one.op, one.name))
            yield Applied(one, None)

    trip.inside.applying.apply(OPERATOR, done.written.lid, bring)  # type: ignore[arg-type]
    assert brought == [("host", "")]
    extend = host.request(host_key, "extend", ref=str(_jti(rows[0][0].answer)))
    extend["usage"] = host.usage(str(_jti(rows[0][0].answer)))
    done = trip.inside.proxy.export(OPERATOR, trip.pub, trip.inside.out, bundles=[extend])
    trip.outside.take(trip.inside.file)
    back = trip.inside.take(trip.answer(done.written.lid))
    assert trip.inside.states(back) == ["answered"]


def _jti(answer: dict[str, object] | None) -> object:
    assert answer is not None
    return claims_of(str(answer["token"]))["jti"]


def test_the_status_list_travels_on_the_medium(trip: Trip) -> None:
    """M5: fetched outside with the answers, taken in inside; a publisher's that is not known is refused."""
    key = trip.authority.key()
    trip.estate(1)
    lid, _ = trip.round_trip(key)
    data = trip.outside.acquiring.status_file(VIEWER, trip.pub)
    assert data is not None
    assert trip.inside.acquiring.status_file(VIEWER, trip.pub) is None
    assert trip.inside.acquiring.take_status(OPERATOR, data)[0] == trip.pub
    assert trip.inside.acquiring.status_file(VIEWER, trip.pub) == data
    with pytest.raises(DocumentRefused):
        trip.inside.acquiring.take_status(OPERATOR, data + b"x\n")
    assert trip.inside.acquiring.status_file(VIEWER, trip.pub) == data
    assert lid


@ON_BOTH
def test_an_older_status_list_changes_nothing(trip: Trip) -> None:
    """PROTOCOL 7: a later pair replaces an earlier one, never the other way."""
    key = trip.authority.key()
    trip.estate(1)
    lid, _ = trip.round_trip(key)
    old = trip.outside.acquiring.status_file(VIEWER, trip.pub)
    trip.authority.office.block_key(key.label, everything=True)
    trip.authority.clock.pass_(100)
    with trip.authority.store.writing() as tx:
        statuslist.renew(tx, trip.authority.keyring, secrets.token_bytes, trip.authority.clock.now())
    trip.acquire(lid)
    new = trip.outside.acquiring.status_file(VIEWER, trip.pub)
    assert old
    assert new
    assert old != new
    for data in (old, new, old):
        trip.inside.acquiring.take_status(OPERATOR, data)
    assert trip.inside.acquiring.status_file(VIEWER, trip.pub) == new


def test_who_may_do_it(trip: Trip) -> None:
    """V6: a viewer exports, imports, acquires and applies nothing; an operator pins no writer."""
    key = trip.authority.key()
    trip.estate(1)
    calls = [
        lambda: trip.inside.proxy.export(VIEWER, trip.pub, trip.inside.out, selection=ALL),
        lambda: trip.inside.proxy.trust(OPERATOR, "A" * 43),
        lambda: trip.outside.acquiring.acquire(VIEWER, "A" * 22, trip.wire),
        lambda: trip.inside.applying.apply(VIEWER, "A" * 22, trip.bring),
    ]
    for call in calls:
        with pytest.raises(Refused) as caught:
            call()  # type: ignore[no-untyped-call]
        assert caught.value.refusal.code == "role-insufficient"
    assert key
