"""What the publisher took back or blocked is put in force by no VAMT: M5, M6, P4."""

from __future__ import annotations

import secrets

import pytest

from vamt.proxy.trips import ON_BOTH, Trip
from vamt.site import OPERATOR
from volact.authority import statuslist
from volact.protocol.keys import ProductKey
from volact.protocol.problems import Refused
from volact.vamt import receipts
from volact.vamt.selecting import Selection

MODES = pytest.mark.parametrize(
    ("mode", "code"), [("returned", "activation-returned"), ("all", "machine-blocked")]
)


def fallen(trip: Trip, mode: str, key: ProductKey | None = None) -> tuple[str, str]:
    """Two machines are activated, and the first one's activation falls; the list's id, and that activation."""
    key = key or trip.authority.key(activations=3)
    trip.estate(2)
    lid, _ = trip.round_trip(key)
    trip.inside.applying.apply(OPERATOR, lid, trip.bring)
    claims = trip.applied["pc0"]
    if mode == "returned":
        assert trip.authority.give_back(trip.machines["pc0"], key, claims["jti"])["act"] == claims["act"]
    else:
        trip.authority.office.block_activation(claims["act"])
    with trip.authority.store.writing() as tx:
        statuslist.renew(tx, trip.authority.keyring, secrets.token_bytes, trip.authority.clock.now())
    trip.applied.clear()
    return lid, claims["act"]


def learn(trip: Trip, lid: str) -> None:
    """The status list goes inside."""
    trip.acquire(lid)
    data = trip.outside.acquiring.status_file(OPERATOR, trip.pub)
    assert data
    trip.inside.acquiring.take_status(OPERATOR, data)


def kept_acts(trip: Trip) -> set[str]:
    with trip.inside.site.store.reading() as tx:
        return set(tx.exec_driver_sql("SELECT act FROM confirmation").scalars())


@MODES
def test_a_kept_confirmation_that_fell_is_given_to_nobody_and_forgotten(
    trip: Trip, mode: str, code: str
) -> None:
    """A machine that was set up anew has no list and no memory of its return: it would take it."""
    lid, act = fallen(trip, mode)
    both = Selection(("pc0", "pc1"))
    trip.inside.applying.reactivate(OPERATOR, both, trip.bring)
    assert set(trip.applied) == {"pc0", "pc1"}, f"{code}: nothing is known of it inside"
    trip.applied.clear()
    learn(trip, lid)
    (done,) = trip.inside.applying.reactivate(OPERATOR, both, trip.bring)
    assert (done.machine, done.state) == ("pc1", "applied")
    assert set(trip.applied) == {"pc1"}
    with pytest.raises(Refused) as caught:
        trip.inside.applying.reactivate(OPERATOR, Selection(("pc0",)), trip.bring)
    assert caught.value.refusal.code == "list-empty"
    assert act not in kept_acts(trip)
    assert len(kept_acts(trip)) == 1


@ON_BOTH
def test_one_that_comes_after_the_list_is_not_found(trip: Trip) -> None:
    lid, act = fallen(trip, "returned")
    with trip.inside.site.store.reading() as tx:
        mids = tx.exec_driver_sql("SELECT mid FROM confirmation").scalars().all()
        late = [one for one in receipts.kept(tx, mids) if one.act == act]
    assert len(late) == 1
    learn(trip, lid)
    elsewhere = late[0]._replace(pub="B" * 43)
    with trip.inside.site.store.writing() as tx:
        receipts.keep(tx, [*late, elsewhere])
        found = receipts.kept(tx, mids)
    assert elsewhere in found, "another publisher's list says nothing of it"
    assert late[0] not in found
    assert len(found) == 2


@ON_BOTH
def test_a_machine_whose_confirmation_fell_is_asked_for_again(trip: Trip) -> None:
    """Else an export would say for ever that one is kept."""
    key = trip.authority.key(activations=3)
    lid, _ = fallen(trip, "returned", key)
    learn(trip, lid)
    trip.join("pc0", trip.machines["pc0"].rebuilt())
    trip.join("pc1", trip.machines["pc1"].rebuilt())
    trip.pending.clear()
    done = trip.export(key)
    assert sorted((one.machine, one.state) for one in done.outcomes) == [("pc0", "written"), ("pc1", "kept")]


@MODES
def test_an_answer_that_fell_is_brought_to_no_machine(trip: Trip, mode: str, code: str) -> None:
    lid, _ = fallen(trip, mode)
    learn(trip, lid)
    done = trip.inside.applying.apply(OPERATOR, lid, trip.bring, again=True)
    assert {one.machine.partition(".")[0]: (one.state, one.refusal and one.refusal.code) for one in done} == {
        "pc0": ("failed", code),
        "pc1": ("applied", None),
    }
    assert set(trip.applied) == {"pc1"}
    trip.applied.clear()
    (again,) = trip.inside.applying.apply(OPERATOR, lid, trip.bring)
    assert again.refusal
    assert again.refusal.code == code
    assert trip.applied == {}
