"""V5, V4, V6, F40, F45: actions on selections, over SSH, with keys of a real authority's kind; stopping, going on, waiting."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

import authority_site
from vamt.collecting.standins import LOGIN, StandIns
from vamt.pcs import Pc, Seats, join
from vamt.site import ADMINISTRATOR, AUDITOR, OPERATOR, VIEWER, Site
from vamt.test_keys import SEALER, Keyring, refusal
from volact.protocol.problems import Refused
from volact.vamt import schema
from volact.vamt.actions import Action
from volact.vamt.collecting.targets import Limits
from volact.vamt.inventory import Sighting
from volact.vamt.people import Person
from volact.vamt.performing import Means
from volact.vamt.selecting import Selection
from world import PRODUCT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from databases import Databases
    from volact.protocol.keys import ProductKey
    from volact.vamt.acts import Acted

pytestmark = pytest.mark.sockets
EVERY = Selection(all=True)
# A name server may keep silent, as some networks' do to `.invalid`: then it is the address, one second later.
MEANS = Means({"": LOGIN}, Limits(at_once=20, whole=5.0, connect=1.0), lambda: SEALER)
INSTALL = Action("install-key")
BOTH = Action("install-key", activate=True)
ONLINE = Action("activate-online")
OTHER = "com.example.other"


@pytest.fixture
def authority(tmp_path: Path, authorities: Databases) -> Iterator[authority_site.Site]:
    made = authority_site.Site(authorities.sqlite(tmp_path / "authority.db"))
    yield made
    made.close()


@pytest.fixture
def ring(light_site: Site, authority: authority_site.Site) -> Keyring:
    return Keyring(light_site, authority)


def run(work: Callable[[StandIns], Awaitable[None]]) -> None:
    async def main() -> None:
        async with StandIns() as machines:
            await work(machines)

    asyncio.run(main())


def hold(ring: Keyring, *counts: int | None) -> list[ProductKey]:
    """Keys that VAMT holds, with so many left as the publisher signed; None: nobody asked."""
    made = [ring.authority.key(activations=count or 5) for count in counts]
    ring.add(*made)
    asked = [one.label for one, count in zip(made, counts, strict=True) if count is not None]
    if asked:
        ring.refresh(*asked)
    return made


async def estate(ring: Keyring, machines: StandIns, seats: Seats, count: int, *products: str) -> list[Pc]:
    """Machines that have said what is on them."""
    pcs = [Pc(f"m{number}", ring.authority.pub, seats, *products) for number in range(count)]
    await join(ring.site, machines, *pcs)
    await collect(ring)
    return pcs


async def collect(ring: Keyring) -> None:
    done = await ring.site.vamt.collecting.collect(
        OPERATOR, EVERY, MEANS.logins, MEANS.limits, lambda _: None
    )
    assert done.failed == []


async def act(
    ring: Keyring, action: Action, selection: Selection = EVERY, *, who: Person = ADMINISTRATOR, **more: Any
) -> Acted:
    aid = ring.site.vamt.acts.begin(who, action, selection, **more)
    return await ring.site.vamt.acts.run(who, aid, MEANS)


def outcomes(acted: Acted) -> dict[str, tuple[str, str]]:
    return {one.machine: (one.state, one.code) for one in acted.rows}


def seats_of(*some: ProductKey, left: int = 5) -> Seats:
    return Seats(**{one.label: left for one in some})


# --- planning -------------------------------------------------------------------------------------------------------


def test_a_dry_run_touches_nothing(ring: Keyring) -> None:
    (key,) = hold(ring, 2)

    async def work(machines: StandIns) -> None:
        await estate(ring, machines, seats_of(key), 3)
        asked = len(machines.taken["users"])
        before = ring.site.log()
        acted = ring.site.vamt.acts.plan(ADMINISTRATOR, BOTH, EVERY)
        assert outcomes(acted) == {
            "m0": ("would", "ok"),
            "m1": ("would", "ok"),
            "m2": ("failed", "no-activations-left"),
        }
        assert [acted.labels.get(one.key) for one in acted.rows] == [key.label, key.label, None]
        assert outcomes(ring.site.vamt.acts.plan(OPERATOR, ONLINE, EVERY))["m0"] == (
            "failed",
            "no-key-installed",
        )
        assert outcomes(ring.site.vamt.acts.plan(OPERATOR, Action("activate-kms"), EVERY))["m0"] == (
            "would",
            "ok",
        )
        assert len(machines.taken["users"]) == asked
        assert ring.site.log() == before
        assert ring.site.vamt.acts.list(VIEWER) == []

    run(work)


@pytest.mark.parametrize(
    ("who", "action", "may"),
    [
        (VIEWER, ONLINE, False),
        (AUDITOR, Action("refresh-status"), False),
        (OPERATOR, INSTALL, False),
        (OPERATOR, Action("deactivate"), False),
        (OPERATOR, Action("remove-key"), False),
        (OPERATOR, ONLINE, True),
        (OPERATOR, Action("set-host", host="kms1"), True),
        (OPERATOR, Action("refresh-status"), True),
        (ADMINISTRATOR, Action("deactivate"), True),
    ],
)
def test_only_who_may_acts(ring: Keyring, who: Person, action: Action, may: bool) -> None:
    ring.site.see(Sighting("csv", "m0", "a.invalid"))
    for deed in (ring.site.vamt.acts.plan, ring.site.vamt.acts.begin):
        if may:
            deed(who, action, EVERY)
        else:
            assert refusal(lambda deed=deed: deed(who, action, EVERY)) == "role-insufficient"
    assert ring.site.log()[-1][:3] == (who.name, action.least, "ok" if may else "role-insufficient")


def test_bad_input(ring: Keyring) -> None:
    (key,) = hold(ring, 2)
    ring.join("m0", PRODUCT)
    acts = ring.site.vamt.acts
    for deed in (acts.plan, acts.begin):

        def code(action: Action, selection: Selection, deed: Any = deed, **more: Any) -> str:
            return refusal(lambda: deed(ADMINISTRATOR, action, selection, **more))

        assert code(ONLINE, Selection()) == "selection-empty"
        assert code(ONLINE, Selection(("nobody",))) == "machine-unknown"
        assert code(ONLINE, Selection(where="name=nobody")) == "selection-empty"
        assert code(ONLINE._replace(product="com.example.no"), EVERY) == "selection-empty"
        assert code(INSTALL, EVERY, key="MZZZZ") == "key-not-held"
        assert code(INSTALL, EVERY, key=key.text()) == "usage"
        assert code(Action("set-host"), EVERY) == "usage"
        assert code(Action("format-disk"), EVERY) == "usage"
    assert refusal(lambda: acts.show(VIEWER, "nobody")) == "action-unknown"
    assert refusal(lambda: acts.newest_open(VIEWER)) == "action-unknown"
    with pytest.raises(Refused):
        asyncio.run(acts.run(ADMINISTRATOR, "nobody", MEANS))
    assert key.text()[:11] not in str(ring.site.vamt.access.log(AUDITOR, limit=1000))


def test_keys_spill_over_and_what_is_spoken_for_is_given_to_nobody_else(ring: Keyring) -> None:
    """2, 3 and 1 left: 4 machines take the 3, then the 1; who comes then takes the 2."""
    two, three, one = hold(ring, 2, 3, 1)
    for number in range(8):
        ring.join(f"m{number}", PRODUCT)
    acts = ring.site.vamt.acts

    def taken(*names: str) -> list[str | None]:
        aid = acts.begin(ADMINISTRATOR, INSTALL, Selection(names))
        acted = acts.show(VIEWER, aid)
        return [acted.labels.get(row.key) for row in acted.rows]

    assert taken("m0", "m1", "m2", "m3") == [three.label] * 3 + [one.label]
    assert taken("m4", "m5", "m6") == [two.label, two.label, None]
    aid = acts.begin(ADMINISTRATOR, INSTALL, Selection(("m7",)))
    assert outcomes(acts.show(VIEWER, aid)) == {"m7": ("failed", "no-activations-left")}


def test_what_machines_have_of_a_key_is_not_in_its_last_count(ring: Keyring) -> None:
    """Of 4 left at the count: one has the key and no activation, one was activated later, one before."""
    (key,) = hold(ring, 4)
    ring.add(ring.authority.key("mak", 5, OTHER), product=OTHER)  # whose count nobody asked for
    as_of = ring.counts()[key.label][3]
    assert as_of is not None
    for number in range(8):
        ring.join(f"m{number}", PRODUCT)

    def has(name: str, **values: Any) -> None:
        with ring.site.store.writing() as tx:
            table = schema.installed
            tx.execute(
                sa.update(table)
                .where(table.c.name == name)
                .values(channel="mak", partial_key=key.label, **values)
            )

    six = Selection(tuple(f"m{number}" for number in range(6)))
    has("m0", state=2)
    has("m1", state=1, granted=as_of + 1)
    has("m2", state=1, granted=as_of)
    planned = ring.site.vamt.acts.plan(ADMINISTRATOR, INSTALL, Selection(("m3", "m4", "m5")))
    assert [one.code for one in planned.rows] == ["ok", "ok", "no-activations-left"]
    assert [one.code for one in ring.site.vamt.acts.plan(ADMINISTRATOR, INSTALL, six).rows] == [
        "ok",  # m0 has it and is counted once
        "ok",  # m1 and m2 need none
        "ok",
        "ok",
        "ok",
        "no-activations-left",
    ]
    assert ring.recommended(six) == [(PRODUCT, 4, [(key.label, 3)], 1)]
    has("m0", state=0, reason="activation-returned")
    planned = ring.site.vamt.acts.plan(ADMINISTRATOR, INSTALL, Selection(("m3", "m4", "m5")))
    assert [one.code for one in planned.rows] == ["ok", "ok", "ok"]
    assert ring.recommended(Selection(("m3", "m4", "m5"))) == [(PRODUCT, 3, [(key.label, 3)], 0)]
    assert ring.recommended(Selection(("m3", "m4", "m5", "m6"))) == [(PRODUCT, 4, [(key.label, 3)], 1)]
    # m3 is to get it, and says that it had it before the count: it is in that.
    ring.site.vamt.acts.begin(ADMINISTRATOR, INSTALL, Selection(("m3",)))
    assert ring.recommended(Selection(("m4", "m5", "m6"))) == [(PRODUCT, 3, [(key.label, 2)], 1)]
    has("m3", state=1, granted=as_of)
    assert ring.recommended(Selection(("m4", "m5", "m6"))) == [(PRODUCT, 3, [(key.label, 3)], 0)]


def test_a_named_key_goes_nowhere_else_and_says_why_not(ring: Keyring) -> None:
    one, other = hold(ring, 1, 5)
    ring.join("m0", PRODUCT)
    ring.join("m1", PRODUCT)
    ring.join("m2", OTHER)

    def codes(label: str) -> list[str]:
        return [row.code for row in ring.site.vamt.acts.plan(ADMINISTRATOR, INSTALL, EVERY, key=label).rows]

    assert codes(one.label) == ["ok", "no-activations-left", "key-wrong-product"]
    assert codes(other.label) == ["ok", "ok", "key-wrong-product"]
    with ring.site.store.writing() as tx:
        tx.execute(sa.update(schema.key).where(schema.key.c.label == other.label).values(blocked="refused"))
    assert codes(other.label) == ["key-blocked", "key-blocked", "key-wrong-product"]
    assert [row.code for row in ring.site.vamt.acts.plan(ADMINISTRATOR, INSTALL, EVERY).rows] == [
        "ok",
        "no-activations-left",
        "key-not-held",
    ]


def test_a_machine_of_which_nobody_knows_what_is_on_it(ring: Keyring) -> None:
    (key,) = hold(ring, 5)
    acts = ring.site.vamt.acts

    async def work(machines: StandIns) -> None:
        pcs = [Pc(f"m{number}", ring.authority.pub, seats_of(key)) for number in range(2)]
        pcs[1].products[OTHER] = dict(pcs[1].products[PRODUCT])
        await join(ring.site, machines, *pcs)
        assert outcomes(acts.plan(ADMINISTRATOR, INSTALL, EVERY))["m0"] == ("failed", "machine-not-collected")
        assert outcomes(acts.plan(ADMINISTRATOR, INSTALL._replace(product=PRODUCT), EVERY))["m0"] == (
            "would",
            "ok",
        )
        acted = await act(ring, Action("set-host", host="kms1"))
        assert outcomes(acted) == {"m0": ("done", "ok"), "m1": ("failed", "product-ambiguous")}
        assert [(one.pub, one.prd) for one in acted.rows] == [(ring.authority.pub, PRODUCT), ("", "")]
        assert pcs[0].one["host"] == "kms1"
        assert ring.site.names("host=kms1") == [f"m0/{PRODUCT}"]

    run(work)
