"""The limits of returns, and returns in one batch, at once, and cut short: M6, PROTOCOL section 7, F2, F3, T7."""

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from authority_site import Cut, Site
from volact.authority import schema
from volact.config import AuthoritySettings
from volact.protocol.keys import ProductKey
from volact.protocol.problems import Refusal
from world import DAY, NOW, Machine, claims_of, facts, new_id

YEAR = 365 * DAY


def code(answer: Any) -> str:
    assert isinstance(answer, Refusal), answer
    return answer.code


# --- limits -----------------------------------------------------------------------------------------------------


def test_nothing_is_returned_within_90_days_of_a_takeover(site: Site) -> None:
    key = site.key()
    machine, _, _ = site.activated(key)
    site.clock.pass_(10)
    fresh, ref, act = site.activated(key, machine.rebuilt())
    site.clock.pass_(90 * DAY - 1)
    answer = site.ask_one(fresh.request(key, "return", ref=ref))
    assert (code(answer), dict(answer.extra)) == ("taken-over-recently", {"retry_after": 1})
    assert site.counts(key)[1] == 1
    site.clock.pass_(1)
    assert site.give_back(fresh, key, ref)["act"] == act


def test_a_move_to_changed_hardware_holds_no_return_up(site: Site) -> None:
    key = site.key()
    machine, _, _ = site.activated(key)
    fresh = facts()
    machine.parts.update({name: fresh[name] for name in ("uuid", "board")})
    _, ref, _ = site.activated(key, machine)
    assert [row.how for row in site.rows("change")] == ["moved"]
    assert site.give_back(machine, key, ref)["act"]


@pytest.mark.parametrize("who", ["itself", "rebuilt", "nothing to see"])
def test_a_machine_returns_once_in_90_days(site: Site, who: str) -> None:
    key = site.key()
    machine, ref, _ = site.activated(key, site.machine(parts={}) if who == "nothing to see" else None)
    site.give_back(machine, key, ref)
    site.clock.pass_(10)
    machine, ref, act = site.activated(key, machine.rebuilt() if who == "rebuilt" else machine)
    site.clock.time = NOW + 90 * DAY - 1
    # Whatever it says of itself now: the hardware that counts is the row's.
    answer = site.ask_one(machine.request(key, "return", ref=ref, fp={}))
    assert (code(answer), dict(answer.extra)) == ("returned-too-soon", {"retry_after": 1})
    assert site.counts(key)[1] == 1
    site.clock.pass_(1)
    assert site.give_back(machine, key, ref)["act"] == act


def test_another_machine_and_another_key_are_not_held_up_by_a_return(site: Site) -> None:
    key, other = site.key("mak", 40), site.key("mak", 40)
    thin = {"os": "a" * 32, "net": "02:00:00:00:00:01", "cpu": "x"}  # never recognised
    machine = site.machine(parts=thin)
    _, ref, _ = site.activated(key, machine)
    _, elsewhere, _ = site.activated(other, machine)
    assert site.give_back(machine, key, ref)["act"]
    assert site.give_back(machine, other, elsewhere)["act"]
    stranger, ref, _ = site.activated(key, site.machine(parts=thin))
    assert site.give_back(stranger, key, ref)["act"]


def test_a_key_has_so_many_returns_in_365_days(make_site: Callable[..., Site]) -> None:
    """The product's policy as it is now counts, and what was bought."""
    site = make_site()
    site.product(returns_per_year=50)
    key = site.key("mak", 6)
    machines = [site.activated(key) for _ in range(4)]
    for machine, ref, _ in machines[:3]:
        assert isinstance(site.give_back(machine, key, ref), dict)
        site.clock.pass_(10)
    last, ref, _ = machines[3]
    answer = site.ask_one(last.request(key, "return", ref=ref))
    assert code(answer) == "returns-used-up"
    assert dict(answer.extra) == {"retry_after": YEAR - 30}
    site.product(returns_per_year=66)
    assert site.give_back(last, key, ref) == "returns-used-up"
    site.product(returns_per_year=67)
    assert isinstance(site.give_back(last, key, ref), dict)


