"""V5, V2: what waits for machines that are off, and what is repeated: when it is due, for whom, and how often."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from vamt.collecting.standins import LOOPBACK, StandIns
from vamt.pcs import Pc, Seats
from vamt.site import ADMINISTRATOR, AUDITOR, OPERATOR, VIEWER
from vamt.test_acts import BOTH, EVERY, MEANS, act, authority, estate, hold, outcomes, ring, run, seats_of
from vamt.test_keys import Keyring, refusal
from volact.protocol.problems import Refusal, Refused
from volact.vamt import actionrecords, schema
from volact.vamt.actions import Action
from volact.vamt.credentials import Kept
from volact.vamt.inventory import Sighting
from volact.vamt.logins import Known, Opened
from volact.vamt.people import Person
from volact.vamt.schedules import Wanted
from volact.vamt.selecting import Selection
from world import DAY, NOW, PRODUCT

if TYPE_CHECKING:
    from volact.vamt.actionrecords import Row
    from volact.vamt.sealing import Sealer

__all__ = ["authority", "ring"]  # fixtures
pytestmark = pytest.mark.sockets
MINUTE, HOUR = 60, 3600
HOST = Action("set-host", host="kms1")


def off(ring: Keyring, name: str = "m0", domain: str = "a.invalid") -> None:
    """A machine whose place nobody listens at."""
    ring.site.clock.pass_(1)
    ring.site.see(Sighting("hand", name, domain, (LOOPBACK,), 1))


def unmet(ring: Keyring, *names: str) -> None:
    """Machines that once said what is on them, and are off."""
    for name in names:
        ring.join(name, PRODUCT)
        off(ring, name, "example.com")


async def back(ring: Keyring, machines: StandIns, pc: Pc) -> None:
    """It is on again, elsewhere."""
    target = await machines.add(pc)
    ring.site.clock.pass_(1)
    ring.site.see(
        Sighting("hand", pc.name, "a.invalid", target.hosts, target.port, host_keys=target.host_keys)
    )


async def due(ring: Keyring, now: int) -> list[Row]:
    ring.site.clock.time = now
    return await ring.site.vamt.queue.run_due(now, MEANS)


def waiting(ring: Keyring) -> list[tuple[str, int, int]]:
    """Machine, tries, and when it is due, of what waits."""
    return [(one.row.machine, one.row.tries, one.row.due or 0) for one in ring.site.vamt.queue.list(VIEWER)]


def test_a_machine_that_is_off_is_waited_for_and_nothing_is_counted_twice(ring: Keyring) -> None:
    (key,) = hold(ring, 5)

    async def work(machines: StandIns) -> None:
        seats = seats_of(key)
        pcs = await estate(ring, machines, seats, 2)
        off(ring)
        begun = ring.site.clock.now()
        acted = await act(ring, BOTH, queue=True)
        assert outcomes(acted) == {"m0": ("queued", "unreachable-port"), "m1": ("done", "ok")}
        assert waiting(ring) == [("m0", 1, begun + 15 * MINUTE)]
        assert await due(ring, begun + 15 * MINUTE - 1) == []
        assert [one.state for one in await due(ring, begun + 15 * MINUTE)] == ["queued"]
        assert waiting(ring) == [("m0", 2, begun + 45 * MINUTE)]
        # It did it before it went off, and nobody heard of it.
        seats.activate(key.label, "m0")
        pcs[0].one.update(state=1, channel="mak", partial_key=key.label, granted="2026-11-24T12:00:00Z")
        await back(ring, machines, pcs[0])
        (row,) = await due(ring, begun + 45 * MINUTE)
        assert (row.state, row.tries, row.detail) == ("done", 3, "It was so already; nothing was changed.")
        assert (pcs[0].told, seats.counts()) == ([], {key.label: 2})
        assert waiting(ring) == []
        assert await due(ring, begun + DAY) == []
        log = [one for one in ring.site.log() if one[1] == "install-key"]
        assert [one[2] for one in log].count("unreachable-port") == 2

    run(work)


def test_without_the_seal_what_takes_no_key_is_tried_all_the_same(ring: Keyring) -> None:
    (key,) = hold(ring, 5)
    unmet(ring, "m0", "m1")

    def locked() -> Sealer:
        raise Refused(Refusal("passphrase-missing"))

    asyncio.run(act(ring, BOTH, Selection(("m0",)), queue=True))
    asyncio.run(act(ring, HOST, Selection(("m1",)), queue=True))
    later = ring.site.clock.now() + HOUR
    ring.site.clock.time = later
    work = ring.site.vamt.queue.run_due(later, MEANS._replace(unlock=locked))
    with pytest.raises(Refused) as refused:
        asyncio.run(work)
    assert refused.value.refusal.code == "passphrase-missing"
    assert sorted((name, tries) for name, tries, _ in waiting(ring)) == [("m0", 1), ("m1", 2)]
    assert key.text()[:11] not in str(ring.site.log())


def test_without_the_seal_other_actions_than_those_with_a_sealed_login_go_on(ring: Keyring) -> None:
    unmet(ring, "m0", "m1")
    ring.site.vamt.groups.create(ADMINISTRATOR, "front")
    ring.site.vamt.groups.add(ADMINISTRATOR, "front", Selection(("m0",)))

    def locked() -> Sealer:
        raise Refused(Refusal("passphrase-missing"))

    for name in ("m0", "m1"):
        asyncio.run(act(ring, HOST, Selection((name,)), queue=True))
    later = ring.site.clock.now() + HOUR
    ring.site.clock.time = later
    sealed = Known("front", Kept("password", "vamt", "{}", "1.AAAA"), 0)
    logins = Opened([sealed], locked, MEANS.logins)
    with pytest.raises(Refused) as refused:
        asyncio.run(ring.site.vamt.queue.run_due(later, MEANS._replace(logins=logins, unlock=locked)))
    assert refused.value.refusal.code == "passphrase-missing"
    assert sorted((name, tries) for name, tries, _ in waiting(ring)) == [("m0", 1), ("m1", 2)]


def test_what_waits_is_given_up_after_30_days(ring: Keyring) -> None:
    unmet(ring, "m0")
    begun = ring.site.clock.now()
    asyncio.run(act(ring, HOST, queue=True))
    (row,) = asyncio.run(due(ring, begun + 30 * DAY - 1))
    assert (row.state, row.due) == ("queued", begun + 30 * DAY)
    (row,) = asyncio.run(due(ring, begun + 30 * DAY))
    assert (row.state, row.code) == ("failed", "unreachable-port")
    assert waiting(ring) == []


def test_without_being_told_nothing_waits_nor_does_what_no_later_try_mends(ring: Keyring) -> None:
    unmet(ring, "m0")
    assert outcomes(asyncio.run(act(ring, Action("remove-key"), queue=True)))["m0"][0] == "queued"
    assert outcomes(asyncio.run(act(ring, HOST)))["m0"][0] == "failed"

    async def work(machines: StandIns) -> None:
        pcs = await estate(ring, machines, Seats(), 2)
        assert pcs
        acted = await act(ring, Action("remove-key"), Selection(("m1.a.invalid",)), queue=True)
        assert [(one.state, one.code) for one in acted.rows] == [("failed", "no-key-installed")]

    ring.site.vamt.machines.remove(OPERATOR, EVERY)
    run(work)


def test_what_waits_is_for_who_began_it_with_the_role_that_they_have_then(ring: Keyring) -> None:
    access = ring.site.vamt.access
    access.put(ADMINISTRATOR, "olga", "key-administrator")
    unmet(ring, "m0")

    def wait(who: Person) -> None:
        aid = ring.site.vamt.acts.begin(who, HOST, EVERY, queue=True)
        asyncio.run(ring.site.vamt.acts.run(who, aid, MEANS))

    def came(delay: int) -> list[tuple[str, str]]:
        rows = asyncio.run(due(ring, ring.site.clock.now() + delay))
        return [(one.state, one.code) for one in rows]

    wait(Person("olga", "key-administrator"))
    access.put(ADMINISTRATOR, "olga", "viewer")
    assert came(DAY) == [("failed", "role-insufficient")]
    wait(Person("olga", "operator"))
    access.remove(ADMINISTRATOR, "olga")
    assert came(DAY) == [("failed", "person-unknown")]
    wait(Person("root", "key-administrator"))  # the user of this machine, whom nobody entered
    assert came(DAY) == [("queued", "unreachable-port")]
    assert {one[2] for one in ring.site.log()} >= {"role-insufficient", "unreachable-port"}


def test_cancelling(ring: Keyring) -> None:
    queue = ring.site.vamt.queue
    unmet(ring, "m0", "m1", "m2")
    acted = asyncio.run(act(ring, HOST, Selection(("m0", "m1")), queue=True))
    asyncio.run(act(ring, Action("deactivate"), Selection(("m2",)), queue=True))
    assert refusal(lambda: queue.cancel(ADMINISTRATOR, ["nobody"])) == "action-not-queued"
    assert refusal(lambda: queue.cancel(VIEWER, ["m0"])) == "role-insufficient"
    assert refusal(lambda: queue.cancel(AUDITOR, [], every=True)) == "role-insufficient"
    assert refusal(lambda: queue.cancel(OPERATOR, ["m2"])) == "role-insufficient"
    assert queue.cancel(OPERATOR, ["m0"]) == 1
    assert queue.cancel(OPERATOR, [acted.task.aid]) == 1
    assert queue.cancel(ADMINISTRATOR, [], every=True) == 1
    assert waiting(ring) == []
    states = [one.state for one in ring.site.vamt.acts.show(VIEWER, acted.task.aid).rows]
    assert states == ["cancelled", "cancelled"]
    assert refusal(lambda: ring.site.vamt.acts.newest_open(VIEWER)) == "action-unknown"
    assert asyncio.run(due(ring, NOW + DAY)) == []


def test_two_that_try_the_queue_at_once_do_a_row_once(ring: Keyring) -> None:
    async def work(machines: StandIns) -> None:
        (pc,) = await estate(ring, machines, Seats(), 1)
        off(ring)
        await act(ring, HOST, queue=True)
        await back(ring, machines, pc)
        later = ring.site.clock.now() + HOUR
        found = await asyncio.gather(due(ring, later), due(ring, later))
        assert sorted(len(rows) for rows in found) == [0, 1]
        assert len(pc.told) == 1

    run(work)


def test_what_was_done_meanwhile_is_not_cancelled(ring: Keyring) -> None:
    unmet(ring, "m0")
    acted = asyncio.run(act(ring, HOST, queue=True))
    (row,) = acted.rows
    with ring.site.store.writing() as tx:
        actionrecords.settle(tx, row._replace(state="done", due=None))
        assert actionrecords.cancel(tx, [row.number]) == 0
    (row,) = ring.site.vamt.acts.show(VIEWER, acted.task.aid).rows
    assert row.state == "done"


# --- schedules ------------------------------------------------------------------------------------------------------


def wanted(name: str = "nightly", action: Action | None = None, **more: Any) -> Wanted:
    return Wanted(name, action, **{"selection": EVERY, "every": DAY, "at": 2 * HOUR, **more})


async def tick(ring: Keyring, now: int) -> list[tuple[str, str, str]]:
    ring.site.clock.time = now
    return [(one.name, one.result, one.detail) for one in await ring.site.vamt.schedules.run_due(now, MEANS)]


def test_what_was_missed_is_done_once_and_the_rhythm_stays(ring: Keyring) -> None:
    async def work(machines: StandIns) -> None:
        await estate(ring, machines, Seats(), 2)
        made = ring.site.vamt.schedules.add(OPERATOR, wanted())
        first = NOW - NOW % DAY + 2 * HOUR + (DAY if NOW % DAY >= 2 * HOUR else 0)
        assert (made.next, made.last, made.who) == (first, None, "otto")
        assert await tick(ring, first - 1) == []
        said = "2 of 2 machines gave a report"
        assert await tick(ring, first) == [("nightly", "ok", said)]
        assert await tick(ring, first) == []
        assert await tick(ring, first + 5 * DAY + HOUR) == [("nightly", "ok", said)]
        (one,) = ring.site.vamt.schedules.list(VIEWER)
        assert (one.next, one.last, one.result) == (first + 6 * DAY, first + 5 * DAY + HOUR, "ok")

    run(work)


def test_an_action_is_repeated_on_who_is_selected_then(ring: Keyring) -> None:
    """Machines that come later are in it; those that are off wait if that was said."""
    (key,) = hold(ring, 5)

    async def work(machines: StandIns) -> None:
        seats = seats_of(key)
        await estate(ring, machines, seats, 1)
        every = wanted("keys", BOTH, at=None, every=HOUR, key=key.label, queue=True)
        ring.site.vamt.schedules.add(ADMINISTRATOR, every)
        pcs = await estate(ring, machines, seats, 3)
        off(ring, "m2")
        assert pcs
        assert await tick(ring, NOW + 2 * HOUR) == [("keys", "ok", "2 done, 0 failed, 1 queued")]
        assert seats.counts() == {key.label: 2}
        assert [one[0] for one in waiting(ring)] == ["m2"]
        (task, counts), *_ = ring.site.vamt.acts.list(VIEWER)
        assert (task.who, dict(counts)) == ("ada", {"done": 2, "queued": 1})

    run(work)


def test_a_schedule_that_comes_to_nothing_says_why_and_stays(ring: Keyring) -> None:
    ring.site.vamt.access.put(ADMINISTRATOR, "olga", "operator")
    ring.join("m0", PRODUCT)
    schedules = ring.site.vamt.schedules
    schedules.add(ADMINISTRATOR, wanted("empty", at=None, every=HOUR))
    schedules.add(Person("olga", "operator"), wanted("olgas", HOST, at=None, every=HOUR))
    ring.site.vamt.machines.remove(OPERATOR, EVERY)
    ring.site.vamt.access.remove(ADMINISTRATOR, "olga")
    found = asyncio.run(tick(ring, NOW + HOUR))
    assert [(name, result) for name, result, _ in found] == [
        ("empty", "selection-empty"),
        ("olgas", "person-unknown"),
    ]
    assert [(one.name, one.next) for one in schedules.list(VIEWER)] == [
        ("empty", NOW + 2 * HOUR),
        ("olgas", NOW + 2 * HOUR),
    ]


def test_two_services_do_a_schedule_once(ring: Keyring) -> None:
    async def work(machines: StandIns) -> None:
        (pc,) = await estate(ring, machines, Seats(), 1)
        ring.site.vamt.schedules.add(OPERATOR, wanted("host", HOST, at=None, every=HOUR))
        found = await asyncio.gather(tick(ring, NOW + HOUR), tick(ring, NOW + HOUR))
        assert sorted(len(one) for one in found) == [0, 1]
        assert len(pc.told) == 1
        (one,) = ring.site.vamt.schedules.list(VIEWER)
        with ring.site.store.writing() as tx:  # two that read it before either took it
            assert actionrecords.take_schedule(tx, one, one.next + HOUR, one.next)
            assert not actionrecords.take_schedule(tx, one, one.next + HOUR, one.next)

    run(work)


def test_schedules_that_are_given_wrongly(ring: Keyring) -> None:
    (key,) = hold(ring, 5)
    ring.join("m0", PRODUCT)
    schedules = ring.site.vamt.schedules

    def code(who: Person, one: Wanted) -> str:
        return refusal(lambda: schedules.add(who, one))

    assert code(VIEWER, wanted()) == "role-insufficient"
    assert code(AUDITOR, wanted()) == "role-insufficient"
    assert code(OPERATOR, wanted(action=BOTH)) == "role-insufficient"
    assert code(OPERATOR, wanted(selection=Selection(("nobody",)))) == "machine-unknown"
    assert code(OPERATOR, wanted(selection=Selection())) == "selection-empty"
    assert code(OPERATOR, wanted(name="")) == "usage"
    assert code(OPERATOR, wanted(name="a\nb")) == "usage"
    assert code(OPERATOR, wanted(name="n" * 101)) == "usage"
    assert code(OPERATOR, wanted(action=Action("set-host"))) == "usage"
    assert code(ADMINISTRATOR, wanted(action=HOST, key=key.label)) == "usage"
    assert code(ADMINISTRATOR, wanted(action=BOTH, key=key.text())) == "usage"
    assert code(ADMINISTRATOR, wanted(action=BOTH, key="MZZZZ")) == "key-not-held"
    assert code(OPERATOR, wanted(queue=True)) == "usage"
    assert schedules.list(VIEWER) == []
    schedules.add(OPERATOR, wanted(name="n" * 100))
    assert code(OPERATOR, wanted(name="n" * 100)) == "already-exists"
    assert refusal(lambda: schedules.remove(OPERATOR, "nobody")) == "schedule-unknown"
    assert refusal(lambda: schedules.remove(VIEWER, "n" * 100)) == "role-insufficient"
    schedules.remove(OPERATOR, "n" * 100)
    assert schedules.list(VIEWER) == []
    with ring.site.store.reading() as tx:
        assert key.text()[:11] not in str(tx.execute(sa.select(schema.audit)).all())
