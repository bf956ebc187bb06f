"""V2: collecting from real SSH servers, and what is kept of it: reasons, rows, proofs, stopping and going on."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from vamt.collecting.standins import (
    HOST_KEY,
    LOGIN,
    LOOPBACK,
    OWN_KEY,
    PASSWORD,
    StandIns,
    hangs,
    pinned,
    product,
    says,
    status,
)
from vamt.site import ADMINISTRATOR, AUDITOR, OPERATOR, VIEWER, Site
from vamt.test_proving import Granting
from volact.protocol.problems import Refusal, Refused
from volact.vamt import reporting
from volact.vamt.collecting.targets import Limits, Login, Progress, Target
from volact.vamt.collection import Collected, Failed
from volact.vamt.inventory import Sighting
from volact.vamt.people import Person
from volact.vamt.selecting import Selection

pytestmark = pytest.mark.sockets
LIMITS = Limits(at_once=20, whole=5.0, connect=1.0)  # as in test_acts
EVERY = Selection(all=True)


def said(number: int, **more: Any) -> dict[str, Any]:
    """The status of machine number N, which is `mN.a.invalid`."""
    rows = more.pop("rows", [product(cmid=f"{number:043d}")])
    return status(f"m{number}", *rows, domain="a.invalid", identity=f"{number:043d}", **more)


def found(site: Site, number: int, target: Target, **more: Any) -> None:
    """Let VAMT know machine number N at a stand-in's place."""
    one = Sighting(
        "csv", f"m{number}", "a.invalid", (LOOPBACK,), target.port, "ssh", host_keys=target.host_keys
    )
    site.clock.pass_(60)  # what is said later goes before what was said
    site.see(one._replace(**more))


async def collect(
    site: Site,
    selection: Selection | None = EVERY,
    *,
    person: Person = OPERATOR,
    limits: Limits = LIMITS,
    logins: dict[str, Login] | None = None,
) -> Collected:
    return await site.vamt.collecting.collect(
        person, selection, logins or {"": LOGIN}, limits, lambda _: None
    )


def run(work: Callable[[StandIns], Awaitable[None]]) -> None:
    """Run with stand-ins in this process."""

    async def main() -> None:
        async with StandIns() as machines:
            await work(machines)

    asyncio.run(main())


def test_what_machines_say_is_kept_and_each_failure_has_its_reason(site: Site) -> None:
    async def work(machines: StandIns) -> None:
        for number in range(6):
            found(site, number, await machines.add(says(said(number, virtual=True))))
        found(site, 6, await machines.add(says(b"nonsense", 0)))
        found(site, 7, await machines.add(says(b"", 127)))
        found(site, 8, (await machines.add(says(said(8))))._replace(host_keys=()))
        found(site, 9, await machines.add(hangs))
        done = await collect(site, limits=LIMITS._replace(whole=2.0))
        assert (done.asked, done.done) == (10, 6)
        reasons = {one.name: one.refusal.code for one in done.failed}
        assert reasons == {
            "m6.a.invalid": "answer-nonsense",
            "m7.a.invalid": "client-missing",
            "m8.a.invalid": "host-key-unknown",
            "m9.a.invalid": "timed-out",
        }

    run(work)
    assert site.names("state=licensed virtual=yes outcome=ok") == [f"m{n}/com.example.cad" for n in range(6)]
    assert site.names("outcome!=ok") == ["m6", "m7", "m8", "m9"]
    assert site.names("outcome=timed-out") == ["m9"]
    assert site.log()[-1] == ("otto", "collect", "ok", 10)
    (entry,) = site.vamt.access.log(AUDITOR, limit=1)
    assert entry.detail == "6 of 10 machines gave a report"


@pytest.mark.parametrize("person", [VIEWER, AUDITOR], ids=lambda one: one.role)
def test_only_who_may_collects(light_site: Site, person: Person) -> None:
    with pytest.raises(Refused) as refused:
        asyncio.run(collect(light_site, person=person))
    assert refused.value.refusal.code == "role-insufficient"


@pytest.mark.parametrize("selection", [Selection(), Selection(where="name=nobody"), None])
def test_an_empty_selection_is_refused(light_site: Site, selection: Selection | None) -> None:
    with pytest.raises(Refused) as refused:
        asyncio.run(collect(light_site, selection))
    assert refused.value.refusal.code == "selection-empty"
    assert light_site.log()[-1][2] == "selection-empty"


