"""How often a KMS client calls while something is wrong with it: its clock, its disk, a nonce (K6).

What is wrong with one machine must not become a load on its host: two hours of ticks are two tries at most.
"""

import errno
from pathlib import Path
from typing import Any, NoReturn

import pytest

from client.kms_server import HOST
from client.machine import HandClock, Machine, refused
from client.publisher import EPOCH, PRODUCT, Publisher
from client.service import MINUTE, Service, made
from volact.client import events, running
from volact.client.planning import Surface
from volact.client.store import Store
from volact.protocol.policy import DAY, HOUR
from volact.protocol.problems import Refusal, Unreachable

TICK = 5


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return made(tmp_path)


@pytest.fixture
def leased(machine: Machine) -> Machine:
    machine.client.activate()
    return machine


def pass_(service: Service, seconds: int, *clocks: HandClock, every: int = TICK) -> None:
    """Let time pass as a service sees it: a tick every 5 seconds, or fewer where their number says nothing."""
    for _ in range(seconds // every):
        for clock in (service.machine.clock, *clocks):
            clock.run(every)
        service.tick()


# A clock that runs ahead


@pytest.mark.parametrize(("chance", "asked"), [(0.0, (6475, 6480)), (0.5, (7195, 7200)), (1.0, (7915, 7920))])
def test_a_clock_ahead_of_every_lease_s_end_calls_at_the_retry_interval(
    leased: Machine, chance: float, asked: tuple[int, int]
) -> None:
    """A lease that has ended when it comes does not help, so the next try is a retry."""
    leased.chance = chance
    right = HandClock()
    leased.kms.clock = right.now
    service, before = Service(leased), len(leased.kms.checkins)
    leased.clock.turn(200 * DAY)
    service.tick()
    assert len(leased.kms.checkins) == before + 1
    near = asked[0] // MINUTE * MINUTE
    pass_(service, near, right, every=MINUTE)
    pass_(service, asked[0] - near, right)
    assert len(leased.kms.checkins) == before + 1
    assert leased.standing().reason == "lease-ended"
    pass_(service, asked[1] - asked[0], right)
    assert len(leased.kms.checkins) == before + 2


def test_a_clock_that_is_put_right_is_licensed_at_the_next_try(leased: Machine) -> None:
    """F17."""
    right = HandClock()
    leased.kms.clock = right.now
    service, before = Service(leased), len(leased.kms.checkins)
    leased.clock.turn(200 * DAY)
    pass_(service, 2 * HOUR, right, every=MINUTE)
    assert len(leased.kms.checkins) <= before + 2
    leased.clock.turn(-200 * DAY)
    pass_(service, TICK, right)
    found = leased.standing()
    assert (found.state, found.warn, found.end) == (1, "", leased.clock.wall + 180 * DAY)
    before = len(leased.kms.checkins)
    pass_(service, 2 * HOUR, right, every=MINUTE)
    assert len(leased.kms.checkins) == before


@pytest.mark.parametrize("left", [1, 60, 899, 900, 1799, 1800])
def test_a_clock_almost_at_the_lease_s_end_calls_no_sooner_than_after_a_quarter_of_an_hour(
    leased: Machine, left: int
) -> None:
    right = HandClock()
    leased.kms.clock = right.now
    service, before = Service(leased), len(leased.kms.checkins)
    leased.clock.turn(180 * DAY - left)
    service.tick()
    pass_(service, 895, right)
    assert len(leased.kms.checkins) == before + 1
    pass_(service, TICK, right)
    assert len(leased.kms.checkins) == before + 2


# A clock that comes in doubt (PROTOCOL section 8: renew at once)


@pytest.mark.parametrize("reboot", [False, True])
@pytest.mark.parametrize(
    ("ran", "at"), [(0, 900), (595, 900), (605, 900), (895, 900), (900, 900), (DAY, DAY)]
)
def test_a_clock_that_is_turned_back_is_renewed_once_and_at_once(
    leased: Machine, ran: int, at: int, reboot: bool
) -> None:
    """At the first tick after it, but not within a quarter of an hour of a grant.

    A reboot loses the running time that was not saved yet.
    """
    right = HandClock()
    leased.kms.clock = right.now
    service, before = Service(leased), len(leased.kms.checkins)
    pass_(service, ran, right, every=ran or 1)
    leased.clock.turn(-300 * DAY)
    if reboot:
        leased.clock.off(0)
    service.tick()
    assert len(leased.kms.checkins) == before + (ran >= at)
    rest = at - (0 if reboot and ran < at else ran)
    pass_(service, rest // MINUTE * MINUTE, right, every=MINUTE)
    pass_(service, rest % MINUTE, right)
    assert len(leased.kms.checkins) == before + 1
    pass_(service, 3 * HOUR, right, every=MINUTE)
    assert len(leased.kms.checkins) == before + 1


def test_a_clock_that_is_about_an_hour_behind_does_not_call_in_a_row(leased: Machine) -> None:
    """It was there at the last answer: that it is a second more or less behind is nothing new."""
    right = HandClock()
    leased.kms.clock = right.now
    leased.clock.turn(-HOUR)
    leased.client.activate()
    service, before = Service(leased), len(leased.kms.checkins)
    for number in range(120):
        leased.clock.turn(-1 if number % 2 == 0 else 1)
        pass_(service, MINUTE, right, every=MINUTE)
    assert len(leased.kms.checkins) == before


def test_a_clock_that_jumps_to_and_fro_calls_no_sooner_than_a_quarter_of_an_hour_after_a_grant(
    leased: Machine,
) -> None:
    right = HandClock()
    leased.kms.clock = right.now
    service, before = Service(leased), len(leased.kms.checkins)
    for _ in range(60):
        for jump in (-DAY, DAY):
            leased.clock.turn(jump)
            pass_(service, 30, right, every=30)
    assert len(leased.kms.checkins) - before <= 4


# A disk that is full or read-only


class Disk:
    """A disk that takes nothing more of what one of the store's methods writes."""

    def __init__(self, patch: pytest.MonkeyPatch, *names: str) -> None:
        self._patch, self._names = patch, names
        self.fill()

    def fill(self) -> None:
        def full(*_: Any, **__: Any) -> NoReturn:
            raise OSError(errno.ENOSPC, "No space left on device")

        for name in self._names:
            self._patch.setattr(Store, name, full)

    def free(self) -> None:
        self._patch.undo()


WRITES = pytest.mark.parametrize(
    "names",
    [("write_lease",), ("write_state",), ("write_lease", "write_state")],
    ids=["lease", "state", "both"],
)


@WRITES
@pytest.mark.parametrize("jump", [0, 40 * DAY, -40 * DAY])
def test_a_client_whose_disk_is_full_does_not_call_in_a_row(
    leased: Machine, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], jump: int
) -> None:
    """It rests by running time: no jump of the wall clock starts it again, or keeps it from going on."""
    service = Service(leased)
    leased.clock.run(8 * DAY)
    disk, before = Disk(monkeypatch, *names), len(leased.kms.calls)
    service.tick()
    assert len(leased.kms.calls) == before + 1
    leased.clock.turn(jump)
    pass_(service, 2 * HOUR - MINUTE, every=MINUTE)
    assert len(leased.kms.calls) == before + 1
    leased.clock.turn(-jump)
    disk.free()
    pass_(service, MINUTE, every=MINUTE)
    assert len(leased.kms.calls) == before + 2
    assert leased.record().heard == leased.clock.wall
    assert leased.standing().licensed
    pass_(service, 2 * HOUR, every=MINUTE)
    # A clock that jumped forth and back is in doubt until a fresh answer, which a repeated request has none.
    doubted = jump > 0 and "write_state" not in names
    assert len(leased.kms.calls) == before + 2 + doubted


@WRITES
def test_a_disk_that_stays_full_is_tried_at_the_retry_interval(
    leased: Machine, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    service = Service(leased)
    leased.clock.run(8 * DAY)
    Disk(monkeypatch, *names)
    before = len(leased.kms.calls)
    pass_(service, 6 * HOUR, every=MINUTE)
    assert len(leased.kms.calls) == before + 3


def test_a_command_by_hand_tries_at_once_while_the_service_rests(
    leased: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(leased)
    leased.clock.run(8 * DAY)
    disk = Disk(monkeypatch, "write_lease")
    service.tick()
    before = len(leased.kms.calls)
    with pytest.raises(OSError, match="No space"):
        leased.client.activate()
    assert len(leased.kms.calls) == before + 1
    disk.free()
    leased.client.activate()
    assert leased.standing().end == leased.clock.wall + 180 * DAY


def test_a_refusal_that_cannot_be_noted_rests_too(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """No plan of a next try gets onto the disk, whatever the host says."""
    machine.kms.down = True
    Disk(monkeypatch, "write_state")
    service = Service(machine)
    pass_(service, 2 * HOUR, every=MINUTE)
    assert len(machine.kms.calls) == 1


def test_a_status_list_that_cannot_be_noted_is_not_asked_for_in_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it was asked for is saved at the tick's end, after a failure that is no failure of the disk."""
    machine = Machine(tmp_path, Publisher()).activated(status_check=True)
    service, before = Service(machine), len(machine.authority.list_headers)
    machine.authority.down = True
    machine.clock.run(DAY)
    disk = Disk(monkeypatch, "write_state")
    pass_(service, 2 * HOUR, every=MINUTE)
    assert len(machine.authority.list_headers) == before + 1
    disk.free()
    machine.authority.down = False
    pass_(service, MINUTE, every=MINUTE)
    assert len(machine.authority.list_headers) == before + 2
    pass_(service, 2 * HOUR, every=MINUTE)
    assert len(machine.authority.list_headers) == before + 2


def test_one_product_s_rest_is_not_the_other_s(leased: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    other = "com.example.cam"
    leased.install(other)
    leased.kms.delegate((PRODUCT, other))
    leased.kms.document = leased.kms.host_document()
    leased.client.set_host(other, HOST)
    original = Store.write_lease

    def write_lease(store: Store, granted: Any) -> None:
        if granted.document["prd"] == PRODUCT:
            raise OSError(errno.EROFS, "Read-only file system")
        original(store, granted)

    leased.clock.run(8 * DAY)
    monkeypatch.setattr(Store, "write_lease", write_lease)
    pass_(Service(leased), TICK)
    assert leased.record().heard == EPOCH
    assert leased.record(other).heard == leased.clock.wall


def test_what_asked_nobody_does_not_rest(leased: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be read for a moment: the next tick tries."""
    service = Service(leased)
    leased.clock.run(8 * DAY)
    disk, before = Disk(monkeypatch, "settings"), len(leased.kms.calls)
    pass_(service, TICK)
    assert len(leased.kms.calls) == before
    disk.free()
    pass_(service, TICK)
    assert len(leased.kms.calls) == before + 1


def test_a_machine_that_was_off_does_not_rest(leased: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Running time began anew: what rested before that is over."""
    service = Service(leased)
    leased.clock.run(8 * DAY)
    disk, before = Disk(monkeypatch, "write_lease"), len(leased.kms.calls)
    service.tick()
    disk.free()
    leased.clock.off(60)
    service.tick()
    assert len(leased.kms.calls) == before + 2


# The service's pace


class Eyes:
    """What a service sees of its machine, in a test's hand: time, and the network."""

    def __init__(self) -> None:
        self.seconds, self.network = 1000.0, b"home"

    def __call__(self) -> Surface:
        return Surface(self.seconds, self.seconds, self.network)


@pytest.mark.parametrize("woken", [False, True])
@pytest.mark.parametrize("waited", [0, 20])
def test_a_folder_that_cannot_be_written_is_tried_at_each_tick_and_no_sooner(
    leased: Machine, monkeypatch: pytest.MonkeyPatch, woken: bool, waited: int
) -> None:
    """Ten seconds of looks, twice a second; a wake is one early tick, and holds until a tick gets through.

    So with a lock that is waited for in vain: 5 seconds are left to others after each wait.
    """
    told: list[str] = []
    eyes = Eyes()
    service = running.Service(
        leased.client,
        lambda where, _: told.append(where),
        running.Watch(leased.client, eyes),
        lambda: eyes.seconds,
    )
    service.look()
    assert told == []
    leased.kms.down = True
    leased.clock.run(181 * DAY)  # in need of a lease
    eyes.seconds += 5
    service.look()
    assert told == [PRODUCT]
    leased.kms.down = False
    told.clear()

    def in_vain(_: Store) -> NoReturn:
        eyes.seconds += waited
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "writing", in_vain)
        if woken:
            eyes.network = b"office"
        for _ in range(20):
            eyes.seconds += 0.5
            service.look()
    assert told == [str(leased.home)] * 2
    eyes.seconds += 5
    service.look()
    assert (leased.record().heard == leased.clock.wall) is woken


# A nonce that is refused


def test_a_refused_nonce_is_replaced_at_once_under_the_same_req(machine: Machine) -> None:
    machine.kms.refuse("nonce-refused")
    assert machine.client.activate().standing.licensed
    first, second = machine.kms.checkins
    for name in ("req", "prd", "fp", "prev", "vm"):
        assert first[name] == second[name]
    assert first["nonce"] != second["nonce"]
    assert (len(machine.kms.calls), machine.kms.gets) == (1, 2), "on one connection"
    assert machine.record().checkin is None
    found = [(one["event"], one["result"]) for one in events.read([str(machine.home)])]
    assert found == [(12288, ""), (12289, "nonce-refused"), (12288, ""), (12289, "ok")]


def test_a_second_refusal_of_a_nonce_is_a_refusal(machine: Machine) -> None:
    for _ in range(2):
        machine.kms.refuse("nonce-refused")
    refused("nonce-refused", machine.client.activate)
    assert len(machine.kms.checkins) == 2
    assert machine.record().next_try == EPOCH + 2 * HOUR
    assert machine.record().checkin is None
    machine.client.activate()
    assert machine.kms.checkins[1]["req"] != machine.kms.checkins[2]["req"]


def test_a_host_that_is_gone_after_it_refused_a_nonce_is_asked_again_under_the_same_req(
    machine: Machine,
) -> None:
    machine.kms.refuse("nonce-refused")
    machine.kms.proofs = [machine.kms.proof(), Unreachable(Refusal("host-unreachable"))]
    refused("host-unreachable", machine.client.activate)
    machine.client.activate()
    first, second = machine.kms.checkins
    assert first["req"] == second["req"]


def test_what_is_said_in_place_of_a_second_proof_decides_nothing(machine: Machine) -> None:
    machine.kms.refuse("nonce-refused")
    machine.kms.proofs = [machine.kms.proof(), Refusal("busy", "", (("retry_after", 6 * DAY),))]
    refused("busy", machine.client.activate)
    assert machine.record().next_try == EPOCH + 2 * HOUR


def test_a_lease_after_a_refused_nonce_is_a_fresh_signed_time(machine: Machine) -> None:
    """Its request id was made in this very try (PROTOCOL section 8)."""
    machine.clock.turn(1000 * DAY)
    machine.kms.clock = lambda: EPOCH
    machine.kms.refuse("nonce-refused")
    machine.client.activate()
    machine.clock.turn(-1000 * DAY)
    found = machine.standing()
    assert (found.state, found.warn) == (1, "")
