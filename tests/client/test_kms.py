"""A KMS client and its host: leases, renewals, refusals, time (K5 to K7, K10)."""

from pathlib import Path
from typing import Any

import pytest

from client.kms_server import HOST
from client.machine import PARTS, Machine, refused
from client.publisher import EPOCH, PRODUCT
from client.service import BOTH, MINUTE, Numbers, Service, made
from volact.client import events
from volact.protocol import jws
from volact.protocol.documents import Document
from volact.protocol.policy import DAY, HOUR
from volact.protocol.problems import Refusal, Unreachable


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return made(tmp_path)


@pytest.fixture
def leased(machine: Machine) -> Machine:
    machine.client.activate()
    return machine


def log(machine: Machine) -> list[tuple[int, str]]:
    return [(event["event"], event["result"]) for event in events.read([str(machine.home)])]


# A lease


def test_a_product_without_a_key_is_activated_by_the_host_that_is_set(machine: Machine) -> None:
    """K22, K6."""
    done = machine.client.activate()
    assert (done.standing.state, done.standing.reason) == (1, "lease")
    assert machine.standing() == done.standing
    assert machine.standing().end == EPOCH + 180 * DAY
    assert machine.kms.calls == [("kms.example.com", 1688)]
    assert machine.authority.requests == [], "the authority is not needed"


def test_a_check_in_says_what_the_table_of_documents_demands_and_no_more(machine: Machine) -> None:
    machine.clock.run(DAY)
    machine.client.activate()
    (checkin,) = machine.kms.checkins
    said = {name: checkin[name] for name in ("sub", "aud", "prd", "nonce", "prev", "state", "minutes", "vm")}
    assert said == {
        "sub": machine.cmid(),
        "aud": machine.kms.key.kid,
        "prd": PRODUCT,
        "nonce": machine.kms.nonce,
        "prev": None,
        "state": 2,
        "minutes": 29 * 24 * 60,
        "vm": False,
    }
    assert checkin["fp"]
    assert "name" not in checkin.claims, "a machine's name is nobody's business"


def test_a_renewal_names_the_lease_before_it(leased: Machine) -> None:
    first = leased.record().lease
    leased.client.activate()
    assert leased.kms.checkins[-1]["prev"] == first
    assert leased.kms.checkins[-1]["state"] == 1
    assert leased.record().lease != first
    assert leased.kms.checkins[0]["req"] != leased.kms.checkins[1]["req"]


@BOTH
def test_a_lease_ends_with_the_product_s_validity_or_by_itself(tmp_path: Path, numbers: Numbers) -> None:
    """PROTOCOL section 3: min(exp, iat + validity in the product document when it was stored)."""
    machine = made(tmp_path, numbers)
    machine.kms.validity = numbers.validity + 1
    machine.client.activate()
    assert machine.standing().end == EPOCH + numbers.validity
    machine.kms.validity = numbers.validity - 1
    machine.client.activate()
    assert machine.standing().end == EPOCH + numbers.validity - 1


def test_a_later_product_file_does_not_change_a_stored_lease(leased: Machine) -> None:
    leased.install(ver=2, validity=30 * DAY, renewal=7 * DAY)
    assert leased.standing().end == EPOCH + 180 * DAY
    leased.client.activate()
    assert leased.standing().end == EPOCH + 30 * DAY


def test_a_lease_whose_note_was_lost_in_a_crash_ends_by_the_product_s_file(leased: Machine) -> None:
    """The lease's file is written first, then the state."""
    state = leased.file("state.json").read_bytes()
    leased.clock.run(DAY)
    leased.client.activate()
    leased.file("state.json").write_bytes(state)
    assert leased.standing().end == EPOCH + DAY + 180 * DAY


@pytest.mark.parametrize("parts", [{}, {"os": PARTS["os"]}])
def test_a_machine_that_shows_nothing_or_little_is_served_too(
    machine: Machine, parts: dict[str, str]
) -> None:
    machine.facts = machine.facts._replace(values=parts)
    assert machine.client.activate().standing.licensed
    assert machine.standing().licensed


def test_a_container_is_refused_and_sends_nothing(machine: Machine) -> None:
    """Row 11."""
    machine.facts = machine.facts._replace(container=True)
    refused("machine-is-container", machine.client.activate)
    assert machine.kms.gets == 0


# States (K7, G7)


