"""A client whose clock is an hour, a year or an age off: it loses nothing, says so, and one contact heals it (PROTOCOL 8).

A clock that stands beyond a lease's end ends the lease as long as it stands there, and not a second longer. The host's
clock is right. `shift` is how far the client's wall clock is turned, or stands off from the first start on.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from client.machine import HandClock, Machine
from client.publisher import EPOCH, Publisher
from client.service import Service
from volact.client import events
from volact.protocol.policy import DAY, HOUR
from volact.protocol.problems import Refusal

YEAR = 365 * DAY
SHIFTS = {
    "an hour behind": -HOUR,
    "an hour and a second behind": -HOUR - 1,
    "a day behind": -DAY,
    "a year behind": -YEAR,
    "1970": -EPOCH,
    "an hour ahead": HOUR,
    "a day ahead": DAY,
    "a year ahead": YEAR,
    "2038": 2**31 - EPOCH,
    "2106": 2**32 - EPOCH,
}
BEHIND = {name: shift for name, shift in SHIFTS.items() if shift < -HOUR}
AHEAD = {name: shift for name, shift in SHIFTS.items() if shift > 0}


def cases(table: dict[str, int]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("shift", list(table.values()), ids=list(table))


@pytest.fixture
def right() -> HandClock:
    """The host's clock."""
    return HandClock()


@pytest.fixture
def machine(tmp_path: Path, right: HandClock) -> Machine:
    machine = Machine(tmp_path / "home", Publisher())
    machine.kms.clock = right.now
    return machine


def pass_(machine: Machine, right: HandClock, seconds: int) -> None:
    machine.clock.run(seconds)
    right.run(seconds)


def state_after(gone: int) -> int:
    """K7, where so many seconds went by since the grant by the client's clock."""
    return 1 if gone < 180 * DAY else 3 if gone < 210 * DAY else 5


def said(machine: Machine) -> list[tuple[int, str, int | None]]:
    """Number, result and client time of the machine's events so far."""
    return [(one.event, one.result, one.client_time) for one in machine.told]


@cases(SHIFTS)
def test_a_first_start_with_a_wrong_clock_is_activated_and_healed(
    machine: Machine, right: HandClock, shift: int
) -> None:
    machine.clock.turn(shift)
    wrong = machine.clock.wall
    machine.leased()
    assert said(machine) == [(12288, "", wrong), (12289, events.DONE, wrong)]
    assert machine.standing().state == state_after(shift)
    # Put right, or a restart later: nothing of the wrong time is left.
    machine.clock.turn(-shift)
    assert machine.standing().end == right.wall + 180 * DAY
    assert machine.standing().licensed
    machine.clock.off(HOUR)
    right.run(HOUR)
    assert machine.standing().licensed


def turned(machine: Machine, right: HandClock, shift: int) -> tuple[Service, int]:
    """The service of a machine whose clock is turned a day after it got its lease, and what the clock says then."""
    machine.leased()
    service = Service(machine)
    pass_(machine, right, DAY)
    machine.told.clear()
    machine.clock.turn(shift)
    return service, machine.clock.wall


@cases(BEHIND)
def test_f16_turned_back_it_stays_licensed_renews_at_once_and_counts_on(
    machine: Machine, right: HandClock, shift: int
) -> None:
    service, wrong = turned(machine, right, shift)
    assert machine.standing().licensed
    service.tick()
    assert said(machine) == [(12288, "", wrong), (12289, events.DONE, wrong)]
    assert machine.standing().end == right.wall + 180 * DAY
    # Without a contact from here on, the lease ends by running time, whatever the wall clock says.
    machine.kms.down = True
    pass_(machine, right, 180 * DAY - 1)
    assert machine.standing().licensed
    pass_(machine, right, 1)
    assert machine.standing().state == 3


@cases(AHEAD)
def test_f17_turned_ahead_one_contact_puts_everything_right(
    machine: Machine, right: HandClock, shift: int
) -> None:
    service, wrong = turned(machine, right, shift)
    gone = DAY + shift
    assert machine.standing().state == state_after(gone)
    service.tick()
    renewed = [(12288, "", wrong), (12289, events.DONE, wrong)] if gone >= 7 * DAY else []
    assert said(machine) == renewed
    assert machine.standing().state == state_after(shift if renewed else gone)
    machine.clock.turn(-shift)
    assert machine.standing().licensed
    service.tick()
    pass_(machine, right, 8 * DAY)
    service.tick()
    found = machine.standing()
    assert (found.licensed, found.end) == (True, right.wall + 180 * DAY)


@cases(SHIFTS)
@pytest.mark.parametrize("host_is_wrong", [False, True])
def test_without_a_host_it_is_said_each_time_and_no_state_is_worse_than_time_makes_it(
    machine: Machine, right: HandClock, shift: int, host_is_wrong: bool
) -> None:
    """A host whose own clock is wrong says why it proves nothing; one that is away says nothing."""
    machine.leased()
    service = Service(machine)
    pass_(machine, right, 8 * DAY)
    machine.told.clear()
    machine.clock.turn(shift)
    refuse = _refuses(machine) if host_is_wrong else _is_away(machine)
    for _ in range(3):
        refuse()
        service.tick()
        pass_(machine, right, 2 * HOUR + HOUR)
    code = "host-clock-wrong" if host_is_wrong else "host-unreachable"
    assert {(number, result) for number, result, _ in said(machine)} == {(12289, code)}
    machine.kms.down = False
    machine.kms.proofs.clear()
    service.tick()
    assert machine.standing().state == state_after(shift)
    machine.clock.turn(-shift)
    found = machine.standing()
    assert (found.licensed, found.end) == (True, right.wall + 180 * DAY)


def _refuses(machine: Machine) -> Callable[[], None]:
    return lambda: machine.kms.proofs.append(Refusal("host-clock-wrong"))


def _is_away(machine: Machine) -> Callable[[], None]:
    def away() -> None:
        machine.kms.down = True

    return away
