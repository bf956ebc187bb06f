"""A machine gives its activation back: M6, PROTOCOL sections 2 and 7, section 5's row 13, F2."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.machine import FOREIGN, PARTS, Machine, refused
from client.publisher import PRODUCT, Publisher, request_of
from volact.client import events, running
from volact.client.client import Client
from volact.client.kms import renew
from volact.client.store import Store
from volact.protocol import documents, jws, trust
from volact.protocol.policy import DAY, HOUR
from volact.protocol.problems import DocumentRefused, Refusal, Unreachable

BACK = (0, "activation-returned", None)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path, Publisher()).activated()


def sent(machine: Machine) -> list[dict[str, Any]]:
    """The returns that were posted."""
    bundles = [trust.read_bundle(body) for body in machine.authority.requests]
    return [bundle for bundle in bundles if request_of(bundle)["op"] == "return"]


def has(machine: Machine, name: str) -> bool:
    return machine.file(name).exists()


# --- online -----------------------------------------------------------------------------------------------------


def test_a_machine_that_returned_online_is_unlicensed(machine: Machine) -> None:
    claims, logged = machine.grant_claims(), len(machine.told)
    done = machine.client.give_back()
    assert machine.standing()[:3] == done.standing[:3] == BACK
    assert done.activation == claims["act"]
    (bundle,) = sent(machine)
    request = request_of(bundle)
    documents.check_carried(request, proof=bundle.get("proof"), usage=bundle.get("usage"))
    wanted = {
        "op": "return",
        "ref": claims["jti"],
        "key": claims["key"],
        "fp": claims["fp"],
        "sub": machine.cmid(),
    }
    assert {name: request[name] for name in wanted} == wanted
    assert "file" not in request.claims
    assert not has(machine, "grant.json")
    assert not has(machine, "return.json")
    told = [(one.event, one.result) for one in machine.told[logged:]]
    assert told == [(events.SENT, ""), (events.ANSWERED, events.DONE)]
    machine.clock.run(4000 * DAY)
    assert machine.standing()[:3] == BACK


@pytest.mark.parametrize("why", ["down", "lost", "somebody else"])
def test_nothing_changes_until_the_receipt_is_here_and_the_same_bytes_are_sent_again(
    machine: Machine, why: str
) -> None:
    """F2: also after a restart, and if another card is in the machine by then."""
    code = "answer-nonsense" if why == "somebody else" else "authority-unreachable"
    machine.authority.down = why == "down"
    machine.authority.answers = [] if why == "down" else [Unreachable(Refusal(code))] * 2
    for _ in range(2):
        refused(code, machine.client.give_back)
        assert machine.standing()[:2] == (1, "activated")
    machine.authority.down = False
    machine.facts = machine.facts._replace(values={**PARTS, "net": "02:00:00:00:00:01"})
    machine.client = Client(Store(str(machine.home)), machine.around)
    machine.client.give_back()
    assert len(sent(machine)) == 3
    assert len({jws.write_json(bundle) for bundle in sent(machine)}) == 1
    assert machine.standing()[:3] == BACK


@pytest.mark.parametrize(
    ("code", "forgotten"),
    [
        ("returned-too-soon", True),
        ("returns-used-up", True),
        ("taken-over-recently", True),
        ("confirmation-superseded", True),
        ("nothing-to-return", True),
        ("machine-blocked", True),
        ("identity-cloned", True),
        ("document-refused", True),
        ("busy", False),
        ("too-many-requests", False),
        ("storage-unavailable", False),
        ("authority-expired", False),
        ("internal", False),
    ],
)
def test_a_refusal_leaves_the_machine_as_it_is(machine: Machine, code: str, forgotten: bool) -> None:
    """Rule E: a refusal never worsens a state; and one that is for good is not asked for again by the same id."""
    cmid = machine.cmid()
    machine.authority.answers = [Refusal(code)]
    refused(code, machine.client.give_back)
    assert machine.standing()[:2] == (1, "activated")
    assert has(machine, "return.json") is not forgotten
    assert machine.cmid() == cmid
    assert machine.record().next_try == (None if forgotten else machine.clock.now() + 2 * HOUR)
    machine.client.give_back()
    first, second = (request_of(bundle).jti for bundle in sent(machine))
    assert (first != second) is forgotten


class Mute:
    """An address that nobody answers at."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __call__(self, *_: Any) -> None:
        raise self._error