def test_a_stopped_collection_keeps_what_came_and_goes_on_with_the_rest(light_site: Site) -> None:
    """A machine that hangs holds it up; Ctrl-C comes; then only those that were not tried are asked."""

    async def work(machines: StandIns) -> None:
        answers = {0: says(said(0)), 1: says(said(1)), 2: hangs}
        for number, answer in answers.items():
            found(light_site, number, await machines.add(answer))
        heard = asyncio.Event()

        def tell(progress: Progress) -> None:
            light_site.clock.pass_(1)  # what was tried in the second in which it began is asked again
            if progress.done == 2:
                heard.set()

        task = asyncio.create_task(
            light_site.vamt.collecting.collect(OPERATOR, EVERY, {"": LOGIN}, LIMITS._replace(whole=60), tell)
        )
        await asyncio.wait_for(heard.wait(), 30)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert light_site.names("outcome=ok") == ["m0/com.example.cad", "m1/com.example.cad"]
        assert light_site.log()[-1] == ("otto", "collect", "stopped", 2)
        asked = len(machines.taken["commands"])
        found(light_site, 2, await machines.add(says(said(2))))
        done = await collect(light_site, None)
        assert (done.asked, done.done) == (1, 1)
        assert len(machines.taken["commands"]) == asked + 1
        with pytest.raises(Refused) as refused:
            await collect(light_site, None)
        assert refused.value.refusal.code == "selection-empty"

    run(work)


def test_another_machine_at_a_rows_place(site: Site) -> None:
    async def work(machines: StandIns) -> None:
        first = await machines.add(says(said(1)))
        found(site, 1, first)
        assert (await collect(site)).failed == []
        found(site, 1, await machines.add(says(said(2, rows=[product(cmid="2" * 43)]))))
        done = await collect(site)
        assert [(one.name, one.refusal.code, one.refusal.detail) for one in done.failed] == [
            ("m1.a.invalid", "machine-elsewhere", "It is m2.a.invalid.")
        ]
        assert (done.asked, done.done) == (1, 1)

    run(work)
    assert site.names("outcome=ok") == ["m2/com.example.cad"]
    assert site.names("outcome=machine-elsewhere") == ["m1/com.example.cad"]


def test_two_names_of_one_machine_become_one_row(light_site: Site) -> None:
    async def work(machines: StandIns) -> None:
        target = await machines.add(says(said(1)))
        found(light_site, 1, target)
        found(light_site, 77, target)
        done = await collect(light_site)
        assert (done.asked, done.done, done.failed) == (2, 2, [])

    run(work)
    assert light_site.names() == ["m1/com.example.cad"]


def test_swapped_machines_are_not_failed(light_site: Site) -> None:
    async def work(machines: StandIns) -> None:
        one, two = await machines.add(says(said(1))), await machines.add(says(said(2)))
        found(light_site, 1, one)
        found(light_site, 2, two)
        await collect(light_site)
        light_site.clock.pass_(60)
        found(light_site, 1, two)
        found(light_site, 2, one)
        assert (await collect(light_site)).failed == []

    run(work)
    assert light_site.names("outcome=ok") == ["m1/com.example.cad", "m2/com.example.cad"]


def test_each_group_has_its_login(light_site: Site) -> None:
    other = Login(user="others", key=LOGIN.key)

    async def work(machines: StandIns) -> None:
        found(light_site, 1, await machines.add(says(said(1))), group="Secure")
        found(light_site, 2, await machines.add(says(said(2))))
        assert (await collect(light_site, logins={"": other, "Secure": LOGIN})).failed == []
        assert sorted(machines.taken["users"]) == ["others", "vamt"]

    run(work)
    targets = light_site.vamt.collecting.targets(VIEWER, EVERY, ["Secure"])
    assert [(one.hosts, one.login) for one in targets] == [
        (("m1.a.invalid", LOOPBACK), "Secure"),
        (("m2.a.invalid", LOOPBACK), ""),
    ]


