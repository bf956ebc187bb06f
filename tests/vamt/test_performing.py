"""V5, M8, F40, F45: actions done on machines over SSH; what fails, what is flagged, stopping, crashing, and going on."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

import authority_site
from vamt.collecting.standins import HOST_KEY, LOOPBACK, OWN_KEY, StandIns, hangs, pinned, says
from vamt.pcs import Pc, Seats
from vamt.site import ADMINISTRATOR, AUDITOR, OPERATOR, VIEWER, Site
from vamt.test_acts import (
    BOTH,
    EVERY,
    INSTALL,
    MEANS,
    ONLINE,
    OTHER,
    act,
    authority,
    estate,
    hold,
    outcomes,
    ring,
    run,
    seats_of,
)
from vamt.test_keys import Keyring, refusal
from volact.vamt import schema, undertakings
from volact.vamt.actions import Action
from volact.vamt.collecting.targets import Progress
from volact.vamt.inventory import Sighting
from volact.vamt.selecting import Selection
from world import NOW, PRODUCT

__all__ = ["authority", "ring"]  # fixtures
pytestmark = pytest.mark.sockets


# --- doing ----------------------------------------------------------------------------------------------------------


def test_a_batch_is_done_row_by_row_and_the_inventory_is_true_afterwards(
    site: Site, authority: authority_site.Site
) -> None:
    """On both databases: two keys for four of five machines, each with its line in the log; the key goes by stdin."""
    ring = Keyring(site, authority)
    three, one = hold(ring, 3, 1)
    told: list[Progress] = []

    async def work(machines: StandIns) -> None:
        pcs = await estate(ring, machines, seats_of(three, one), 5)
        aid = site.vamt.acts.begin(ADMINISTRATOR, BOTH, EVERY)
        acted = await site.vamt.acts.run(ADMINISTRATOR, aid, MEANS, told.append)
        assert [(one.machine, one.state, one.code) for one in acted.rows] == [
            *[(f"m{number}", "done", "ok") for number in range(4)],
            ("m4", "failed", "no-activations-left"),
        ]
        assert pcs[0].told == [
            f"volact client install-key --product {PRODUCT} - --json",
            f"volact client activate --product {PRODUCT} --json",
        ]
        assert [pc.one["partial_key"] for pc in pcs] == [three.label] * 3 + [one.label, None]
        assert pcs[0].read == [f"{three.text()}\n".encode(), b""]
        assert pcs[4].told == []
        for command in machines.taken["commands"]:
            assert three.text()[:11] not in command
            assert one.text()[:11] not in command

    run(work)
    assert site.names("state=licensed") == [f"m{number}/{PRODUCT}" for number in range(4)]
    assert site.names(f"label={one.label}") == [f"m3/{PRODUCT}"]
    assert (told[0], told[-1]) == (Progress(4), Progress(4, 4))
    log = site.vamt.access.log(AUDITOR, limit=1000)
    rows = [each for each in log if '"what": "install-key", "product"' in each.what]
    assert [(each.who, each.action, each.result, each.rows) for each in rows] == [
        ("ada", "install-key", "ok", 1)
    ] * 4
    said = "".join(each.what for each in rows)
    assert (said.count(f'"key": "{three.label}"'), said.count(f'"key": "{one.label}"')) == (3, 1)
    assert "4 done, 0 failed, 0 queued" in [each.detail for each in log]
    for key in (three, one):
        assert key.text()[:11] not in str(log)


def test_one_that_fails_holds_up_none_of_the_others(ring: Keyring) -> None:
    (key,) = hold(ring, 20)

    async def work(machines: StandIns) -> None:
        pcs = await estate(ring, machines, seats_of(key, left=20), 6)
        pcs[0].before = lambda words: b"\x1b[2J nonsense" if "activate" in words else None
        pcs[1].before = lambda words: b"x" * 300_000 if "activate" in words else None
        pcs[2].seats = seats_of(key, left=0)
        target = await machines.add(hangs)
        ring.site.see(
            Sighting("hand", "m3", "a.invalid", (LOOPBACK,), target.port, host_keys=target.host_keys)
        )
        target = await machines.add(says(b"{}"), key=OWN_KEY)
        ring.site.clock.pass_(60)
        ring.site.see(
            Sighting("hand", "m4", "a.invalid", (LOOPBACK,), target.port, host_keys=(pinned(HOST_KEY),))
        )
        acted = await act(ring, BOTH)
        assert outcomes(acted) == {
            "m0": ("failed", "answer-nonsense"),
            "m1": ("failed", "answer-too-long"),
            "m2": ("failed", "no-activations-left"),
            "m3": ("failed", "timed-out"),
            "m4": ("failed", "host-key-changed"),
            "m5": ("done", "ok"),
        }
        assert "\x1b" not in str(acted.rows)

    run(work)
    # What could not be reached is flagged where collection flags it.
    assert ring.site.names("outcome=host-key-changed") == [f"m4/{PRODUCT}"]
    assert ring.site.names("outcome=timed-out") == [f"m3/{PRODUCT}"]
    assert ring.site.names("state=licensed") == [f"m5/{PRODUCT}"]
    results = {one[2] for one in ring.site.log()}
    assert {
        "answer-nonsense",
        "answer-too-long",
        "timed-out",
        "host-key-changed",
        "no-activations-left",
    } <= results


def test_a_key_that_the_publisher_blocks_is_known_as_blocked_then(ring: Keyring) -> None:
    (key,) = hold(ring, 5)

    async def work(machines: StandIns) -> None:
        seats = seats_of(key)
        seats.blocked.add(key.label)
        await estate(ring, machines, seats, 1)
        assert outcomes(await act(ring, BOTH)) == {"m0": ("failed", "key-blocked")}

    run(work)
    assert [one.blocked for one in ring.keys.list(VIEWER)] == ["refused"]
    assert ring.site.vamt.acts.plan(ADMINISTRATOR, INSTALL, EVERY).rows[0].code == "key-blocked"


def test_what_becomes_of_keys_and_machines_meanwhile(ring: Keyring) -> None:
    """Between beginning and doing a key is removed, another is blocked, and a machine is removed."""
    one, other = hold(ring, 1, 2)

    async def work(machines: StandIns) -> None:
        pcs = await estate(ring, machines, seats_of(one, other), 3)
        acts = ring.site.vamt.acts
        first = acts.begin(ADMINISTRATOR, INSTALL, Selection(("m0",)))
        rest = acts.begin(ADMINISTRATOR, INSTALL, Selection(("m1", "m2")))
        ring.keys.remove(ADMINISTRATOR, [one.label])
        with ring.site.store.writing() as tx:
            tx.execute(sa.update(schema.key).values(blocked="refused"))
        ring.site.vamt.machines.remove(OPERATOR, Selection(("m2",)))
        acted = await acts.run(ADMINISTRATOR, first, MEANS)
        assert outcomes(acted) == {"m0": ("failed", "key-not-held")}
        acted = await acts.run(ADMINISTRATOR, rest, MEANS)
        assert outcomes(acted) == {"m1": ("failed", "key-blocked"), "m2": ("failed", "machine-unknown")}
        assert [pc.told for pc in pcs] == [[], [], []]

    run(work)


def test_what_the_store_says_is_asked_of_the_machine_before_it_is_believed(ring: Keyring) -> None:
    """The inventory says that there is no key, or that it is activated; the machine knows better."""
    (key,) = hold(ring, 5)

    async def work(machines: StandIns) -> None:
        pcs = await estate(ring, machines, seats_of(key), 2)
        pcs[0].one.update(channel="mak", partial_key=key.label)
        assert outcomes(await act(ring, ONLINE)) == {
            "m0": ("done", "ok"),
            "m1": ("failed", "no-key-installed"),
        }
        assert pcs[0].one["state"] == 1
        pcs[0].one.update(state=2)
        assert outcomes(await act(ring, ONLINE, Selection(("m0",)))) == {"m0": ("done", "ok")}
        assert pcs[0].one["state"] == 1
        assert pcs[0].told == [f"volact client activate --product {PRODUCT} --json"] * 2

    run(work)


def test_both_products_of_a_machine(ring: Keyring) -> None:
    """One after the other, and what ends the first for want of a connection is not waited for again."""
    one, other = ring.authority.key(), ring.authority.key("mak", 5, OTHER)
    ring.add(one)
    ring.add(other, product=OTHER)
    ring.refresh()

    async def work(machines: StandIns) -> None:
        (pc,) = await estate(ring, machines, seats_of(one, other), 1, PRODUCT, OTHER)
        acted = await act(ring, BOTH)
        assert [(row.prd, row.code) for row in acted.rows] == [(PRODUCT, "ok"), (OTHER, "ok")]
        assert [pc.products[each]["partial_key"] for each in (PRODUCT, OTHER)] == [one.label, other.label]
        pc.before = lambda words: b"x" * 300_000 if "return" in words else None
        asked = len(machines.taken["commands"])
        acted = await act(ring, Action("deactivate"))
        assert [row.code for row in acted.rows] == ["answer-too-long", "answer-too-long"]
        assert len(machines.taken["commands"]) == asked + 1

    run(work)


def test_over_winrm_nothing_is_done(ring: Keyring) -> None:
    ring.join("m0", PRODUCT)
    ring.site.see(Sighting("hand", "m0", "example.com", (LOOPBACK,), 1, "winrm"))
    assert outcomes(ring.site.vamt.acts.plan(OPERATOR, Action("clear-host"), EVERY)) == {
        "m0": ("failed", "transport-reads-only")
    }
    acted = asyncio.run(act(ring, Action("clear-host")))
    assert outcomes(acted) == {"m0": ("failed", "transport-reads-only")}


# --- going on -------------------------------------------------------------------------------------------------------


def test_a_stopped_action_keeps_what_is_done_and_goes_on_with_the_rest(ring: Keyring) -> None:
    """Ctrl-C while a machine works: how it stands is not known, so it is looked at first; nothing is done twice."""
    (key,) = hold(ring, 5)

    async def work(machines: StandIns) -> None:
        seats = seats_of(key)
        pcs = await estate(ring, machines, seats, 3)
        came = asyncio.Event()

        async def slow(words: list[str]) -> None:
            if "activate" in words:
                came.set()
                await asyncio.sleep(3600)

        pcs[1].after = slow
        aid = ring.site.vamt.acts.begin(ADMINISTRATOR, BOTH, EVERY)
        means = MEANS._replace(limits=MEANS.limits._replace(at_once=1, whole=60, answer=60))
        task = asyncio.create_task(ring.site.vamt.acts.run(ADMINISTRATOR, aid, means))
        await asyncio.wait_for(came.wait(), 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        acted = ring.site.vamt.acts.show(VIEWER, aid)
        assert [(one.state, one.tries) for one in acted.rows] == [("done", 1), ("waiting", 1), ("waiting", 0)]
        assert (acted.task.state, ring.site.log()[-1][2]) == ("stopped", "stopped")
        assert "running" not in [one[2] for one in ring.site.log()]
        assert ring.site.vamt.acts.newest_open(VIEWER) == aid
        pcs[1].after = lambda _: None
        acted = await ring.site.vamt.acts.run(ADMINISTRATOR, aid, MEANS, resume=True)
        assert [one.state for one in acted.rows] == ["done"] * 3
        assert acted.rows[1].detail == "It was so already; nothing was changed."
        assert seats.counts() == {key.label: 3}
        assert [len(pc.told) for pc in pcs] == [2, 2, 2]

    run(work)
    assert refusal(lambda: ring.site.vamt.acts.newest_open(VIEWER)) == "action-unknown"


def crashed(ring: Keyring, aid: str, name: str, due: int) -> None:
    """Leave a row as a process leaves it that dies while its machine works."""
    with ring.site.store.writing() as tx:
        table = schema.action_row
        task = undertakings.find(tx, aid)
        assert task
        mine = (table.c.machine == name) & (table.c.action == task.number)
        tx.execute(sa.update(table).where(mine).values(state="running", tries=1, at=NOW, due=due))
        undertakings.end(tx, aid, "running", NOW)


def test_after_a_crash_the_machine_says_what_was_done(ring: Keyring) -> None:
    """Of four rows under way: nothing reached the machine; the key did; the activation did; the return did."""
    (key,) = hold(ring, 9)

    async def work(machines: StandIns) -> None:
        seats = seats_of(key, left=9)
        pcs = await estate(ring, machines, seats, 3)
        aid = ring.site.vamt.acts.begin(ADMINISTRATOR, BOTH, EVERY)
        for pc in pcs[1:]:
            pc.one.update(channel="mak", partial_key=key.label)
        seats.activate(key.label, "m2")
        pcs[2].one.update(state=1, granted="2026-11-24T12:00:00Z")
        for pc in pcs:
            crashed(ring, aid, pc.name, NOW + 3600)
        acted = await ring.site.vamt.acts.run(ADMINISTRATOR, aid, MEANS, resume=True)
        assert [(one.state, one.tries) for one in acted.rows] == [("done", 2)] * 3
        assert seats.counts() == {key.label: 3}
        assert pcs[2].told == []
        aid = ring.site.vamt.acts.begin(ADMINISTRATOR, Action("deactivate"), Selection(("m2",)))
        pcs[2]._do(["client", "return", "--product", PRODUCT])
        crashed(ring, aid, "m2", NOW + 3600)
        acted = await ring.site.vamt.acts.run(ADMINISTRATOR, aid, MEANS, resume=True)
        assert (acted.rows[0].state, pcs[2].told, seats.counts()) == ("done", [], {key.label: 2})

    run(work)


def test_after_a_crash_another_action_keeps_off_for_a_while(
    site: Site, authority: authority_site.Site
) -> None:
    """Two persons at one machine: who comes second is told so, until the first has surely ended."""
    ring = Keyring(site, authority)

    async def work(machines: StandIns) -> None:
        (pc,) = await estate(ring, machines, Seats(), 1)
        aid = site.vamt.acts.begin(ADMINISTRATOR, Action("clear-host"), EVERY)
        crashed(ring, aid, "m0", NOW + 60)
        site.clock.time = NOW + 59
        acted = await act(ring, Action("set-host", host="kms2"), who=OPERATOR)
        assert outcomes(acted) == {"m0": ("failed", "machine-in-use")}
        assert pc.told == []
        site.clock.time = NOW + 60
        assert outcomes(await act(ring, Action("set-host", host="kms2"), who=OPERATOR)) == {
            "m0": ("done", "ok")
        }
        assert pc.one["host"] == "kms2"

    run(work)


def test_two_persons_at_once_do_each_row_once(site: Site, authority: authority_site.Site) -> None:
    """Two actions on the same four machines, and one action twice: a machine is told by one at a time."""
    ring = Keyring(site, authority)

    async def work(machines: StandIns) -> None:
        pcs = await estate(ring, machines, Seats(), 4)
        busy: set[str] = set()

        def guarded(pc: Pc) -> None:
            def before(words: list[str]) -> None:
                if "status" not in words:
                    assert pc.name not in busy
                    busy.add(pc.name)

            async def after(_words: list[str]) -> None:
                await asyncio.sleep(0.05)
                busy.discard(pc.name)

            pc.before, pc.after = before, after

        for pc in pcs:
            guarded(pc)
        acts = site.vamt.acts
        one = acts.begin(ADMINISTRATOR, Action("set-host", host="kms1"), EVERY)
        other = acts.begin(OPERATOR, Action("set-host", host="kms2"), EVERY)
        found = await asyncio.gather(
            acts.run(ADMINISTRATOR, one, MEANS),
            acts.run(OPERATOR, other, MEANS),
            acts.run(OPERATOR, one, MEANS),
        )
        # As all stand now: what a run says of rows that another one still does is not over.
        for acted in found[:2]:
            rows = acts.show(VIEWER, acted.task.aid).rows
            assert {(one.state, one.code) for one in rows} <= {("done", "ok"), ("failed", "machine-in-use")}
        for pc in pcs:
            assert sum("kms1" in line for line in pc.told) <= 1
            assert sum("kms2" in line for line in pc.told) <= 1
            assert pc.told

    run(work)


def test_what_failed_for_want_of_activations_goes_on_with_another_key(ring: Keyring) -> None:
    """The count was stale: the authority refuses the third. Then another key is added, and it goes on with that."""
    (key,) = hold(ring, None)

    async def work(machines: StandIns) -> None:
        seats = seats_of(key, left=2)
        pcs = await estate(ring, machines, seats, 3)
        acted = await act(ring, BOTH)
        assert sorted(one.code for one in acted.rows) == ["no-activations-left", "ok", "ok"]
        ring.refresh()
        with ring.site.store.writing() as tx:
            tx.execute(sa.update(schema.key).values(remaining=0))
        asked = len(machines.taken["commands"])
        acted = await ring.site.vamt.acts.run(ADMINISTRATOR, acted.task.aid, MEANS, resume=True)
        assert sorted((one.code, one.tries) for one in acted.rows) == [
            ("no-activations-left", 1),
            ("ok", 1),
            ("ok", 1),
        ]
        assert len(machines.taken["commands"]) == asked
        (more,) = hold(ring, 1)
        seats.bought[more.label], seats.taken[more.label] = 1, set()
        acted = await ring.site.vamt.acts.run(ADMINISTRATOR, acted.task.aid, MEANS, resume=True)
        assert [one.state for one in acted.rows] == ["done"] * 3
        assert seats.counts() == {key.label: 2, more.label: 1}
        assert sorted(pc.one["partial_key"] for pc in pcs) == sorted([key.label, key.label, more.label])

    run(work)
