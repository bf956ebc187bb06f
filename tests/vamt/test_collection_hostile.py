"""T29, over real SSH: a managed machine that says to be another one (H1, H2), and believed host keys (M2)."""

import pytest

from vamt.collecting.standins import (
    LOGIN,
    OWN_KEY,
    PASSWORD,
    StandIns,
    pinned,
    product,
    says,
    status,
)
from vamt.site import ADMINISTRATOR, VIEWER, Site
from vamt.test_collection import collect, found, run, said
from volact.vamt.collecting.targets import Login
from volact.vamt.machines import Shown
from volact.vamt.selecting import Selection

pytestmark = pytest.mark.sockets
SERVERS = Selection(group="Servers")
BY_PASSWORD = Login(user="root", password=PASSWORD)


def shown(site: Site, name: str) -> Shown:
    return site.vamt.machines.show(VIEWER, name)


@pytest.mark.parametrize(
    "lie",
    [
        said(1),
        status("m1", domain="a.invalid", identity=""),
        status("m1", product(cmid=f"{2:043d}"), domain="a.invalid", identity=f"{2:043d}"),
        status("", product(cmid=f"{1:043d}"), domain="", identity=f"{1:043d}"),
    ],
    ids=["all", "name", "name, with its own identities", "identities"],
)
@pytest.mark.parametrize("was_asked", [True, False], ids=["asked before", "not asked"])
def test_a_machine_that_says_to_be_another_gets_nothing_of_it(
    light_site: Site, lie: dict[str, object], was_asked: bool
) -> None:
    async def work(machines: StandIns) -> None:
        honest, evil = await machines.add(says(said(1))), await machines.add(says(said(2)), key=OWN_KEY)
        found(light_site, 1, honest, group="Servers")
        found(light_site, 2, evil, group="Workstations")
        light_site.vamt.logins.put(ADMINISTRATOR, "Servers", Login(user="root", agent="/agent"), None)
        if was_asked:
            assert (await collect(light_site)).failed == []
        before = shown(light_site, "m1").machine
        lying = await machines.add(says(lie), key=OWN_KEY)
        found(light_site, 2, lying, group="Workstations")
        evils = shown(light_site, "m2").machine.mid
        done = await collect(light_site, Selection(group="Workstations"))
        codes = {one.mid: one.refusal.code for one in done.failed}
        if was_asked or lie["machine"]["name"]:  # type: ignore[index]
            assert codes[evils] == codes[before.mid] == "machine-elsewhere"
        assert shown(light_site, "m1").machine == before
        assert shown(light_site, "m1").groups == ["Servers"]
        assert shown(light_site, evils).groups == ["Workstations"]
        asked = len(machines.taken["users"])
        logins = {"": LOGIN, "Servers": BY_PASSWORD}
        done = await collect(light_site, SERVERS, logins=logins)
        assert done.done == 1
        assert {one.refusal.code for one in done.failed} <= (set() if was_asked else {"machine-elsewhere"})
        assert machines.taken["users"][asked:] == ["root"]
        assert pinned(OWN_KEY) not in shown(light_site, "m1").machine.host_keys

    run(work)


def test_a_flag_on_a_row_does_not_keep_it_from_being_asked(light_site: Site) -> None:
    """A stopped collection goes on with the machine that another said to be."""

    async def work(machines: StandIns) -> None:
        found(light_site, 1, await machines.add(says(said(1))))
        found(light_site, 2, await machines.add(says(said(1)), key=OWN_KEY))
        await collect(light_site, Selection(("m2",)))
        assert (shown(light_site, "m1").code, shown(light_site, "m1").tried) == ("machine-elsewhere", None)
        assert "m2.a.invalid" in shown(light_site, "m1").detail
        assert "m1.a.invalid" in shown(light_site, "m2").detail

    run(work)


def test_what_a_machine_without_a_row_of_its_own_says_is_not_kept(light_site: Site) -> None:
    async def work(machines: StandIns) -> None:
        found(light_site, 1, await machines.add(says(said(1))))
        found(light_site, 2, await machines.add(says(said(2)), key=OWN_KEY))
        await collect(light_site)
        lie = status("m1", product(product="com.example.lie", cmid="9" * 43), domain="a.invalid", identity="")
        found(light_site, 2, await machines.add(says(lie), key=OWN_KEY))
        await collect(light_site, Selection(("m2",)))

    run(work)
    assert light_site.names() == ["m1/com.example.cad", "m2/com.example.cad"]