def test_a_host_key_that_was_believed_is_pinned(light_site: Site) -> None:
    async def work(machines: StandIns) -> None:
        target = await machines.add(says(said(1)))
        found(light_site, 1, target._replace(host_keys=()))
        believing = LIMITS._replace(accept_new=True)
        assert (await collect(light_site, person=ADMINISTRATOR, limits=believing)).failed == []
        shown = light_site.vamt.machines.show(VIEWER, "m1").machine
        assert shown.host_keys == (pinned(HOST_KEY),)
        _, collected, pinning = reversed(light_site.vamt.access.log(AUDITOR, limit=3))
        assert (collected.action, json.loads(collected.what)) == (
            "collect",
            {"selection": EVERY.said(), "accept_new": True},
        )
        assert (pinning.who, pinning.action, pinning.result, pinning.rows) == (
            "ada",
            "trust-host-keys",
            "ok",
            1,
        )
        assert json.loads(pinning.what) == {
            "believed": shown.mid,
            "machine": "m1.a.invalid",
            "host_key": pinned(HOST_KEY),
        }
        changed = await machines.add(says(said(1)), key=OWN_KEY)
        found(light_site, 1, changed._replace(host_keys=()))
        (failed,) = (await collect(light_site, person=ADMINISTRATOR, limits=believing)).failed
        assert failed.refusal.code == "host-key-changed"
        light_site.vamt.machines.trust(ADMINISTRATOR, "m1", [pinned(OWN_KEY)])
        assert (await collect(light_site)).failed == []
        assert "believed" not in light_site.vamt.access.log(AUDITOR, limit=1)[0].what

    run(work)


def test_an_operator_believes_no_host_key(light_site: Site) -> None:
    async def work(machines: StandIns) -> None:
        found(light_site, 1, (await machines.add(says(said(1))))._replace(host_keys=()))
        with pytest.raises(Refused) as refused:
            await collect(light_site, limits=LIMITS._replace(accept_new=True))
        assert refused.value.refusal.code == "role-insufficient"
        assert machines.taken["users"] == []

    run(work)
    assert light_site.log()[-1] == ("otto", "collect", "role-insufficient", None)
    with pytest.raises(Refused) as refused:
        asyncio.run(collect(light_site, None))
    assert refused.value.refusal.code == "selection-empty"  # nothing was begun


def test_a_fingerprint_that_was_compared_lets_a_machine_in_and_its_key_is_pinned(light_site: Site) -> None:
    """M10: the password goes there, for the person vouched for the key; another key is told nothing."""
    by_password = {"": Login(user="vamt", password=PASSWORD)}

    async def work(machines: StandIns) -> None:
        found(light_site, 1, (await machines.add(says(said(1))))._replace(host_keys=()))
        light_site.vamt.machines.trust(ADMINISTRATOR, "m1", [OWN_KEY.get_fingerprint()])
        (failed,) = (await collect(light_site, logins=by_password)).failed
        assert failed.refusal.code == "host-key-changed"
        assert (machines.taken["users"], machines.taken["passwords"]) == ([], [])
        light_site.vamt.machines.trust(ADMINISTRATOR, "m1", [HOST_KEY.get_fingerprint()])
        assert (await collect(light_site, logins=by_password)).failed == []
        assert light_site.vamt.machines.show(VIEWER, "m1").machine.host_keys == (pinned(HOST_KEY),)

    run(work)


def test_a_revoked_key_is_believed_no_more(site: Site) -> None:
    async def work(machines: StandIns) -> None:
        for number in range(3):
            found(site, number, await machines.add(says(said(number))))
        found(site, 3, await machines.add(says(said(3)), key=OWN_KEY))
        assert (await collect(site)).failed == []
        site.vamt.machines.trust(ADMINISTRATOR, "m1", [HOST_KEY.get_fingerprint()])
        assert site.vamt.machines.revoke_keys(ADMINISTRATOR, [pinned(HOST_KEY)], "known-hosts x") == 3
        assert site.log()[-1] == ("ada", "trust-host-keys", "ok", 3)
        asked = len(machines.taken["users"])
        done = await collect(site, person=ADMINISTRATOR, limits=LIMITS._replace(accept_new=True))
        detail = f"It shows {HOST_KEY.get_fingerprint()}. That key was revoked."
        assert {(one.name, one.refusal.code, one.refusal.detail) for one in done.failed} == {
            (f"m{number}.a.invalid", "host-key-changed", detail) for number in range(3)
        }
        assert len(machines.taken["users"]) == asked + 1
        assert site.vamt.machines.revoke_keys(ADMINISTRATOR, [pinned(HOST_KEY)]) == 0
        assert site.vamt.machines.revoke_keys(OPERATOR, []) == 0
        with pytest.raises(Refused) as refused:
            site.vamt.machines.revoke_keys(OPERATOR, [pinned(OWN_KEY)])
        assert refused.value.refusal.code == "role-insufficient"

    run(work)


