"""The client's service: what is due, tick by tick (M4, rule E, F17)."""

import os
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from client.kms_server import HOST
from client.machine import FOREIGN, PARTS, HandClock, Machine
from client.publisher import EPOCH, PRODUCT, Publisher
from client.service import Service, made
from volact.client import installation, running
from volact.client.client import Client
from volact.client.planning import Surface, is_another
from volact.client.store import LOCK_TICK, Store
from volact.clock import ClockInvalid
from volact.facts import Facts
from volact.protocol.policy import DAY, HOUR
from volact.protocol.problems import Refusal, Refused


@pytest.fixture
def service(tmp_path: Path) -> Service:
    machine = Machine(tmp_path, Publisher())
    machine.install()
    machine.client.install_key(machine.publisher.key().text())
    return Service(machine)


def test_a_first_start_activates_by_itself(service: Service) -> None:
    service.tick(at_start=True)
    assert service.machine.standing().licensed
    service.tick()
    assert service.asked == 1
    assert service.reports == []


def test_a_failed_try_is_repeated_at_the_retry_interval(service: Service) -> None:
    service.machine.authority.down = True
    service.tick()
    for passed, asked in ((HOUR, 1), (HOUR - 1, 1), (1, 2), (2 * HOUR, 3)):
        service.machine.clock.run(passed)
        service.tick()
        assert service.asked == asked
    assert service.reports == [f"{PRODUCT}: authority-unreachable"] * 3
    service.machine.authority.down = False
    service.machine.clock.run(2 * HOUR)
    service.tick()
    assert service.machine.standing().licensed


def test_a_start_tries_at_once(service: Service) -> None:
    service.machine.authority.down = True
    service.tick()
    service.tick(at_start=True)
    assert service.asked == 2


def test_a_machine_s_own_refusal_is_not_repeated_every_tick(service: Service) -> None:
    service.machine.facts = service.machine.facts._replace(container=True)
    for _ in range(5):
        service.tick()
        service.machine.clock.run(5)
    assert service.reports == [f"{PRODUCT}: machine-is-container"]


def test_a_try_that_was_planned_by_a_wrong_clock_is_made_now(service: Service) -> None:
    """F17."""
    service.machine.clock.turn(3650 * DAY)
    service.machine.authority.down = True
    service.tick()
    service.machine.clock.turn(-3650 * DAY)
    service.machine.authority.down = False
    service.tick()
    assert service.machine.standing().licensed
    assert service.machine.client.open(service.machine.publisher.pub).now == EPOCH


def test_a_clone_that_starts_on_another_machine_activates_as_itself(service: Service) -> None:
    service.tick(at_start=True)
    cmid = service.machine.cmid()
    service.machine.facts = service.machine.facts._replace(values=FOREIGN)
    service.machine.client.install_key(service.machine.publisher.key().text())
    service.tick(at_start=True)
    assert service.machine.standing().licensed
    assert service.machine.cmid() != cmid


def test_running_time_is_saved_every_ten_minutes_and_not_more_often(service: Service) -> None:
    service.tick(at_start=True)
    path = service.machine.file("state.json")
    saved = path.read_bytes()
    for _ in range(119):
        service.machine.clock.run(5)
        service.tick()
        assert path.read_bytes() == saved
    service.machine.clock.run(5)
    service.tick()
    assert path.read_bytes() != saved


def test_changed_hardware_is_noted_when_it_is_first_seen(service: Service) -> None:
    service.tick(at_start=True)
    service.machine.facts = service.machine.facts._replace(
        values={**PARTS, "uuid": FOREIGN["uuid"], "board": "new board"}
    )
    service.tick()
    service.machine.clock.run(30 * DAY - 1)
    assert service.machine.standing().state == 3
    service.machine.clock.run(1)
    assert service.machine.standing().state == 5


def test_the_public_list_is_fetched_daily_if_the_policy_says_so(tmp_path: Path) -> None:
    machine = Machine(tmp_path, Publisher()).activated(status_check=True)
    service = Service(machine)
    fetched = len(machine.authority.list_headers)
    for passed, more in ((0, 0), (DAY - 1, 0), (1, 1), (DAY, 2)):
        machine.clock.run(passed)
        service.tick()
        assert len(machine.authority.list_headers) == fetched + more
    machine.authority.down = True
    machine.clock.run(DAY)
    service.tick()
    service.tick()
    assert service.reports == [f"{PRODUCT}: authority-unreachable"]


def test_one_product_s_failure_does_not_stop_the_others(service: Service) -> None:
    service.machine.install("com.example.cam")
    service.machine.client.install_key(service.machine.publisher.key(number=2).text(), "com.example.cam")
    service.machine.authority.answers = [Refusal("no-activations-left")]
    service.tick()
    assert service.machine.standing("com.example.cam").licensed
    assert service.reports == [f"{PRODUCT}: no-activations-left"]