@BOTH
def test_without_any_renewal_a_machine_warns_then_is_out_of_tolerance_then_notifies(
    tmp_path: Path, numbers: Numbers
) -> None:
    """Day 150, 180, 210; by what `check()` finds, without service, host or network (G7)."""
    machine = made(tmp_path, numbers)
    machine.client.activate()
    machine.kms.down = True
    moments: list[tuple[int, tuple[int, bool]]] = []
    for at, before, after in (
        (numbers.warn_from, (1, False), (1, True)),
        (numbers.validity, (1, True), (3, True)),
        (numbers.validity + numbers.tolerance_grace, (3, True), (5, True)),
    ):
        moments += [(at - 1, before), (at, after), (at + 1, after)]
    for at, expected in moments:
        machine.clock.run(EPOCH + at - machine.clock.wall)
        found = machine.standing()
        assert (found.state, bool(found.warn)) == expected
    assert machine.kms.gets == 1


@BOTH
def test_a_machine_stays_licensed_through_179_days_without_a_host(tmp_path: Path, numbers: Numbers) -> None:
    """G7: with its service, which tries all the time; and the next answer puts everything right."""
    machine = made(tmp_path, numbers)
    machine.client.activate()
    service = Service(machine)
    machine.kms.down = True
    for _ in range(numbers.validity // DAY - 1):
        machine.clock.run(DAY)
        service.tick()
        assert machine.standing().licensed
    assert len(service.reports) == (numbers.validity - numbers.renewal) // DAY
    machine.kms.down = False
    machine.clock.run(3 * HOUR)
    service.tick()
    assert machine.standing().end == machine.clock.wall + numbers.validity


# Intervals (K6)


@BOTH
@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_the_service_renews_at_the_renewal_interval(tmp_path: Path, numbers: Numbers, chance: float) -> None:
    machine = made(tmp_path, numbers)
    machine.chance = chance
    service = Service(machine)
    service.tick(at_start=True)
    due = int(numbers.renewal * (0.9 + 0.2 * chance) + 0.5)
    for passed, asked in ((due - 1, 1), (1, 2), (due - 1, 2), (1, 3)):
        machine.clock.run(passed)
        service.tick(at_start=asked == 1)
        assert len(machine.kms.checkins) == asked
    assert service.reports == []


@BOTH
@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_the_service_tries_again_at_the_retry_interval_until_a_success_restarts_both(
    tmp_path: Path, numbers: Numbers, chance: float
) -> None:
    machine = made(tmp_path, numbers)
    machine.chance = chance
    service = Service(machine)
    for _ in range(3):
        machine.kms.too_few()
    service.tick(at_start=True)
    due = int(numbers.retry * (0.9 + 0.2 * chance) + 0.5)
    for passed, asked in ((due - 1, 1), (1, 2), (due - 1, 2), (1, 3), (due, 4)):
        machine.clock.run(passed)
        service.tick()
        assert len(machine.kms.checkins) == asked
    assert machine.standing().licensed
    assert service.reports == [f"{PRODUCT}: count-insufficient"] * 3
    machine.clock.run(int(numbers.renewal * (0.9 + 0.2 * chance) + 0.5) - 1)
    service.tick()
    assert len(machine.kms.checkins) == 4


@pytest.mark.parametrize("by", ["lease", "refusal"])
def test_intervals_that_the_host_tells_are_adopted(machine: Machine, by: str) -> None:
    machine.kms.renewal, machine.kms.retry = 3 * DAY, HOUR
    if by == "refusal":
        machine.kms.too_few()
        refused("count-insufficient", machine.client.activate)
        assert machine.record().next_try == EPOCH + HOUR
    else:
        machine.client.activate()
        assert machine.record().next_try == EPOCH + 3 * DAY
    assert (machine.record().renewal, machine.record().retry) == (3 * DAY, HOUR)


@pytest.mark.parametrize(
    ("told", "adopted"),
    [
        ((0, 0), (900, 900)),
        ((899, 899), (900, 900)),
        ((31 * DAY, HOUR), (30 * DAY, HOUR)),
        ((DAY, 2 * DAY), (DAY, DAY)),
    ],
)
def test_no_host_makes_a_client_call_out_of_the_bounds(
    machine: Machine, told: tuple[int, int], adopted: tuple[int, int]
) -> None:
    machine.kms.renewal, machine.kms.retry = told
    machine.client.activate()
    assert (machine.record().renewal, machine.record().retry) == adopted


@pytest.mark.parametrize(
    ("asked", "chance", "waits"),
    [
        (6479, 0.0, 6480),
        (6481, 0.0, 6481),
        (7200, 0.5, 7920),
        (7 * DAY, 0.0, 7 * DAY),
        (7 * DAY + 1, 0.0, 7 * DAY),
        (7 * DAY + 1, 1.0, int(7.7 * DAY)),
    ],
)
def test_a_host_s_retry_after_is_kept_up_to_the_renewal_interval(
    machine: Machine, asked: int, chance: float, waits: int
) -> None:
    machine.chance = chance
    machine.kms.refuse("busy", retry_after=asked)
    refused("busy", machine.client.activate)
    assert machine.record().next_try == EPOCH + waits


def test_own_intervals_count_until_a_host_tells_its_own(machine: Machine) -> None:
    machine.client.set_intervals(renewal=DAY, retry=15 * MINUTE)
    machine.kms.down = True
    refused("host-unreachable", machine.client.activate)
    assert machine.record().next_try == EPOCH + 15 * MINUTE
    machine.kms.down = False
    machine.client.activate()
    assert machine.record().next_try == EPOCH + 7 * DAY
    machine.client.set_intervals(renewal=2 * DAY)
    assert machine.record().next_try == EPOCH + 2 * DAY, "a wait that is longer than the new interval is cut"
    machine.client.activate()
    assert machine.record().next_try == EPOCH + 7 * DAY


# Refusals (K5, K10)


@pytest.mark.parametrize(
    "code", ["host-not-activated", "product-not-served", "count-insufficient", "host-clock-wrong", "busy"]
)
def test_a_refusal_is_named_and_changes_no_state(leased: Machine, code: str) -> None:
    before = leased.standing()
    leased.kms.refuse(code)
    refused(code, leased.client.activate)
    assert leased.standing() == before
    assert log(leased)[-2:] == [(12288, ""), (12289, code)]


@pytest.mark.parametrize("code", ["host-not-activated", "host-clock-wrong", "busy"])
def test_a_host_may_say_why_it_proves_nothing(machine: Machine, code: str) -> None:
    machine.kms.proofs = [Refusal(code, "", (("retry_after", 6 * DAY), ("renewal", 900), ("retry", 900)))]
    refused(code, machine.client.activate)
    assert machine.kms.checkins == []
    assert log(machine) == [(12289, code)]
    assert machine.record().next_try == EPOCH + 2 * HOUR, "an unproved server's wait is not waited"
    assert machine.record().renewal is None


@pytest.mark.parametrize("code", ["identity-cloned", "count-insufficient", "machine-blocked", "unheard-of"])
def test_an_unproved_server_is_believed_nothing_else(machine: Machine, code: str) -> None:
    cmid = machine.cmid()
    machine.kms.proofs = [
        jws.read_json(b'{"code":"%s","title":"x","status":403,"detail":"x"}' % code.encode())
    ]
    refused("host-untrusted", machine.client.activate)
    assert machine.kms.checkins == []
    assert machine.cmid() == cmid


def test_a_product_that_the_delegation_does_not_name_is_not_asked_for(tmp_path: Path) -> None:
    machine = made(tmp_path)
    machine.kms.delegate(("com.example.cam",))
    machine.kms.document = machine.kms.host_document()
    refused("product-not-served", machine.client.activate)
    assert machine.kms.checkins == []


@pytest.mark.parametrize(("least", "code"), [(2, ""), (3, "product-outdated")])
def test_an_outdated_product_file_takes_no_new_lease_and_keeps_the_one_it_has(
    leased: Machine, least: int, code: str
) -> None:
    """PROTOCOL section 3: `min_ver`."""
    leased.install(ver=2)
    leased.kms.delegate(min_ver={PRODUCT: least})
    if code:
        refused(code, leased.client.activate)
        leased.install(ver=3)
    leased.client.activate()
    assert leased.standing().licensed
    assert len(leased.kms.checkins) == 2


@BOTH
def test_below_the_threshold_a_lease_lives_on_to_its_own_end(tmp_path: Path, numbers: Numbers) -> None:
    """K5, K8: every try fails, each is an event, all stay activated; the count comes back and nobody does a thing."""
    machine = made(tmp_path, numbers)
    machine.client.activate()
    service = Service(machine)
    end = machine.standing().end
    for tries in range(30):
        machine.kms.too_few(23)
        machine.clock.run(numbers.retry if tries else numbers.renewal)
        service.tick()
    assert service.reports == [f"{PRODUCT}: count-insufficient"] * 30
    assert (machine.standing().state, machine.standing().end) == (1, end)
    assert log(machine)[2:] == [(12288, ""), (12289, "count-insufficient")] * 30
    machine.clock.run(numbers.retry)
    service.tick()
    assert machine.standing().end == machine.clock.wall + numbers.validity


def test_events_carry_counts_host_and_intervals(machine: Machine) -> None:
    """Rule E."""
    machine.kms.too_few(7, 25)
    refused("count-insufficient", machine.client.activate)
    machine.kms.count = 26
    machine.clock.run(60)
    machine.client.activate()
    sent, failed, _, done = events.read([str(machine.home)])
    assert (sent["event"], sent["required"], sent["current"]) == (12288, None, None)
    assert (failed["event"], failed["result"]) == (12289, "count-insufficient")
    assert (failed["required"], failed["current"], failed["host"]) == (25, 7, HOST)
    assert (failed["renewal"], failed["retry"], failed["cmid"]) == (7 * DAY, 2 * HOUR, machine.cmid())
    assert (done["result"], done["required"], done["current"], done["state"]) == ("ok", 25, 26, 1)
    assert [event.event for event in machine.told] == [12288, 12289, 12288, 12289]


@pytest.mark.parametrize("figure", [-1, True, "7", None, [7]])
def test_a_figure_that_is_none_is_not_logged(machine: Machine, figure: Any) -> None:
    def answer(_: Any) -> dict[str, Any]:
        code = {"code": "count-insufficient", "title": "x", "status": 403, "detail": "", "count": figure}
        return {**code, "required": figure, "renewal": figure, "retry": figure}

    machine.kms.answers = [answer]
    refused("count-insufficient", machine.client.activate)
    last = events.read([str(machine.home)])[-1]
    assert (last["required"], last["current"]) == (None, None)
    assert machine.record().renewal is None


# Time (PROTOCOL section 8)


def test_a_lease_is_a_fresh_signed_time_and_puts_a_wrong_clock_right(machine: Machine) -> None:
    machine.client.activate()
    machine.clock.turn(1000 * DAY)
    machine.kms.clock = lambda: EPOCH + DAY
    machine.client.activate()
    machine.clock.turn(-999 * DAY)
    found = machine.standing()
    assert (found.state, found.warn, found.end) == (1, "", EPOCH + 181 * DAY)


def test_an_answer_that_was_lost_and_comes_again_sets_no_time_back(machine: Machine) -> None:
    kept: list[dict[str, Any]] = []

    def lose(asked: Any) -> dict[str, Any]:
        kept.append(machine.kms.lease(asked))
        raise Unreachable(Refusal("host-unreachable"))

    machine.kms.answers = [lose, lambda _: kept[0]]
    refused("host-unreachable", machine.client.activate)
    machine.clock.run(30 * DAY)
    machine.client.activate()
    machine.clock.turn(-30 * DAY)
    assert "doubt" in machine.standing().warn
    assert machine.client.open(machine.publisher.pub).now == EPOCH + 30 * DAY


def test_a_doubtful_clock_renews_at_once(leased: Machine) -> None:
    service = Service(leased)
    leased.clock.run(DAY)
    leased.client.open(leased.publisher.pub).save()
    leased.clock.turn(-DAY)
    leased.kms.clock = lambda: leased.clock.wall
    service.tick()
    assert len(leased.kms.checkins) == 2
    assert leased.standing().warn == ""


def test_a_wrong_clock_that_stays_wrong_does_not_call_in_a_row(leased: Machine) -> None:
    service = Service(leased)
    leased.kms.clock = lambda: EPOCH + 300 * DAY + leased.clock.since_boot
    service.tick()
    leased.client.activate()
    before = len(leased.kms.checkins)
    for _ in range(100):
        leased.clock.run(5)
        service.tick()
    assert len(leased.kms.checkins) == before


def test_the_events_of_a_try_that_takes_long_tell_when_each_was(machine: Machine) -> None:
    """Rule E: a try may take half a minute, and what came of it is not told with its beginning's time."""
    began = machine.clock.wall

    def late(checkin: Document) -> Any:
        machine.clock.run(22)
        return machine.kms.lease(checkin)

    machine.kms.answers.append(late)
    machine.told.clear()
    machine.client.activate()
    assert [(one.event, one.time, one.client_time) for one in machine.told] == [
        (12288, began, began),
        (12289, began + 22, began + 22),
    ]