def test_a_proved_state_and_one_that_is_only_reported(light_site: Site) -> None:
    granting = Granting()
    light_site.vamt.publishers.add(ADMINISTRATOR, granting.publisher.product_file(), granting.publisher.pub)

    def row(grant: dict[str, Any] | None) -> dict[str, Any]:
        return product(publisher=granting.publisher.pub, cmid=granting.machine.kid, grant=grant)

    async def work(machines: StandIns) -> None:
        found(light_site, 1, await machines.add(says(said(1, rows=[row(granting.confirmation())]))))
        found(light_site, 2, await machines.add(says(said(2, rows=[product(grant=granting.confirmation())]))))
        assert (await collect(light_site)).failed == []

    run(work)
    assert light_site.names("proof=proved") == ["m1/com.example.cad"]
    assert light_site.names("proof=reported") == ["m2/com.example.cad"]
    cells = [reporting.table_row(row)[4] for row in reporting.rows(light_site.listed(), 0)["rows"]]
    assert cells == ["Licensed (proved)", "Licensed (reported)"]


def test_a_machine_without_a_product_has_no_state(light_site: Site) -> None:
    light_site.see(Sighting("csv", "m1"))
    (row,) = reporting.rows(light_site.listed(), 0)["rows"]
    assert reporting.table_row(row)[3:] == ["", "", "", "", ""]


def test_reasons_are_counted_and_each_says_what_to_do() -> None:
    def failed(number: int, code: str) -> Failed:
        return Failed(
            f"mid{number}", f"m{number}", Refusal(code, "so", (("host_key", "k"), ("fingerprint", "f")))
        )

    found = [failed(1, "timed-out"), failed(2, "host-key-changed"), failed(3, "host-key-changed")]
    lines = reporting.failures(found, 2).splitlines()
    assert [line.split() for line in lines[1:3]] == [
        ["m1", "timed-out", "so"],
        ["m2", "host-key-changed", "so"],
    ]
    changed, late = lines[4:]
    assert changed.startswith("2 host-key-changed: The machine shows another host key than the pinned one")
    assert changed.endswith("pin its new key: `volact vamt machine trust`.")
    assert late.startswith("1 timed-out: ")
    assert reporting.failed(found[0]) | {"next": ""} == {
        "id": "mid1",
        "machine": "m1",
        "code": "timed-out",
        "detail": "so",
        "host_key": "k",
        "fingerprint": "f",
        "next": "",
    }


def test_a_machine_that_was_removed_meanwhile_stays_removed(light_site: Site) -> None:
    async def work(machines: StandIns) -> None:
        came, gone = asyncio.Event(), asyncio.Event()

        async def slow(process: Any) -> None:
            came.set()
            await gone.wait()
            says(said(1))(process)

        found(light_site, 1, await machines.add(slow))
        task = asyncio.create_task(collect(light_site))
        await asyncio.wait_for(came.wait(), 30)
        light_site.vamt.machines.remove(OPERATOR, EVERY)
        gone.set()
        done = await task
        assert (done.asked, done.failed) == (1, [])

    run(work)
    assert light_site.names() == []


def test_a_store_that_fails_ends_the_collection(light_site: Site) -> None:
    """What could not be kept is not counted, and the reason is told."""

    async def work(machines: StandIns) -> None:
        found(light_site, 1, await machines.add(says(said(1))))
        with light_site.store.writing() as tx:
            tx.exec_driver_sql(
                "CREATE TRIGGER full BEFORE INSERT ON installed BEGIN SELECT RAISE(FAIL, 'disk I/O error'); END"
            )
        with pytest.raises(Exception, match=r"disk|constraint"):
            await collect(light_site)

    run(work)
    assert light_site.log()[-1][:2] == ("otto", "collect")
    assert light_site.log()[-1][2] != "ok"