def test_a_publisher_whose_files_are_damaged_does_not_stop_the_others(service: Service) -> None:
    service.machine.file("root.json").write_bytes(b"{")
    other = Machine(service.machine.home, Publisher())
    other.install("com.example.cam")
    other.client.install_key(other.publisher.key().text(), "com.example.cam")
    running.tick(other.client, service._report)
    assert other.standing("com.example.cam").licensed
    assert service.reports == [f"{service.machine.publisher.pub}: data-broken"]


def test_a_laboratory_whose_clock_says_no_time_does_not_stop_the_others(tmp_path: Path) -> None:
    """Nor does it make each tick a start, at which all that is not licensed is tried."""
    machine, other = Machine(tmp_path, Publisher(lab=False)), Machine(tmp_path, Publisher(lab=True))
    for one in (machine, other):
        one.install()
    key = machine.publisher.key().text()
    machine.install("com.example.cam")
    machine.client.install_key(key, "com.example.cam")
    machine.authority.down = True

    def clock(lab: bool) -> HandClock:
        if lab:
            raise ClockInvalid("no time")
        return machine.clock

    client = Client(machine.store, machine.around._replace(clock=clock))
    reports: list[str] = []
    eyes = Eyes()
    service = running.Service(
        client,
        lambda where, _: reports.append(where),
        running.Watch(client, eyes),
        lambda: eyes.running,
    )
    for _ in range(3):
        service.look()
        eyes.run(5)
    assert len(machine.authority.requests) == 1
    assert sorted(reports) == sorted([PRODUCT, "com.example.cam", *[other.publisher.pub] * 3])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_service_stops_when_it_is_told(service: Service, number: int) -> None:
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
    timer = threading.Timer(0.2, os.kill, (os.getpid(), number))
    timer.start()
    try:
        running.run(service.machine.client, service._report, wait=0.05)
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        timer.join()
    assert service.machine.standing().licensed


# One lock for one try: a host that does not answer stops neither other products nor other commands

OTHER = "com.example.cam"


@pytest.fixture
def two(tmp_path: Path) -> Machine:
    """Two products of one publisher, with one host, which serves both."""
    machine = made(tmp_path)
    machine.install(OTHER)
    machine.kms.delegate((PRODUCT, OTHER))
    machine.kms.document = machine.kms.host_document()
    machine.client.set_host(OTHER, HOST)
    return machine


def asked(machine: Machine) -> list[str]:
    return [one["prd"] for one in machine.kms.checkins]


