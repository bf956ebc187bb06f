"""What is brought to machines, by whom and how often: status lists (M5), files for a person's hands, and what stays pending."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from vamt.proxy.test_fallen import fallen, learn
from vamt.proxy.trips import ALL, ON_BOTH, Trip
from vamt.site import OPERATOR, VIEWER
from volact.protocol.problems import Refusal, Refused
from volact.vamt import proxymachines
from volact.vamt.applying import STATUS_LIST, Applied, Work
from volact.vamt.collecting.targets import LOCAL, Limits, Login, Target
from volact.vamt.selecting import Selection
from world import PRODUCT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@ON_BOTH
def test_a_status_list_is_brought_to_machines_that_nobody_else_tells(trip: Trip) -> None:
    """M5: byte for byte what the publisher signed, once a machine; one that is off holds up none."""
    lid, _ = fallen(trip, "all")
    learn(trip, lid)
    brought: list[Work] = []

    def bring(works: Sequence[Work]) -> Iterator[Applied]:
        for one in works:
            brought.append(one)
            yield Applied(one, Refusal("unreachable-port") if one.name == "pc1" else None)

    done = trip.inside.applying.bring_list(OPERATOR, ALL, bring)
    assert [(one.name, one.op, one.prd) for one in brought] == [
        ("pc0", STATUS_LIST, ""),
        ("pc1", STATUS_LIST, ""),
    ]
    assert {one.data() for one in brought} == {trip.outside.acquiring.status_file(OPERATOR, trip.pub)}
    assert [(one.machine, one.op, one.state, one.refusal and one.refusal.code) for one in done] == [
        ("pc0", STATUS_LIST, "applied", None),
        ("pc1", STATUS_LIST, "failed", "unreachable-port"),
    ]
    assert trip.inside.site.log()[-1] == (OPERATOR.name, "apply", "ok", 1)


def test_no_status_list_no_selection_no_role(trip: Trip) -> None:
    trip.estate(1)
    for person, selection, code in (
        (OPERATOR, ALL, "list-empty"),
        (OPERATOR, Selection(), "selection-empty"),
        (VIEWER, ALL, "role-insufficient"),
    ):
        with pytest.raises(Refused) as caught:
            trip.inside.applying.bring_list(person, selection, trip.bring)
        assert caught.value.refusal.code == code


def test_what_is_in_a_file_is_not_said_to_be_in_force(trip: Trip) -> None:
    """A person brings it; the machine's row is tried again over the network, a host's is not."""
    mak, host_key = trip.authority.key(activations=3), trip.authority.key("kms-host")
    trip.estate(1)
    host, stranger = trip.authority.machine(), trip.authority.machine()
    bundles = [host.request(host_key, "host"), stranger.request(mak)]
    done = trip.export(mak, bundles=bundles)
    trip.outside.take(trip.inside.file)
    trip.inside.take(trip.answer(done.written.lid))
    lid, files = done.written.lid, dict[str, bytes]()
    filer = proxymachines.filer(files.__setitem__)
    assert {one.state for one in trip.inside.applying.apply(OPERATOR, lid, filer)} == {"handed"}
    name = stranger.cmid.lstrip(".-")
    assert sorted(files) == sorted(
        [f"host-{PRODUCT}.json", f"{name}-{PRODUCT}.json", f"pc0.secret.example-{PRODUCT}.json"]
    )
    asked: list[str] = []

    def bring(works: Sequence[Work]) -> Iterator[Applied]:
        for one in works:
            asked.append(one.op)
            yield Applied(one, None)

    trip.inside.applying.apply(OPERATOR, lid, bring)
    assert asked == ["activate", "activate"]
    with pytest.raises(Refused) as caught:
        trip.inside.applying.apply(OPERATOR, lid, bring)
    assert caught.value.refusal.code == "list-empty"
    trip.inside.applying.apply(OPERATOR, lid, filer, again=True)
    _, rows = trip.inside.proxy.receipt(VIEWER, lid)
    assert sorted((item.op, item.state) for item, _ in rows) == [
        ("activate", "applied"),
        ("activate", "applied"),
        ("host", "handed"),
    ], "what is in force stays so when it is written to a file besides"
    shown = {said.op: said.machine for item, said in rows if not item.mid}
    assert shown == {"host": host.cmid, "activate": stranger.cmid}, "who asked is named, known here or not"


def test_a_failure_is_said_in_full(trip: Trip) -> None:
    """The store keeps its code; who applies reads what the machine said."""
    trip.estate(1)
    lid, _ = trip.round_trip(trip.authority.key(activations=1))

    def bring(works: Sequence[Work]) -> Iterator[Applied]:
        return (Applied(one, Refusal("unreachable-port", "192.0.2.7 port 22: no answer.")) for one in works)

    (done,) = trip.inside.applying.apply(OPERATOR, lid, bring)
    assert done.refusal == Refusal("unreachable-port", "192.0.2.7 port 22: no answer.")
    _, [(item, _)] = trip.inside.proxy.receipt(VIEWER, lid)
    assert (item.state, item.code) == ("failed", "unreachable-port"), "pending: it is tried again"


def test_a_hosts_answer_goes_there_by_hand() -> None:
    apply = proxymachines.applier(lambda _mids: {}, {}, Limits())
    done = list(
        apply([Work("", "", "com.example.cad", "host", {}), Work("", "", "com.example.cad", "activate", {})])
    )
    assert [one.refusal and one.refusal.code for one in done] == ["host-by-hand", "machine-unknown"]


@pytest.mark.parametrize(
    ("work", "command"),
    [
        (Work("m", "m", "", STATUS_LIST, {}, b"head\nbody\n"), "client status-list - --json"),
        (Work("m", "m", "com.example.cad", "activate", {"a": 1}), "/atp - --role client --json"),
    ],
    ids=["status list", "confirmation"],
)
def test_how_a_machine_takes_it(work: Work, command: str, tmp_path: Path) -> None:
    """The words of its command, and the bytes on its standard input."""
    script = tmp_path / "volact"
    script.write_text(f'#!/bin/sh\necho "$*" > {tmp_path}/words\ncat > {tmp_path}/given\necho "{{}}"\n')
    script.chmod(0o755)
    (tmp_path / "slmgr").symlink_to(script)
    logins = {"": Login(command=(str(script),))}
    apply = proxymachines.applier(lambda _mids: {"m": Target("m", (), transport=LOCAL)}, logins, Limits())
    (done,) = apply([work])
    assert (done.refusal, done.state) == (None, "applied")
    assert (tmp_path / "words").read_text() == command + "\n"
    assert (tmp_path / "given").read_bytes() == work.data()