def test_a_return_counts_for_365_days(site: Site) -> None:
    key = site.key("mak", 10)
    one, two, three = (site.activated(key) for _ in range(3))
    site.give_back(one[0], key, one[1])
    site.clock.pass_(20)
    site.give_back(two[0], key, two[1], file=True)
    # The issuer's delegation lasts a year; what the row says is moved instead of the clock.
    with site.store.writing() as tx:
        tx.execute(sa.update(schema.returned).values(at=schema.returned.c.at - YEAR + 1 + DAY))
    site.clock.time = NOW + DAY
    answer = site.ask_one(three[0].request(key, "return", ref=three[1]))
    assert (code(answer), dict(answer.extra)) == ("returns-used-up", {"retry_after": 1})
    site.clock.pass_(1)
    assert site.give_back(three[0], key, three[1])["act"] == three[2]


def test_a_top_up_brings_more_returns(site: Site) -> None:
    key = site.key("mak", 20)
    machines = [site.activated(key) for _ in range(4)]
    said = [site.give_back(machine, key, ref) for machine, ref, _ in machines[:3]]
    assert said[2] == "returns-used-up"
    site.office.raise_key(key.label, 30)
    assert site.give_back(machines[2][0], key, machines[2][1])["act"]
    assert site.give_back(machines[3][0], key, machines[3][1]) == "returns-used-up"


# --- speed ------------------------------------------------------------------------------------------------------


def _slow(site: Site, bundle: dict[str, Any], **more: Any) -> str:
    answer = site.ask_one(bundle, **more)
    return answer.code if isinstance(answer, Refusal) else ""


def test_what_does_not_prove_the_key_takes_nothing_of_its_speed(make_site: Callable[..., Site]) -> None:
    """Whoever knows a key's thumbprint, which each confirmation shows, can sign a return or an extension of it."""
    site = make_site(settings=AuthoritySettings(key_rate=60, key_burst=4, source_rate=30, source_burst=3))
    site.product()
    key, hosts = site.key("mak", 100), site.key("kms-host")
    holder, ref, _ = site.activated(key)
    for source in ("192.0.2.1", "192.0.2.2"):
        for _ in range(3):
            stranger = site.machine()
            assert (
                _slow(site, stranger.request(key, "return", ref=ref), address=source) == "nothing-to-return"
            )
            extending = _extension(stranger, hosts)
            assert _slow(site, extending, address=source) == "delegation-unknown"
        for bundle in (site.machine().request(key, "return", ref=ref), _extension(site.machine(), hosts)):
            answer = site.ask_one(bundle, address=source)
            assert (code(answer), dict(answer.extra)) == ("too-many-requests", {"retry_after": 2})
        assert site.activate(site.machine(), key, address=source)["act"]
    assert _slow(site, holder.request(key, "return", ref=ref), address="192.0.2.3") == ""
    assert _slow(site, site.machine().request(key), address="192.0.2.3") == ""
    assert _slow(site, site.machine().request(key), address="192.0.2.3") == "too-many-requests", (
        "four at once"
    )
    site.clock.pass_(2)
    again = site.machine().request(key, "return", now=site.clock.now(), ref=ref)
    assert _slow(site, again, address="192.0.2.1") == "nothing-to-return"
    assert _slow(site, holder.request(key, "return", ref=ref), address="file") == "activation-returned"


def _extension(host: Machine, key: ProductKey) -> dict[str, Any]:
    ref = new_id()
    return host.request(key, "extend", ref=ref) | {"usage": host.usage(ref)}


# --- in one batch, at once, cut short ---------------------------------------------------------------------------


def test_a_seat_that_is_returned_goes_to_the_next_of_the_same_batch(site: Site) -> None:
    key = site.key("mak", 1)
    machine, ref, _ = site.activated(key)
    late, later = site.machine(), site.machine()
    answers = site.ask(
        late.request(key), machine.request(key, "return", ref=ref), later.request(key), late.request(key)
    )
    assert code(answers[0]) == code(answers[3]) == "no-activations-left"
    assert claims_of(answers[2]["token"])["sub"] == later.cmid
    assert site.counts(key) == (1, 1, 0)


def test_within_a_batch_a_return_holds_for_what_comes_after_it(site: Site) -> None:
    key, machine = site.key("mak", 40), site.machine()
    old = machine.request(key)
    first = claims_of(site.ask_one(old)["token"])
    mine = machine.request(key, "return", ref=first["jti"])
    again, twice = machine.request(key), machine.request(key, "return", ref=first["jti"])
    answers = site.ask(old, mine, old, twice, mine, again, machine.rebuilt().request(key), again)
    assert claims_of(answers[0]["token"])["jti"] == first["jti"]
    assert code(answers[2]) == code(answers[3]) == "activation-returned"
    assert answers[4] == answers[1]
    fresh = claims_of(answers[5]["token"])
    assert fresh["act"] != first["act"]
    assert claims_of(answers[6]["token"])["act"] == fresh["act"], (
        "row 6 finds the new row, not the returned one"
    )
    assert answers[7] == answers[5]
    assert site.counts(key) == (40, 1, 39)
    assert sorted(row.blocked for row in site.rows("activation")) == ["", "returned"]