@pytest.mark.parametrize("listed", ["returned", "not yet", "down"])
def test_one_that_arrived_unknown_to_the_machine_is_learned_from_the_signed_list(
    machine: Machine, listed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal alone is believed by nobody."""
    act = machine.grant_claims()["act"]
    machine.authority.answers = [Refusal("activation-returned")]
    machine.authority.list = machine.publisher.status_list(
        *[("act", act, "returned")] * (listed == "returned")
    )
    with monkeypatch.context() as patched:
        if listed == "down":
            failing = Unreachable(Refusal("authority-unreachable"))
            patched.setattr(machine.authority, "get", Mute(failing))
        refused("activation-returned", machine.client.give_back)
    assert machine.standing()[:2] == (
        (0, "activation-returned") if listed == "returned" else (1, "activated")
    )
    assert has(machine, "return.json") is (listed != "returned"), "until the list says so it may be true"
    if listed == "returned":
        refused("activation-returned", machine.client.give_back)
        assert len(sent(machine)) == 1, "it is not asked again"


@pytest.mark.parametrize(
    "wrong",
    [
        {"sub": "B" * 43},
        {"key": "B" * 43},
        {"req": "B" * 22},
        {"ref": "B" * 22},
        {"act": "B" * 22},
        {"prd": "x.y"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_receipt_that_is_not_for_this_return_is_refused(machine: Machine, wrong: dict[str, str]) -> None:
    machine.authority.other = wrong
    with pytest.raises(DocumentRefused):
        machine.client.give_back()
    assert machine.standing()[:2] == (1, "activated")
    assert has(machine, "return.json")


def _a_request(machine: Machine) -> Any:
    """The return that the machine will send: it stands in its folder after a first try."""
    machine.authority.down = True
    refused("authority-unreachable", machine.client.give_back)
    machine.authority.down = False
    return request_of(sent(machine)[0])


def test_a_confirmation_is_no_receipt(machine: Machine) -> None:
    machine.authority.answers = [machine.authority.publisher.confirmation(_a_request(machine))]
    with pytest.raises(DocumentRefused):
        machine.client.give_back()
    assert machine.standing()[:2] == (1, "activated")


def test_a_second_return_says_so_and_asks_nobody(machine: Machine) -> None:
    machine.client.give_back()
    for call in (machine.client.give_back, machine.client.promise):
        refused("activation-returned", call)
    assert len(sent(machine)) == 1


def test_who_has_nothing_to_return_is_told(tmp_path: Path) -> None:
    fresh = Machine(tmp_path / "a", Publisher())
    refused("product-not-installed", fresh.client.give_back)
    fresh.install()
    leased = Machine(tmp_path / "b", Publisher()).leased()
    removed = Machine(tmp_path / "c", Publisher()).activated()
    removed.client.remove_key()
    for machine in (fresh, leased, removed):
        before = machine.standing()
        for call in (machine.client.give_back, machine.client.promise):
            refused("nothing-to-return", call)
        assert machine.standing() == before
        assert not sent(machine)
        assert not has(machine, "return.json")


def test_an_activation_of_another_identity_of_this_machine_is_not_returned(machine: Machine) -> None:
    """P4: a kept confirmation fits this hardware; the row at the authority is another identity's."""
    kept = machine.file("grant.json").read_bytes()
    machine.client.rearm()
    machine.client.apply(kept)
    assert machine.standing().licensed
    for call in (machine.client.give_back, machine.client.promise):
        refused("nothing-to-return", call)
    assert machine.standing().licensed


# --- by file ----------------------------------------------------------------------------------------------------


def test_by_file_the_machine_stops_and_promises(machine: Machine) -> None:
    claims = machine.grant_claims()
    done = machine.client.promise()
    assert machine.standing()[:3] == done.standing[:3] == BACK
    request = request_of(done.bundle)
    assert (request["op"], request["ref"], request["file"]) == ("return", claims["jti"], True)
    assert done.bundle.keys() == {"token", "jwk"}
    assert not sent(machine)
    assert not has(machine, "grant.json")
    for _ in range(2):
        machine.clock.run(DAY)
        assert machine.client.promise() == done, "the same bytes as often as it is asked for"
    assert machine.standing()[:3] == BACK


def test_a_promise_can_also_be_sent(machine: Machine) -> None:
    promised = machine.client.promise()
    machine.authority.down = True
    refused("authority-unreachable", machine.client.give_back)
    machine.authority.down = False
    done = machine.client.give_back()
    assert done.activation == promised.activation
    assert sent(machine) == [promised.bundle] * 2
    assert machine.standing()[:3] == BACK
    assert not has(machine, "return.json")
    refused("activation-returned", machine.client.promise)


def test_a_promise_is_not_taken_back_by_a_refusal(machine: Machine) -> None:
    promised = machine.client.promise()
    machine.authority.answers = [Refusal("returns-used-up"), Refusal("activation-returned")]
    for code in ("returns-used-up", "activation-returned"):
        refused(code, machine.client.give_back)
        assert machine.standing()[:3] == BACK
    assert machine.client.promise() == promised


def test_what_was_asked_for_online_is_written_anew_for_a_medium(machine: Machine) -> None:
    """It must say so, and an id is not used twice for different content."""
    machine.authority.down = True
    refused("authority-unreachable", machine.client.give_back)
    done = machine.client.promise()
    (online,) = sent(machine)
    assert request_of(online).jti != request_of(done.bundle).jti
    assert request_of(done.bundle)["file"] is True


def test_a_blocked_machine_does_not_stop_for_nothing(machine: Machine) -> None:
    machine.authority.list = machine.publisher.status_list(("act", machine.grant_claims()["act"], "all"))
    machine.client.activate()
    assert machine.standing().state == 4
    refused("machine-blocked", machine.client.promise)
    assert machine.standing().state == 4
    assert has(machine, "grant.json")


# --- crashes ----------------------------------------------------------------------------------------------------


class Cut(Exception):
    """The power goes."""


def cut_at(machine: Machine, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the store's `step`-th write from now on be the one that is never made."""
    left = step

    def counting(write: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Cut
            return write(*arguments)

        return counted

    for name in ("write_state", "write_pending", "remove"):
        monkeypatch.setattr(machine.store, name, counting(getattr(machine.store, name)))


@pytest.mark.parametrize("step", range(4))
@pytest.mark.parametrize("by_file", [False, True])
def test_a_crash_at_any_step_is_mended_by_the_same_command(
    machine: Machine, by_file: bool, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By file no signed return exists while the machine runs on; online no seat is given up without its receipt."""
    command = "promise" if by_file else "give_back"
    with monkeypatch.context() as patched:
        cut_at(machine, step, patched)
        try:
            getattr(machine.client, command)()
            ended = True
        except Cut:
            ended = False
    assert ended is (step == 3)
    stopped = machine.standing()[:3] == BACK
    assert stopped or machine.standing()[:2] == (1, "activated")
    if by_file:
        assert stopped or not has(machine, "return.json")
    else:
        assert not stopped or sent(machine)
    machine.client = Client(Store(str(machine.home)), machine.around)
    if ended and not by_file:
        refused("activation-returned", machine.client.give_back)
    else:
        getattr(machine.client, command)()
    assert machine.standing()[:3] == BACK
    assert not has(machine, "grant.json")
    assert len({request_of(bundle).jti for bundle in sent(machine)}) <= 1


# --- afterwards -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["give_back", "promise"])
def test_row_13_it_activates_again_when_it_is_told_to(machine: Machine, how: str) -> None:
    getattr(machine.client, how)()
    refused("no-key-installed", machine.client.activate)
    assert machine.standing()[:3] == BACK
    machine.client.install_key(machine.publisher.key().text())
    assert machine.standing()[:3] == BACK, "a key alone is no activation"
    assert machine.client.activate().standing.licensed
    assert not has(machine, "return.json")
    assert not machine.record().given_back
    assert machine.client.give_back().standing[:3] == BACK
    assert len(machine.authority.acts) == 2


def test_a_crash_while_it_activates_again_leaves_it_activated(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new confirmation is in its place, and the state does not know of it yet: it is not what was given back."""
    machine.client.give_back()
    machine.client.install_key(machine.publisher.key().text())
    with monkeypatch.context() as patched:
        write = machine.store.write_grant

        def cut(granted: Any) -> None:
            write(granted)
            raise Cut

        patched.setattr(machine.store, "write_grant", cut)
        with pytest.raises(Cut):
            machine.client.activate()
    assert machine.record().given_back
    assert machine.standing()[:2] == (1, "activated")
    assert machine.client.activate().standing.licensed


def test_the_service_activates_nothing_that_was_given_back(tmp_path: Path) -> None:
    """It had its key, or none: then a KMS host is asked by hand alone."""
    keyed = Machine(tmp_path / "a", Publisher()).activated(forget_key=False)
    keyless = Machine(tmp_path / "b", Publisher())
    keyless.install()
    keyless.client.install_key(keyless.publisher.key().text())
    confirmation = keyless.authority.confirm(keyless.client.question().bundle)
    keyless.client.remove_key()
    keyless.client.apply(jws.write_json(confirmation))
    for machine in (keyed, keyless):
        assert machine.standing().licensed
        machine.client.give_back()
        asked = len(machine.authority.requests)
        for at_start in (True, False):
            running.tick(machine.client, lambda *_: pytest.fail("nothing is tried"), at_start=at_start)
            machine.clock.run(DAY)
        assert machine.standing()[:3] == BACK
        assert len(machine.authority.requests) == asked
        assert not machine.kms.checkins


def test_a_lease_may_follow_a_return(machine: Machine) -> None:
    """K22: without its key the product is a KMS client."""
    machine.client.give_back()
    machine.client.remove_key()
    machine.client.set_host(None, "kms.test:1688")
    machine.client.activate()
    assert machine.standing()[:2] == (1, "lease")
    assert not machine.record().given_back
    with machine.store.writing():
        renew(machine.client.open(machine.publisher.pub), PRODUCT)
    assert machine.standing()[:2] == (1, "lease")


def test_what_was_given_back_is_not_applied_again(machine: Machine) -> None:
    """M6: an old answer is worth nothing after a return; neither is an older one of the same activation."""
    older, act = machine.file("grant.json").read_bytes(), machine.grant_claims()["act"]
    machine.publisher.iat += DAY
    machine.clock.run(DAY)
    machine.client.install_key(machine.publisher.key().text())
    machine.authority.other = {"act": act}
    machine.client.activate()
    newest = machine.file("grant.json").read_bytes()
    assert newest != older
    machine.client.promise()
    for _ in range(2):
        for kept in (older, newest):
            refused("activation-returned", machine.client.apply, kept)
        machine.client.rearm()
    assert machine.standing().state == 2


def test_a_promise_is_void_once_the_machine_has_activated_again(machine: Machine) -> None:
    """The authority does not count it: it names a confirmation that is not the newest. The machine goes on."""
    act = machine.grant_claims()["act"]
    machine.client.promise()
    machine.publisher.iat += DAY
    machine.clock.run(DAY)
    machine.client.install_key(machine.publisher.key().text())
    machine.authority.other = {"act": act}
    assert machine.client.activate().standing.licensed
    machine.client.open(machine.publisher.pub).save()
    assert machine.standing().licensed


def test_an_image_carries_no_return(machine: Machine) -> None:
    machine.client.promise()
    machine.client.generalize()
    assert not has(machine, "return.json")
    assert machine.standing()[:2] == (0, "not-started")
    machine.client.open(machine.publisher.pub).save()
    assert machine.standing()[:2] == (2, "initial-grace")


def test_a_return_stays_with_the_identity_that_signed_it(machine: Machine) -> None:
    """Row 3: an image on another machine cannot send it."""
    machine.authority.down = True
    refused("authority-unreachable", machine.client.give_back)
    machine.authority.down = False
    machine.facts = machine.facts._replace(values=FOREIGN)
    refused("nothing-to-return", machine.client.give_back)
    assert not has(machine, "return.json")


def test_a_removed_key_takes_an_unanswered_return_with_it(machine: Machine) -> None:
    machine.authority.down = True
    refused("authority-unreachable", machine.client.give_back)
    stored = machine.file("return.json").read_bytes()
    machine.client.remove_key()
    assert not has(machine, "return.json")
    machine.file("return.json").write_bytes(stored)  # as if the power had gone before it was removed
    refused("nothing-to-return", machine.client.give_back)
    assert machine.standing()[:2] == (0, "key-removed")


@pytest.mark.parametrize("content", [b'{"token": "x"}', b"{}"])
def test_a_stored_return_that_is_none_any_more_is_made_anew(machine: Machine, content: bytes) -> None:
    machine.file("return.json").write_bytes(content)
    machine.client.give_back()
    assert machine.standing()[:3] == BACK


def test_a_stored_return_of_an_older_confirmation_is_made_anew(machine: Machine) -> None:
    machine.authority.down = True
    refused("authority-unreachable", machine.client.give_back)
    stale = machine.file("return.json").read_bytes()
    machine.authority.down = False
    machine.client.install_key(machine.publisher.key(number=2).text())
    machine.client.activate()
    machine.file("return.json").write_bytes(stale)
    newest = machine.grant_claims()["jti"]
    machine.client.give_back()
    assert request_of(sent(machine)[-1])["ref"] == newest


def test_the_stored_return_is_private(machine: Machine) -> None:
    machine.client.promise()
    assert machine.file("return.json").stat().st_mode & 0o777 == 0o600
