"""The doctor's look at a KMS host's clock: what the machines that called last say of it (D5, PROTOCOL section 8)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from volact.doctor import host
from volact.kmshost import setup
from volact.kmshost import store as sql
from volact.kmshost.setup import Opened

HOUR, DAY = 3600, 86400
WITNESSES = 25
PUB = "A" * 43


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    environ = {"VOLACT_HOME": str(tmp_path)}
    setup.initialise(PUB, [], environ)
    with setup.opened(environ) as found:
        yield found


def called(opened: Opened, machines: int, behind: int, event: int = 12290) -> None:
    """So many machines have called, whose clocks are so many seconds behind the host's."""
    now = opened.clock.now()
    with opened.store.writing() as tx:
        for number in range(machines):
            sql.add_event(tx, sql.Event(now, event, "ok", cmid=f"m{number}", client_time=now - behind))


@pytest.mark.parametrize(
    ("behind", "result"),
    [
        (0, "ok"), (HOUR, "ok"), (-HOUR, "ok"), (HOUR + 1, "warning"), (-HOUR - 1, "warning"),
        (DAY, "warning"), (DAY + 1, "failed"), (-DAY - 1, "failed"),
    ],
)  # fmt: skip
def test_the_median_of_25_machines_says_whether_the_clock_is_right(
    opened: Opened, behind: int, result: str
) -> None:
    called(opened, WITNESSES, behind)
    found = host._clock(opened)
    assert found.result == result
    assert bool(found.next) == (result != "ok")


def test_fewer_than_25_machines_say_nothing(opened: Opened) -> None:
    called(opened, WITNESSES - 1, 400 * DAY)
    called(opened, WITNESSES - 1, 400 * DAY)  # the same machines again are no more
    called(opened, 1, 400 * DAY, event=12291)
    assert host._clock(opened).result == "ok"
    assert "fewer than 25 machines" in host._clock(opened).found


def test_what_a_machine_said_last_is_what_counts(opened: Opened) -> None:
    called(opened, WITNESSES, 400 * DAY)
    called(opened, WITNESSES, 5)
    assert host._clock(opened).result == "ok"