def test_the_lock_is_let_go_between_two_tries(two: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[list[str]] = []

    def others_turn(seconds: float) -> None:
        assert seconds > LOCK_TICK
        with Store(str(two.home), patience=0).writing():
            turns.append(asked(two))

    monkeypatch.setattr(running, "time", SimpleNamespace(sleep=others_turn))
    two.kms.too_few()
    Service(two).tick(at_start=True)
    first, second = asked(two)
    assert {first, second} == {PRODUCT, OTHER}
    assert turns == [[first]]
    assert two.standing(second).licensed
    Service(two).tick()
    assert len(turns) == 1, "what has nothing to ask takes no turn of its own"


def test_each_try_has_a_time_of_its_own_and_one_that_asks_twice_has_the_same(
    two: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`identity-cloned` is asked again at once, as a new machine."""
    ends = iter(range(1, 9))
    monkeypatch.setattr(installation, "end_of_try", lambda: next(ends))
    two.kms.refuse("identity-cloned")
    Service(two).tick(at_start=True)
    assert two.kms.untils == [1, 1, 2]


def test_an_activation_and_the_list_after_it_are_one_try(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = iter(range(1, 9))
    monkeypatch.setattr(installation, "end_of_try", lambda: next(ends))
    service.tick(at_start=True)
    assert service.machine.authority.untils == [1, 1]


@pytest.mark.parametrize("woken", [False, True])
def test_a_start_or_wake_whose_tick_does_not_get_through_tries_no_product_twice(
    two: Machine, monkeypatch: pytest.MonkeyPatch, woken: bool
) -> None:
    """Another command takes the lock after the first product, and holds it for long."""
    eyes = Eyes()
    told: list[str] = []
    watch = running.Watch(two.client, eyes)
    service = running.Service(two.client, lambda where, _: told.append(where), watch, lambda: eyes.running)
    two.kms.down = True
    if woken:
        service.look()
        assert len(two.kms.calls) == 2
        eyes.network = b"office"
        eyes.run(60)
    before = len(two.kms.calls)
    original, steps = Store.writing, iter([True, False, True, True])

    def writing(store: Store) -> Any:
        if not next(steps):
            raise Refused(Refusal("in-use"))
        return original(store)

    monkeypatch.setattr(Store, "writing", writing)
    service.look()
    assert len(two.kms.calls) == before + 1
    assert told[-1] == str(two.home)
    eyes.run(5)
    service.look()
    assert len(two.kms.calls) == before + 2
    first, second = told[before], told[before + 2]
    assert {first, second} == {PRODUCT, OTHER}


# What makes a tick early (K6: network change or resume wakes it)


class Eyes:
    """What the service sees of suspend and network, in a test's hand."""

    def __init__(self) -> None:
        self.running, self.awake, self.network = 1000.0, 900.0, b"home"

    def __call__(self) -> Surface:
        return Surface(self.running, self.awake, self.network)

    def run(self, seconds: float) -> None:
        self.running += seconds
        self.awake += seconds


def test_a_resume_or_another_network_is_noticed_at_most_once_a_minute(service: Service) -> None:
    eyes = Eyes()
    watch = running.Watch(service.machine.client, eyes)
    assert not watch.woken()
    eyes.running += 3600
    assert watch.woken()
    assert not watch.woken()
    eyes.run(59)
    eyes.network = b"office"
    assert not watch.woken(), "a minute has not passed"
    eyes.run(1)
    eyes.network = b"home"
    assert watch.woken()


@pytest.mark.parametrize(
    ("jump", "early"), [(5, False), (6, True), (-5, False), (-6, True), (DAY, True), (-DAY, True)]
)
def test_a_clock_that_is_moved_makes_a_tick_at_the_next_look(tmp_path: Path, jump: int, early: bool) -> None:
    machine = made(tmp_path)
    eyes = Eyes()
    service = running.Service(
        machine.client, lambda *_: None, running.Watch(machine.client, eyes), lambda: eyes.running
    )
    for _ in range(2):
        service.look()
    seen: list[bool] = []

    def facts(lab: bool) -> Facts:
        seen.append(lab)
        return machine.facts

    machine.client.around = machine.around._replace(facts=facts)
    for _ in range(4):
        machine.clock.run(1)
        eyes.run(1)
        service.look()
    assert not seen, "a clock that runs is not moved"
    machine.clock.turn(jump)
    for _ in range(2):
        service.look()
        assert bool(seen) is early
    assert len(seen) == early


def test_a_laboratory_s_clock_that_says_no_time_did_not_move(tmp_path: Path) -> None:
    machine = made(tmp_path)
    now = machine.clock.now

    def no_time() -> int:
        raise ClockInvalid("no time")

    watch = running.Watch(machine.client, Eyes())
    machine.clock.now = no_time  # type: ignore[method-assign]
    assert not watch.clock_moved()
    machine.clock.now = now  # type: ignore[method-assign]
    assert not watch.clock_moved()
    machine.clock.now = no_time  # type: ignore[method-assign]
    assert not running.Watch(machine.client, Eyes()).clock_moved()


def test_a_wake_tries_again_what_did_not_reach_its_host_and_nothing_else(tmp_path: Path) -> None:
    machine = Machine(tmp_path, Publisher())
    machine.install()
    machine.client.set_host(None, HOST)
    service = Service(machine)
    machine.kms.too_few()
    service.tick(at_start=True)
    running.tick(machine.client, service._report, woken=True)
    assert len(machine.kms.checkins) == 1, "the host said what it had to say"
    machine.clock.run(2 * HOUR)
    machine.kms.down = True
    service.tick()
    machine.kms.down = False
    service.tick()
    assert len(machine.kms.checkins) == 1
    running.tick(machine.client, service._report, woken=True)
    assert machine.standing().licensed


def test_the_machine_s_own_clocks_and_routes_are_read(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = running.surface()
    assert found.running > 0
    assert found.awake > 0
    assert not is_another(found, running.surface())
    monkeypatch.setattr(running, "_NETWORK", ("/no/such/file",))
    assert running.surface().network == b""


@pytest.mark.parametrize("change", ["set_host", "install_key", "install", "rearm"])
def test_what_another_command_writes_is_noticed_by_the_next_look(service: Service, change: str) -> None:
    watch = running.Watch(service.machine.client)
    service.tick()
    watch.changed()
    assert not watch.changed()
    client = Client(service.machine.store, service.machine.around)
    if change == "set_host":
        client.set_host(None, HOST)
    elif change == "install_key":
        client.install_key(service.machine.publisher.key().text())
    elif change == "install":
        service.machine.install("com.example.cam")
    else:
        client.rearm()
    assert watch.changed()
    assert not watch.changed()


def test_a_running_service_asks_the_host_that_another_command_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two ticks: here they are an hour apart."""
    machine = Machine(tmp_path, Publisher())
    machine.install()
    service = Service(machine)
    monkeypatch.setattr(running, "TICK", 3600.0)
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}
    ticked = threading.Event()
    original = running.tick

    def tick(*words: Any, **more: Any) -> None:
        original(*words, **more)
        ticked.set()
        if machine.standing().licensed:
            os.kill(os.getpid(), signal.SIGTERM)

    def command() -> None:
        assert ticked.wait(30)
        Client(machine.store, machine.around).set_host(None, HOST)

    monkeypatch.setattr(running, "tick", tick)
    thread = threading.Thread(target=command)
    thread.start()
    try:
        running.run(machine.client, service._report, wait=0.01)
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        thread.join()
    assert machine.standing().reason == "lease"