def test_activated_moved_and_returned_in_one_batch(site: Site) -> None:
    """The rows of a batch are written in an order in which no two ever hold one CMID."""
    key = site.key("mak", 40)
    machine, ref, act = site.activated(key)
    site.clock.pass_(1)
    fresh = facts()
    machine.parts.update({name: fresh[name] for name in ("uuid", "board")})
    moved = machine.request(key, now=NOW + 1)
    lost = machine.request(key, "return", now=NOW + 1, ref=ref)
    answers = site.ask(moved, lost)
    assert code(answers[1]) == "confirmation-superseded"
    ref = claims_of(answers[0]["token"])["jti"]
    answers = site.ask(machine.request(key, "return", now=NOW + 1, ref=ref), machine.request(key))
    assert claims_of(answers[0]["token"])["act"] == act != claims_of(answers[1]["token"])["act"]
    assert [row.cmid for row in site.rows("returned")] == [machine.cmid]
    assert site.counts(key) == (40, 1, 39)


def test_three_returns_in_one_batch_are_held_to_the_limit(site: Site) -> None:
    key = site.key("mak", 20)
    machines = [site.activated(key) for _ in range(3)]
    answers = site.ask(*[machine.request(key, "return", ref=ref) for machine, ref, _ in machines])
    assert [isinstance(one, Refusal) for one in answers] == [False, False, True]
    assert code(answers[2]) == "returns-used-up"
    assert dict(answers[2].extra) == {"retry_after": YEAR}


def test_a_machine_that_returns_twice_in_one_batch_is_too_soon(site: Site) -> None:
    """Two authorities may have confirmed in between; in one batch the model is told by the second row's reference."""
    key = site.key("mak", 40)
    machine, ref, _ = site.activated(key)
    rebuilt, other, _ = site.activated(key, site.machine(parts={**machine.parts, "uuid": "f" * 32}))
    rebuilt.parts = machine.parts
    with site.store.writing() as tx:  # as if the hardware had been recognised as two machines
        same = (
            sa.select(schema.activation.c.fp)
            .where(schema.activation.c.cmid == machine.cmid)
            .scalar_subquery()
        )
        tx.execute(sa.update(schema.activation).values(fp=same))
    answers = site.ask(machine.request(key, "return", ref=ref), rebuilt.request(key, "return", ref=other))
    assert code(answers[1]) == "returned-too-soon"


def test_the_same_return_from_two_processes_at_once_is_one(site: Site) -> None:
    key = site.key("mak", 200)
    machines = [site.activated(key) for _ in range(10)]
    requests = [machine.request(key, "return", ref=ref) for machine, ref, _ in machines]
    left, right = site.ask_twice(requests)
    assert left == right
    assert all("token" in answer for answer in left)
    assert site.counts(key) == (200, 0, 200)
    assert len(site.rows("returned")) == 10


def test_f2_f3_a_cut_between_commit_and_signature_loses_and_doubles_nothing(site: Site) -> None:
    key = site.key("mak", 200)
    cut = site.cut_before_signing()
    for done in range(1, 11):
        machine, ref, act = site.activated(key)
        request = machine.request(key, "return", ref=ref)
        with pytest.raises(Cut):
            site.ask_one(request, by=cut)
        receipt = site.ask_one(request)
        assert claims_of(receipt["token"])["act"] == act
        assert site.ask_one(request) == receipt
        assert len(site.rows("returned")) == done
        assert site.counts(key) == (200, 0, 200)


def test_a_failure_inside_the_transaction_leaves_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from volact.authority import statuslist

    key = site.key()
    machine, ref, _ = site.activated(key)
    request = machine.request(key, "return", ref=ref)

    def fail(*_: object) -> int:
        raise Cut

    monkeypatch.setattr(statuslist, "renew", fail)
    with pytest.raises(Cut):
        site.ask_one(request)
    monkeypatch.undo()
    assert not site.rows("returned")
    assert site.counts(key) == (5, 1, 4)
    assert site.marks() == []
    assert site.ask_one(request)["token"]
